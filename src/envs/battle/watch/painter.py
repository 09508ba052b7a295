"""Draws any moment of a trace with Pillow: ground, units, bars, shots, healing, the fallen, a caption."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np

from ....errors import RenderError
from ....registry import require
from ..layout import HEAL
from ..units import AIR, BURST, COLOSSUS, LINE, MISSILE
from .ground import VOID, Color, draw_ground, mix, view_of
from .trace import Trace

LOOPS_PER_SECOND = 22.4  # of the game at the speed people play it

_FINE = 2  # drawn this many times larger and scaled down, for smooth edges
_SIDES: tuple[Color, Color] = ((72, 149, 239), (232, 93, 74))
_SHOTS: tuple[Color, Color] = ((190, 225, 255), (255, 205, 150))
_INK: Color = (14, 16, 20)
_TEXT: Color = (222, 226, 232)
_FAINT: Color = (140, 146, 156)
_SHIELD: Color = (120, 190, 255)
_GREEN: Color = (94, 214, 92)
_YELLOW: Color = (238, 200, 70)
_RED: Color = (226, 62, 54)
_HEALING: Color = (110, 230, 140)
_BURST: Color = (170, 220, 60)
_BEAM: Color = (255, 160, 60)
_RESULT_COLORS = {"won": _HEALING, "lost": _SIDES[1], "drawn": _TEXT, "timeout": _TEXT}
_SIGNS = {
    "Marine": "M",
    "Marauder": "R",
    "Medivac": "+",
    "Stalker": "S",
    "Zealot": "Z",
    "Colossus": "C",
    "Zergling": "L",
    "Baneling": "B",
    "Hydralisk": "H",
    "SpineCrawler": "T",
}

# For how many loops things are seen.
_FLASH, _SLASH, _BEAMS, _BLAST, _FADE = 4, 5, 10, 9, 20
_BLAST_RADIUS = 2.2  # a baneling's
_BEAM_HALF = 1.25  # half the line that a colossus' beams sweep


class Painter:
    """Pictures of one trace.

    Args:
        trace: the episode.
        width: pixels.

    Raises:
        RenderError: a width too small to show anything.
        MissingDependencyError: Pillow is not installed.
    """

    def __init__(self, trace: Trace, width: int = 800) -> None:
        if not 160 <= width <= 4000:
            raise RenderError(f"pictures are 160 to 4000 pixels wide, not {width!r}.")
        self._image = require("PIL.Image", "render", "drawing a battle")
        self._drawing = require("PIL.ImageDraw", "render", "drawing a battle")
        self._fonts = require("PIL.ImageFont", "render", "drawing a battle")
        self.trace = trace
        width -= width % 2
        self._view = view_of(trace, width * _FINE)
        self._line = max(width / 800, 0.6) * _FINE  # one pixel at the usual size
        self._caption = round(27 * self._line)
        self._legend = round(22 * self._line)
        wide, high = width * _FINE, self._caption + self._view.size[1] + self._legend
        self._size = wide, high + (-high) % (2 * _FINE)  # even in the end, as films need it
        self._alive = trace.health > 0
        lived = self._alive.argmin(axis=0)  # first frame without health, 0 for those who never fell
        self._fell = np.where(self._alive.all(axis=0), len(trace.x), lived)
        self._returns = np.concatenate([[0.0], np.cumsum(trace.reward, dtype=np.float64)])

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the pictures, even numbers."""
        return self._size[0] // _FINE, self._size[1] // _FINE

    def paint(self, frame: int) -> Any:
        """The moment after ``frame`` loops as an RGB image.

        Raises:
            RenderError: the episode has no such moment.
        """
        if not 0 <= frame <= self.trace.loops:
            raise RenderError(
                f"no moment {frame}; the trace of {self.trace.map_name} has loops 0 to {self.trace.loops}."
            )
        image = self._background.copy()
        draw = self._drawing.Draw(image, "RGBA")
        shift = self._caption
        order = sorted(
            range(len(self.trace.units)), key=lambda i: _LAYER[self.trace.units[i].plane]
        )
        for i in order:
            if not self._alive[frame, i]:
                self._draw_fallen(draw, i, frame, shift)
        for i in order:
            if self._alive[frame, i]:
                self._draw_healing(draw, i, frame, shift)
        for i in order:
            if self._alive[frame, i]:
                self._draw_unit(draw, i, frame, shift)
        for i in order:
            self._draw_shots(draw, i, frame, shift)
        for i in order:
            if self._alive[frame, i]:
                self._draw_bars(draw, i, frame, shift)
        self._draw_caption(draw, frame)
        return image.reduce(_FINE)

    def busiest(self) -> int:
        """The moment with most going on: shots just fired, while both sides are still there."""
        fired = (self.trace.shot >= 0).sum(axis=1)
        window = np.convolve(fired, np.ones(_FLASH))[: len(fired)]
        return int(window.argmax())

    @cached_property
    def _background(self) -> Any:
        image = self._image.new("RGB", self._size, VOID)
        ground = self._image.new("RGB", self._view.size, VOID)
        draw_ground(self._drawing.Draw(ground), self.trace, self._view)
        image.paste(ground, (0, self._caption))
        self._draw_legend(self._drawing.Draw(image))
        return image

    def _point(self, i: int, frame: int, shift: int) -> tuple[float, float]:
        x, y = self._view.at(float(self.trace.x[frame, i]), float(self.trace.y[frame, i]))
        return x, y + shift

    def _radius(self, i: int) -> float:
        return self.trace.units[i].radius * self._view.scale

    def _draw_unit(self, draw: Any, i: int, frame: int, shift: int) -> None:
        unit = self.trace.units[i]
        x, y = self._point(i, frame, shift)
        r = self._radius(i)
        if unit.plane == AIR:
            _disc(draw, x + 0.25 * r, y + 0.45 * r, r, (0, 0, 0, 70))
        color = _SIDES[unit.enemy]
        rim = mix(color, (255, 255, 255), 0.55) if unit.plane != COLOSSUS else (255, 220, 160)
        alpha = 200 if unit.plane in (AIR, COLOSSUS) else 255  # others may be below
        _disc(draw, x, y, r, (*color, alpha), (*rim, 255), max(1, round(1.3 * self._line)))
        self._draw_sign(draw, unit.type, x, y, r)

    def _draw_sign(self, draw: Any, kind: str, x: float, y: float, r: float) -> None:
        sign = _SIGNS.get(kind, kind[:1])
        if sign == "+":
            arm, thick = 0.55 * r, 0.2 * r
            white = (245, 250, 255)
            draw.rectangle([x - arm, y - thick, x + arm, y + thick], fill=white)
            draw.rectangle([x - thick, y - arm, x + thick, y + arm], fill=white)
            return
        font = self._font(max(8.0, 1.25 * r))
        draw.text((x, y), sign, font=font, fill=_INK, anchor="mm")

    def _draw_fallen(self, draw: Any, i: int, frame: int, shift: int) -> None:
        unit, since = self.trace.units[i], frame - int(self._fell[i])
        x, y = self._point(i, frame, shift)
        r = self._radius(i)
        if unit.delivery == BURST and since < _BLAST:
            share = (since + 1) / _BLAST
            reach = _BLAST_RADIUS * self._view.scale * math.sqrt(share)
            fade = round(150 * (1 - share) + 20)
            _disc(draw, x, y, reach, (*_BURST, fade // 2), (*_BURST, fade), round(2 * self._line))
        color = mix(_SIDES[unit.enemy], _INK, 0.35)
        if since < _FADE:
            left = 1 - since / _FADE
            _disc(draw, x, y, r * (0.75 + 0.25 * left), (*color, round(170 * left)))
        arm = 0.42 * r
        ink = (*mix(color, (255, 255, 255), 0.15), 150)
        width = max(1, round(1.6 * self._line))
        draw.line([x - arm, y - arm, x + arm, y + arm], fill=ink, width=width)
        draw.line([x - arm, y + arm, x + arm, y - arm], fill=ink, width=width)

    def _draw_bars(self, draw: Any, i: int, frame: int, shift: int) -> None:
        unit = self.trace.units[i]
        x, y = self._point(i, frame, shift)
        r = self._radius(i)
        half, high = max(r, 6 * self._line), 2.2 * self._line
        top = y - r - 2.5 * high - (high if unit.shield > 0 else 0)
        share = min(float(self.trace.health[frame, i]) / unit.health, 1.0)
        color = _health_color(share)
        bars = [(share, color)]
        if unit.shield > 0:
            bars.insert(0, (min(float(self.trace.shield[frame, i]) / unit.shield, 1.0), _SHIELD))
        elif unit.energy > 0:
            bars.append(
                (min(float(self.trace.energy[frame, i]) / unit.energy, 1.0), (196, 132, 240))
            )
        for part, fill in bars:
            draw.rectangle([x - half, top, x + half, top + high], fill=(*_INK, 200))
            if part > 0:
                draw.rectangle([x - half, top, x - half + 2 * half * part, top + high], fill=fill)
            top += high + 0.5 * self._line

    def _draw_healing(self, draw: Any, i: int, frame: int, shift: int) -> None:
        trace, target = self.trace, int(self.trace.target[frame, i])
        if frame == 0 or trace.order[frame, i] != HEAL or target < 0:
            return
        gained = trace.health[frame, target] > trace.health[frame - 1, target]
        if not (gained and trace.energy[frame, i] < trace.energy[frame - 1, i] + 0.03):
            return
        start, end = self._point(i, frame, shift), self._point(target, frame, shift)
        draw.line([start, end], fill=(*_HEALING, 90), width=round(4.5 * self._line))
        draw.line([start, end], fill=(*_HEALING, 220), width=max(1, round(1.5 * self._line)))
        _disc(draw, *end, self._radius(target) + 3 * self._line, (*_HEALING, 60), (*_HEALING, 200),
              max(1, round(self._line)))  # fmt: skip

    def _draw_shots(self, draw: Any, i: int, frame: int, shift: int) -> None:
        """What unit i's last shots look like in this moment."""
        unit = self.trace.units[i]
        seen = {MISSILE: 40, LINE: _BEAMS}.get(unit.delivery, max(_FLASH, _SLASH))
        for fired in range(max(frame - seen, 0), frame + 1):
            victim = int(self.trace.shot[fired, i])
            if victim < 0:
                continue
            age = frame - fired
            start = self._point(i, fired, shift)
            if unit.delivery == MISSILE:
                self._draw_missile(draw, i, victim, fired, frame, shift)
            elif unit.delivery == LINE:
                self._draw_beams(draw, i, victim, fired, age, shift)
            elif unit.delivery != BURST:
                end = self._point(victim, fired, shift)
                near = math.dist(start, end) - self._radius(i) - self._radius(victim)
                if near > 1.2 * self._view.scale:
                    self._draw_tracer(draw, i, victim, start, end, age)
                elif age < _SLASH:
                    self._draw_slash(draw, i, victim, start, end, age)

    def _draw_tracer(
        self,
        draw: Any,
        i: int,
        victim: int,
        start: tuple[float, float],
        end: tuple[float, float],
        age: int,
    ) -> None:
        if age >= _FLASH:
            return
        color, left = _SHOTS[self.trace.units[i].enemy], 1 - age / _FLASH
        a = _toward(start, end, self._radius(i))
        b = _toward(end, start, 0.6 * self._radius(victim))
        draw.line([a, b], fill=(*color, round(70 * left)), width=round(3.5 * self._line))
        draw.line([a, b], fill=(*color, round(235 * left)), width=max(1, round(1.3 * self._line)))
        if age == 0:
            _disc(draw, *a, 2.6 * self._line, (255, 255, 255, 230))
        _disc(draw, *b, (2 + age) * self._line, (*color, round(150 * left)))

    def _draw_slash(
        self,
        draw: Any,
        i: int,
        victim: int,
        start: tuple[float, float],
        end: tuple[float, float],
        age: int,
    ) -> None:
        color, left = _SHOTS[self.trace.units[i].enemy], 1 - age / _SLASH
        x, y = _toward(start, end, self._radius(i))
        angle = math.degrees(math.atan2(end[1] - start[1], end[0] - start[0]))
        r = 0.6 * max(self._radius(i), self._radius(victim))
        sweep = 30 + 25 * age
        draw.arc(
            [x - r, y - r, x + r, y + r],
            angle - sweep,
            angle + sweep,
            fill=(*color, round(240 * left)),
            width=max(1, round(2.2 * self._line)),
        )

    def _draw_missile(
        self, draw: Any, i: int, victim: int, fired: int, frame: int, shift: int
    ) -> None:
        start = self._point(i, fired, shift)
        launched = math.dist(start, self._point(victim, fired, shift))
        way = max(launched - self._radius(i) - self._radius(victim), 0.0) / self._view.scale
        flight = max(math.ceil(way / self.trace.units[i].missile_speed), 1)
        age, color = frame - fired, _SHOTS[self.trace.units[i].enemy]
        end = self._point(victim, frame, shift)
        if age <= flight:
            a = _toward(start, end, self._radius(i))
            share = age / flight
            head = (a[0] + (end[0] - a[0]) * share, a[1] + (end[1] - a[1]) * share)
            tail = _toward(head, a, min(0.7 * self._view.scale, math.dist(a, head)))
            draw.line([tail, head], fill=(*color, 150), width=round(2.5 * self._line))
            _disc(draw, *head, 2.8 * self._line, (*color, 110))
            _disc(draw, *head, 1.7 * self._line, (255, 255, 255, 240))
        elif age <= flight + 3:
            left = 1 - (age - flight) / 4
            _disc(draw, *end, (7 - 4 * left) * self._line, (*color, round(130 * left)))

    def _draw_beams(self, draw: Any, i: int, victim: int, fired: int, age: int, shift: int) -> None:
        """Two beams that run along a line across the line of fire, in opposite directions."""
        start, end = self._point(i, fired, shift), self._point(victim, fired, shift)
        length = math.dist(start, end) or 1.0
        across = (-(end[1] - start[1]) / length, (end[0] - start[0]) / length)
        half = _BEAM_HALF * self._view.scale
        left = 1 - age / (_BEAMS + 1)
        share = min(age / 6, 1.0)
        for sign in (1, -1):
            along = sign * half * (1 - 2 * share)
            foot = (end[0] + across[0] * along, end[1] + across[1] * along)
            first = (end[0] + across[0] * sign * half, end[1] + across[1] * sign * half)
            draw.line([first, foot], fill=(*_BEAM, round(200 * left)), width=round(3 * self._line))
            if age <= 6:
                eye = _toward(start, end, 0.5 * self._radius(i))
                draw.line([eye, foot], fill=(*_BEAM, 170), width=max(1, round(1.5 * self._line)))
                _disc(draw, *foot, 3 * self._line, (255, 235, 200, 220))

    def _draw_caption(self, draw: Any, frame: int) -> None:
        trace, pad, middle = self.trace, 10 * self._line, self._caption / 2
        step = min(-(-frame // trace.step_mul), trace.steps)
        seconds = frame / LOOPS_PER_SECOND
        font, small = self._font(13.5 * self._line), self._font(12 * self._line)
        draw.text((pad, middle), trace.map_name, font=font, fill=_TEXT, anchor="lm")
        after = pad + draw.textlength(trace.map_name, font=font) + pad
        words = f"step {step} of at most {trace.limit}    {seconds:.1f} s    return {self._returns[step]:.2f}"
        draw.text((after, middle), words, font=small, fill=_FAINT, anchor="lm")
        right = self._size[0] - pad
        if frame == trace.loops and trace.result != "unfinished":
            color = _RESULT_COLORS[trace.result]
            draw.text((right, middle), trace.result, font=font, fill=color, anchor="rm")
            right -= draw.textlength(trace.result, font=font) + 2 * pad
        for enemy in (1, 0):
            count = sum(
                self._alive[frame, i] for i, u in enumerate(trace.units) if u.enemy == enemy
            )
            draw.text((right, middle), str(count), font=font, fill=_TEXT, anchor="rm")
            right -= draw.textlength(str(count), font=font) + 8 * self._line
            _disc(draw, right, middle, 4.5 * self._line, (*_SIDES[enemy], 255))
            right -= 5 * self._line + pad

    def _draw_legend(self, draw: Any) -> None:
        x, y = 10 * self._line, self._size[1] - self._legend / 2
        font, r = self._font(11 * self._line), 7 * self._line
        for kind in dict.fromkeys(unit.type for unit in self.trace.units):
            _disc(draw, x + r, y, r, _FAINT)
            self._draw_sign(draw, kind, x + r, y, r)
            x += 2 * r + 5 * self._line
            name = _spaced(kind)
            draw.text((x, y), name, font=font, fill=_FAINT, anchor="lm")
            x += draw.textlength(name, font=font) + 14 * self._line
        words = "agents blue, enemies red"
        draw.text((self._size[0] - 10 * self._line, y), words, font=font, fill=_FAINT, anchor="rm")

    def _font(self, size: float) -> Any:
        known: dict[int, Any] = self.__dict__.setdefault("_sizes", {})
        if round(size) not in known:
            known[round(size)] = self._fonts.load_default(round(size))
        return known[round(size)]


_LAYER = {0: 0, COLOSSUS: 1, AIR: 2}  # who is drawn over whom


def _disc(
    draw: Any,
    x: float,
    y: float,
    r: float,
    fill: tuple[int, ...],
    outline: tuple[int, ...] | None = None,
    width: int = 1,
) -> None:
    draw.ellipse([x - r, y - r, x + r, y + r], fill=fill, outline=outline, width=width)


def _toward(
    start: tuple[float, float], end: tuple[float, float], distance: float
) -> tuple[float, float]:
    """The point ``distance`` pixels from start on the way to end."""
    length = math.dist(start, end)
    if length == 0:
        return start
    share = min(distance / length, 1.0)
    return start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share


def _health_color(share: float) -> Color:
    """Green when whole, yellow at half, red near death."""
    if share > 0.5:
        return mix(_YELLOW, _GREEN, 2 * share - 1)
    return mix(_RED, _YELLOW, 2 * share)


def _spaced(name: str) -> str:
    return "".join(f" {c}" if c.isupper() and at else c for at, c in enumerate(name))
