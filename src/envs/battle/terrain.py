"""The ground: where one may walk, how high it is, how a path leads on.

All maps are 32 x 32 cells; cell (x, y) covers [x, x+1) x [y, y+1). SMAC's own pathing grid and heights
feed the action mask and the optional observations. Bodies are round and keep their rims off the walls.
Most terrains are convex octagons, where that takes a few comparisons and every straight line is a path;
the others have walls, cell by cell, and a table of the next corner to walk to.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .jit import inlined, inner
from .maps import terrain_rows

SIZE = 32
_Z_LOW = {"small_plateau": 0.0, "pentagon_creep": 0.0}  # other tilesets put the void at z = 1
_Z_MAIN, _Z_HIGH = 8.0, 10.0

PATHABLE, HEIGHT = 0, 1  # layers of a terrain: SMAC's pathing grid and terrain height
Terrain = NDArray[np.float64]  # (2, 32, 32) by [layer, x, y]

FREE, WALL = 0, 1  # what a cell is to walkers
# A diagonal cell is blocked in one corner: x to the left or right, y below or above.
LEFT_BELOW, RIGHT_BELOW, LEFT_ABOVE, RIGHT_ABOVE = 2, 3, 4, 5
WALKERS, CLIMBERS = 0, 1  # ground units; colossi, who cross cliffs but not the void

STRAIGHT = 255  # in Ground.hops: no wall between
PATH_CLEARANCE = 0.4  # a line nearer to a wall than this, and than both its ends, is no path
_SAMPLE_STEP = 0.5  # along such a line
_HALF_DIAGONAL = math.sqrt(0.5)
# Unit vector from the middle of a diagonal cell toward its blocked corner, by kind of cell.
_BLOCKED_SIDE = np.array([[0, 0], [0, 0], [-1, -1], [1, -1], [-1, 1], [1, 1]]) * _HALF_DIAGONAL


class Ground(NamedTuple):
    """Walls and paths of a terrain. Where it is convex, arrays are empty and not looked at."""

    walls: NDArray[np.int8]  # (2, 34, 34) by [walker, x + 1, y + 1]: FREE, WALL or a diagonal
    clear: NDArray[np.bool_]  # (2, 34, 34): no wall in this cell or the eight around it
    hops: NDArray[np.uint8]  # (1024, 1024) by [goal cell, own cell]: row of stops, or STRAIGHT
    stops: NDArray[np.float64]  # (stops, 2): points next to the corners that paths turn at


class Outline(NamedTuple):
    """Smallest octagon around the walkable ground: bounds of x, y, x + y and x - y."""

    left: float
    right: float
    bottom: float
    top: float
    low_sum: float
    high_sum: float
    low_difference: float
    high_difference: float
    convex: bool  # whether all of the octagon is walkable


@cache
def load_terrain(name: str) -> Terrain:
    """Read a terrain of the data file."""
    cells, levels = terrain_rows(name)
    terrain = np.zeros((2, SIZE, SIZE))
    for top, (row, level_row) in enumerate(zip(cells, levels, strict=True)):
        y = SIZE - 1 - top
        for x, (cell, level) in enumerate(zip(row, level_row, strict=True)):
            terrain[PATHABLE, x, y] = cell in "1x"
            terrain[HEIGHT, x, y] = _height(name, level_row, level, x)
    return terrain


def _height(name: str, row: str, level: str, x: int) -> float:
    """SMAC's terrain height of a cell: the game's height byte (127 + 8 z) over 255."""
    z = {"0": _Z_LOW.get(name, 1.0), "1": _Z_MAIN, "2": _Z_HIGH}.get(level)
    if z is None:  # a ramp rises evenly along x, between the main level and the high ground
        first, last = x, x
        while row[first - 1] == "r":
            first -= 1
        while row[last + 1] == "r":
            last += 1
        share = (x + 0.5 - first) / (last + 1 - first)
        z = _Z_MAIN + (_Z_HIGH - _Z_MAIN) * (share if row[first - 1] == "1" else 1.0 - share)
    return round(127 + 8 * z) / 255


@cache
def outline(name: str) -> Outline:
    """The octagon around a terrain's walkable ground, and whether it is all walkable."""
    walls = _walls(name)
    corners = []
    for left, bottom in np.argwhere(walls != WALL):
        for right, above, blocked in (
            (0, 0, LEFT_BELOW), (1, 0, RIGHT_BELOW), (0, 1, LEFT_ABOVE), (1, 1, RIGHT_ABOVE),
        ):  # fmt: skip
            if walls[left, bottom] != blocked:
                corners.append((left + right, bottom + above))
    at = np.array(corners, dtype=np.float64)
    total, difference = at[:, 0] + at[:, 1], at[:, 0] - at[:, 1]
    bounds = [f for v in (at[:, 0], at[:, 1], total, difference) for f in (v.min(), v.max())]
    px, py = np.argwhere(walls == WALL).T + 0.5
    inside = np.ones(len(px), np.bool_)
    values = (px, py, px + py, px - py)
    for value, low, high in zip(values, bounds[::2], bounds[1::2], strict=True):
        inside &= (value > low) & (value < high)
    names = Outline._fields[: len(bounds)]
    return Outline(convex=not inside.any(), **dict(zip(names, map(float, bounds), strict=True)))


