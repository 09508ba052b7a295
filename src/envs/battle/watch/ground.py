"""The ground under a battle as a picture."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .trace import Trace

Color = tuple[int, int, int]

VOID: Color = (17, 19, 25)
_FLAT: Color = (58, 63, 72)
_HIGH: Color = (84, 88, 94)
_UNREACHED: Color = (44, 48, 56)
_WALL: Color = (33, 35, 42)
_RIM: Color = (112, 118, 128)
_GRID: Color = (66, 71, 80)
_GRID_EVERY = 4

# Map units around the units, beyond the map's edge, and across at least.
_ROOM, _BORDER, _LEAST = 3.0, 0.5, 14.0
_TALLEST, _WIDEST = 0.75, 2.4  # height over width at most, width over height at most


class View(NamedTuple):
    """What part of the map is shown, and how large.

    ``left`` and ``bottom`` are map units, ``wide`` and ``high`` too; ``scale`` is pixels per map unit.
    """

    left: float
    bottom: float
    wide: float
    high: float
    scale: float

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixel of a point of the map."""
        return (x - self.left) * self.scale, (self.bottom + self.high - y) * self.scale

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return round(self.wide * self.scale), round(self.high * self.scale)


def view_of(trace: Trace, width: float) -> View:
    """Where units were in the episode, with room around them, ``width`` pixels wide."""
    rows, columns = len(trace.cells), len(trace.cells[0])
    left, right = _span(trace.x, columns)
    bottom, top = _span(trace.y, rows)
    wide, high = right - left, top - bottom
    if (lacking := max(high / _TALLEST, _LEAST) - wide) > 0:
        left, wide = left - lacking / 2, wide + lacking
    if (lacking := wide / _WIDEST - high) > 0:
        bottom, high = bottom - lacking / 2, high + lacking
    return View(left, bottom, wide, high, width / wide)


def _span(places: NDArray[np.float32], edge: int) -> tuple[float, float]:
    low, high = float(places.min()), float(places.max())
    return min(max(low - _ROOM, -_BORDER), low - 1), max(
        min(high + _ROOM, edge + _BORDER), high + 1
    )


def draw_ground(draw: Any, trace: Trace, view: View) -> None:
    """Cells, a faint grid, walls and the rim of the walkable ground."""
    cells, levels = trace.cells, trace.levels
    rows, columns = len(cells), len(cells[0])

    def cell(x: int, y: int) -> str:
        inside = 0 <= x < columns and 0 <= y < rows
        return cells[rows - 1 - y][x] if inside else "0"

    for y in range(rows):
        for x in range(columns):
            kind, level = cell(x, y), levels[rows - 1 - y][x]
            if kind == "0" and level == "0":
                continue
            fill = _color(trace, kind, level, x, rows - 1 - y)
            if kind == "d":
                draw.polygon([view.at(*p) for p in ((x, y), (x + 1, y), (x + 1, y + 1), (x, y + 1))],
                             fill=_WALL if level != "0" else VOID)  # fmt: skip
                draw.polygon([view.at(*p) for p in _walkable_half(cell, x, y)], fill=fill)
            else:
                draw.rectangle([view.at(x, y + 1), view.at(x + 1, y)], fill=fill)
    _draw_grid(draw, cell, view, rows, columns)
    line = max(1, round(view.scale / 14))
    for y in range(rows):
        for x in range(columns):
            if cell(x, y) == "d":
                half = _walkable_half(cell, x, y)
                draw.line([view.at(*half[1]), view.at(*half[2])], fill=_RIM, width=line)
            elif cell(x, y) == "1":
                for dx, dy, ends in (
                    (0, 1, ((x, y + 1), (x + 1, y + 1))), (0, -1, ((x, y), (x + 1, y))),
                    (1, 0, ((x + 1, y), (x + 1, y + 1))), (-1, 0, ((x, y), (x, y + 1))),
                ):  # fmt: skip
                    if cell(x + dx, y + dy) in "0x":
                        draw.line([view.at(*p) for p in ends], fill=_RIM, width=line)


def _draw_grid(draw: Any, cell: Any, view: View, rows: int, columns: int) -> None:
    for y in range(rows):
        for x in range(columns):
            if cell(x, y) != "1":
                continue
            if x % _GRID_EVERY == 0:
                draw.line([view.at(x, y), view.at(x, y + 1)], fill=_GRID)
            if y % _GRID_EVERY == 0:
                draw.line([view.at(x, y), view.at(x + 1, y)], fill=_GRID)


def _color(trace: Trace, kind: str, level: str, x: int, row: int) -> Color:
    if kind == "0":
        return _WALL
    if kind == "x":
        return _UNREACHED
    if level == "2":
        return _HIGH
    if level == "r":  # a ramp rises evenly along x between the levels at its ends
        line = trace.levels[row]
        first, last = x, x
        while first > 0 and line[first - 1] == "r":
            first -= 1
        while last + 1 < len(line) and line[last + 1] == "r":
            last += 1
        share = (x + 0.5 - first) / (last + 1 - first)
        if first == 0 or line[first - 1] != "2":
            share = 1 - share
        return mix(_HIGH, _FLAT, share)
    return _FLAT


def _walkable_half(cell: Any, x: int, y: int) -> list[tuple[int, int]]:
    """Corner and diagonal of the walkable half of a ``d`` cell.

    Diagonals come in aligned blocks of two by two cells: one walkable, one blocked, two halves between.
    """
    left, bottom = x - x % 2, y - y % 2
    free = [(a, b) for a in (left, left + 1) for b in (bottom, bottom + 1) if cell(a, b) == "1"]
    free_x, free_y = free[0] if free else (left, bottom)
    right, above = free_x > left, free_y > bottom
    corner = (x + right, y + above)
    return [corner, (x + (not right), y + above), (x + right, y + (not above))]


def mix(one: Color, other: Color, share: float) -> Color:
    """``share`` of the other colour in the one."""
    r, g, b = (round(a + (c - a) * share) for a, c in zip(one, other, strict=True))
    return r, g, b
