"""The ground: where one may walk, how high it is, how a path leads on.

All maps are 32 x 32 cells; cell (x, y) covers [x, x+1) x [y, y+1). SMAC's own pathing grid and heights
feed the action mask and the optional observations; walking uses ``ground`` and ``air``, the rectangles
in which a unit's rim must stay. Both terrains in play are such rectangles, so a straight line is a path.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .jit import inner
from .layout import X, Y
from .maps import terrain_rows

SIZE = 32
_Z_LOW = {"small_plateau": 0.0, "pentagon_creep": 0.0}  # other tilesets put the void at z = 1
_Z_MAIN, _Z_HIGH = 8.0, 10.0


class Terrain(NamedTuple):
    """Ground of one map."""

    pathable: NDArray[np.bool_]  # (32, 32) by [x, y]: SMAC's pathing grid
    height: NDArray[np.float64]  # (32, 32) by [x, y]: SMAC's terrain height, 0..1
    ground: NDArray[np.float64]  # (4,): least x, least y, greatest x, greatest y of walkable ground
    air: NDArray[np.float64]  # (4,): the same for flyers


@cache
def load_terrain(name: str) -> Terrain:
    """Read a terrain of the data file."""
    cells, levels = terrain_rows(name)
    pathable = np.zeros((SIZE, SIZE), np.bool_)
    height = np.zeros((SIZE, SIZE))
    for top, (row, level_row) in enumerate(zip(cells, levels, strict=True)):
        y = SIZE - 1 - top
        for x, (cell, level) in enumerate(zip(row, level_row, strict=True)):
            pathable[x, y] = cell in "1x"
            height[x, y] = _height(name, level_row, level, x)
    walkable = np.argwhere(pathable)
    low, high = walkable.min(axis=0), walkable.max(axis=0) + 1
    return Terrain(
        pathable=pathable,
        height=height,
        ground=np.array([low[0], low[1], high[0], high[1]], dtype=np.float64),
        air=np.array([0.0, 0.0, SIZE, SIZE]),
    )


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


@inner
def confine(place: NDArray[np.float64], i: int, rim: float, bounds: NDArray[np.float64]) -> None:
    """Move a unit of radius ``rim`` back inside the bounds."""
    place[X, i] = min(max(place[X, i], bounds[0] + rim), bounds[2] - rim)
    place[Y, i] = min(max(place[Y, i], bounds[1] + rim), bounds[3] - rim)


@inner
def inside(x: int, y: int) -> bool:
    """Whether a cell lies on the map."""
    return 0 <= x < SIZE and 0 <= y < SIZE