def _walls(name: str) -> NDArray[np.int8]:
    """What each cell (32, 32) by [x, y] is to ground units. Ground nobody can reach is a wall."""
    cells = terrain_rows(name)[0]
    kind = np.array([list(row) for row in cells])[::-1].T
    walls = np.where(kind == "1", FREE, WALL).astype(np.int8)
    for x, y in np.argwhere(kind == "d"):
        # Of the aligned block of four cells, two are diagonal, one is walkable and one blocked.
        left, bottom = x - x % 2, y - y % 2
        block = kind[left : left + 2, bottom : bottom + 2]
        free_x, free_y = np.argwhere(block == "1")[0]
        walls[x, y] = LEFT_BELOW + (1 - free_x) + 2 * (1 - free_y)
    return walls


def _climbers_walls(name: str, walls: NDArray[np.int8]) -> NDArray[np.int8]:
    """The walls for colossi: cliffs within the map are none to them, only what borders the void."""
    levels = np.array([list(row) for row in terrain_rows(name)[1]])[::-1].T
    land = np.pad(levels != "0", 1)
    inland = np.all([land[x : x + SIZE, y : y + SIZE] for x in range(3) for y in range(3)], axis=0)
    return np.where((walls == WALL) & inland, FREE, walls).astype(np.int8)


