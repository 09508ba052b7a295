"""The ground: where one may walk, how high it is, how a path leads on.

All maps are 32 x 32 cells; cell (x, y) covers [x, x+1) x [y, y+1). SMAC's own pathing grid and heights
feed the action mask and the optional observations. The terrains in play are open rectangles: a unit's
rim must stay inside, and a straight line is a path.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from .jit import inlined
from .maps import terrain_rows

SIZE = 32
_Z_LOW = {"small_plateau": 0.0, "pentagon_creep": 0.0}  # other tilesets put the void at z = 1
_Z_MAIN, _Z_HIGH = 8.0, 10.0


PATHABLE, HEIGHT = 0, 1  # layers of a terrain: SMAC's pathing grid and terrain height
Terrain = NDArray[np.float64]  # (2, 32, 32) by [layer, x, y]


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


def walking_bounds(name: str) -> tuple[float, float, float, float]:
    """Least x, least y, greatest x and greatest y of the walkable ground."""
    walkable = np.argwhere(load_terrain(name)[PATHABLE] == 1)
    low, high = walkable.min(axis=0), walkable.max(axis=0) + 1
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


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


@inlined
def inside(x: int, y: int) -> bool:
    """Whether a cell lies on the map."""
    return 0 <= x < SIZE and 0 <= y < SIZE