@cache
def load_ground(name: str) -> Ground:
    """Walls and paths of a terrain."""
    if outline(name).convex:
        nothing = np.zeros((0, 0, 0))
        return Ground(
            nothing.astype(np.int8), nothing.astype(np.bool_),
            np.zeros((0, 0), np.uint8), np.zeros((0, 2)),
        )  # fmt: skip
    walkers = _walls(name)
    kinds = (walkers, _climbers_walls(name, walkers))
    walls = np.stack([np.pad(kind, 1, constant_values=WALL) for kind in kinds])
    solid = np.pad(walls != FREE, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    around = [solid[:, x : x + SIZE + 2, y : y + SIZE + 2] for x in range(3) for y in range(3)]
    clear = ~np.any(around, axis=0)
    hops, stops = _plan(walls[WALKERS])
    return Ground(walls, clear, hops, stops)


def _plan(walls: NDArray[np.int8]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Next stop for every pair of cells, along shortest paths by way of the corners.

    A cell stands for all points in it: a unit that scrapes a corner on its way slides along.
    """
    inner_walls = walls[1:-1, 1:-1]
    cells = np.argwhere(inner_walls != WALL)
    points = cells + np.float64(0.5)
    kinds = inner_walls[tuple(cells.T)]
    points -= np.sign(_BLOCKED_SIDE[kinds]) / 6  # centroid of a diagonal cell's walkable half
    turns = _turning_cells(walls)
    stop_of = np.flatnonzero([turns[x, y] for x, y in cells])
    sees = _lines_of_walk(walls, points)
    apart = np.hypot(*(points[:, None] - points).transpose(2, 0, 1))
    direct = np.where(sees, apart, np.inf)
    length = direct[np.ix_(stop_of, stop_of)]
    for k in range(len(stop_of)):
        length = np.minimum(length, length[:, k : k + 1] + length[k : k + 1])
    onward = np.full((len(stop_of), len(cells)), np.inf)  # from each stop to each cell
    for k in range(len(stop_of)):
        onward = np.minimum(onward, length[:, k : k + 1] + direct[stop_of[k]])
    numbers = np.full((len(cells), len(cells)), STRAIGHT, np.uint8)
    for own in range(len(cells)):
        toward = direct[own, stop_of].copy()
        toward[stop_of == own] = np.inf
        first = (toward[:, None] + onward).argmin(axis=0)
        numbers[:, own] = np.where(sees[own], STRAIGHT, first)
    # Who is off the walkable ground counts as in the walkable cell nearest to it.
    every = np.argwhere(np.ones_like(inner_walls)) + 0.5
    nearest = np.hypot(*(every[:, None] - points).transpose(2, 0, 1)).argmin(axis=1)
    return numbers[np.ix_(nearest, nearest)], points[stop_of]


def _turning_cells(walls: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Walkable cells (32, 32) that touch a corner of a wall around which a path may turn."""
    turns = np.zeros((SIZE, SIZE), np.bool_)
    # Eighths of the circle around a lattice point, counterclockwise, two per cell.
    for x in range(1, SIZE):
        for y in range(1, SIZE):
            solid = []
            for dx, dy, first, second, both in (
                (0, 0, RIGHT_BELOW, LEFT_ABOVE, LEFT_BELOW),
                (-1, 0, RIGHT_ABOVE, LEFT_BELOW, RIGHT_BELOW),
                (-1, -1, LEFT_ABOVE, RIGHT_BELOW, RIGHT_ABOVE),
                (0, -1, LEFT_BELOW, RIGHT_ABOVE, LEFT_ABOVE),
            ):
                kind = walls[x + dx + 1, y + dy + 1]
                solid += [kind in (WALL, both, first), kind in (WALL, both, second)]
            if 0 < sum(solid) < 4:
                for dx in (-1, 0):
                    for dy in (-1, 0):
                        turns[x + dx, y + dy] |= walls[x + dx + 1, y + dy + 1] == FREE
    return turns


def _lines_of_walk(walls: NDArray[np.int8], points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether one can walk straight between points (P, 2): (P, P)."""
    fine = 8  # samples per cell of the distances to the walls
    at = (np.arange(SIZE * fine) + 0.5) / fine
    distance = np.full((len(at), len(at)), np.inf)
    for x, y in np.argwhere(walls != FREE):
        near = slice(max(int(x) - 3, 0) * fine, (int(x) + 2) * fine)
        near_y = slice(max(int(y) - 3, 0) * fine, (int(y) + 2) * fine)
        px, py = np.meshgrid(at[near], at[near_y], indexing="ij")
        away = _distance(px, py, int(x) - 1, int(y) - 1, int(walls[x, y]))
        distance[near, near_y] = np.minimum(distance[near, near_y], away)
    sees = np.ones((len(points), len(points)), np.bool_)
    for a, start in enumerate(points):
        line = points[a:] - start
        steps = int(np.hypot(line[:, 0], line[:, 1]).max() / _SAMPLE_STEP) + 2
        share = np.linspace(0.0, 1.0, steps)
        sample = start + share[:, None, None] * line  # (steps, P - a, 2)
        cell = (sample * fine).astype(int)
        away = distance[cell[..., 0], cell[..., 1]]
        needed = np.minimum(PATH_CLEARANCE, 0.6 * np.minimum(away[0], away[-1]))
        sees[a, a:] = (away >= needed).all(axis=0)
        sees[a:, a] = sees[a, a:]
    return sees


def _distance(
    x: NDArray[np.float64], y: NDArray[np.float64], left: int, bottom: int, kind: int
) -> NDArray[np.float64]:
    """Distance of points to the blocked part of the cell at (left, bottom), 0 inside it."""
    px, py = x - left - 0.5, y - bottom - 0.5
    to_cell = np.hypot(np.maximum(np.abs(px) - 0.5, 0.0), np.maximum(np.abs(py) - 0.5, 0.0))
    if kind == WALL:
        return to_cell
    nx, ny = _BLOCKED_SIDE[kind]
    out = -(px * nx + py * ny)
    beyond = np.maximum(np.abs(py * nx - px * ny) - _HALF_DIAGONAL, 0.0)
    return np.where(out > 0, np.hypot(out, beyond), to_cell)


@inner
def off_walls(
    x: float, y: float, rim: float, walker: int, ground: Ground
) -> tuple[float, float, bool]:
    """The place nearest (x, y) where a body of this radius (below 1) is clear of the walls.

    The last value is false where there is none nearby: the middle of the body is in a wall.
    """
    for _ in range(3):
        cell_x = min(max(int(x), 0), SIZE - 1) + 1
        cell_y = min(max(int(y), 0), SIZE - 1) + 1
        if ground.clear[walker, cell_x, cell_y]:
            return x, y, True
        least, out_x, out_y = rim * rim, 0.0, 0.0
        for ax in range(cell_x - 1, cell_x + 2):
            for ay in range(cell_y - 1, cell_y + 2):
                kind = ground.walls[walker, ax, ay]
                if kind == FREE:
                    continue
                # (dx, dy): from the nearest point of the wall to the middle of the body
                if kind == WALL:
                    dx = x - min(max(x, ax - 1.0), float(ax))
                    dy = y - min(max(y, ay - 1.0), float(ay))
                else:
                    nx, ny = _BLOCKED_SIDE[kind, 0], _BLOCKED_SIDE[kind, 1]
                    px, py = x - ax + 0.5, y - ay + 0.5
                    along = py * nx - px * ny
                    if px * nx + py * ny >= 0.0:
                        if abs(px) < 0.5 and abs(py) < 0.5:
                            return x, y, False
                        if abs(along) < _HALF_DIAGONAL:
                            continue  # behind it, where its straight sides border on walls
                    along = min(max(along, -_HALF_DIAGONAL), _HALF_DIAGONAL)
                    dx, dy = px + along * ny, py - along * nx
                square = dx * dx + dy * dy
                if square < least:
                    least, out_x, out_y = square, dx, dy
        if least >= rim * rim:
            return x, y, True
        if least <= 0.0:
            return x, y, False
        apart = math.sqrt(least)
        x += out_x * (rim / apart - 1.0)
        y += out_y * (rim / apart - 1.0)
    return x, y, True


@inlined
def cell_number(x: float, y: float) -> int:
    """Place of the cell around a point in the path table; points off the map count as inside."""
    return min(max(int(x), 0), SIZE - 1) * SIZE + min(max(int(y), 0), SIZE - 1)


@inlined
def inside(x: int, y: int) -> bool:
    """Whether a cell lies on the map."""
    return 0 <= x < SIZE and 0 <= y < SIZE
