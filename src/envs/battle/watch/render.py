"""Writes traces as GIF, MP4 or PNG."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ....errors import RenderError, did_you_mean
from ....registry import require
from .painter import LOOPS_PER_SECOND, Painter
from .trace import Trace

FORMATS = ("gif", "mp4", "png")

_GIF_EVERY = 2  # loops; few viewers show a GIF faster than this
_GIF_COLORS = 96
_HOLD = 1.5  # seconds the last picture stays


def render(trace: Trace, path: Path | str, *, width: int = 800, step: int | None = None) -> Path:
    """Draw a trace into a file, in the format of its ending; returns its path.

    Args:
        trace: the episode.
        path: ``.gif`` or ``.mp4`` for all of it, ``.png`` for one moment.
        width: pixels.
        step: the env step a PNG shows; without it the busiest moment.

    Raises:
        RenderError: another ending, a step for a film, or one the episode does not have.
        MissingDependencyError: Pillow, or imageio-ffmpeg for an MP4, is not installed (extra ``render``).
    """
    path = Path(path)
    kind = path.suffix[1:].lower()
    if kind not in FORMATS:
        raise RenderError(
            f"cannot draw into {path.name!r}: the ending must be .gif, .mp4 or .png."
            + did_you_mean(kind, FORMATS)
        )
    check_format(kind)
    if step is not None and kind != "png":
        raise RenderError(
            f"step={step} picks the moment of a PNG; a {kind.upper()} shows them all."
        )
    if step is not None and not 0 <= step <= trace.steps:
        raise RenderError(f"no step {step}; the episode has steps 0 to {trace.steps}.")
    painter = Painter(trace, width)
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "png":
        frame = painter.busiest() if step is None else step * trace.step_mul
        painter.paint(frame).quantize(256).save(path, optimize=True)
    elif kind == "gif":
        _write_gif(painter, path)
    else:
        _write_mp4(painter, path)
    return path


def check_format(kind: str) -> None:
    """See before anything is played or drawn whether this format can be written.

    Raises:
        MissingDependencyError: Pillow, or imageio-ffmpeg for an MP4, is not installed (extra ``render``).
    """
    require("PIL.Image", "render", "drawing a battle")
    if kind == "mp4":
        require("imageio_ffmpeg", "render", "writing an MP4")


def _write_gif(painter: Painter, path: Path) -> None:
    last = painter.trace.loops
    frames = [*range(0, last, _GIF_EVERY), last]
    palette = _palette(painter)

    def pictures() -> Iterator[Any]:
        for frame in frames:
            yield painter.paint(frame).quantize(palette=palette, dither=0)

    images = pictures()
    beat = round(100 * _GIF_EVERY / LOOPS_PER_SECOND) * 10  # GIFs count in hundredths of a second
    durations = [beat] * (len(frames) - 1) + [round(1000 * _HOLD)]
    next(images).save(
        path, save_all=True, append_images=images, duration=durations, loop=0, optimize=False
    )


def _palette(painter: Painter) -> Any:
    """One palette for all pictures, from a few moments of the episode."""
    last = painter.trace.loops
    moments = [painter.paint(frame) for frame in {0, last // 2, last, painter.busiest()}]
    wide, high = painter.size
    sheet = moments[0].resize((wide, high * len(moments)))
    for at, moment in enumerate(moments):
        sheet.paste(moment, (0, at * high))
    return sheet.quantize(_GIF_COLORS)


def _write_mp4(painter: Painter, path: Path) -> None:
    ffmpeg = require("imageio_ffmpeg", "render", "writing an MP4")
    writer = ffmpeg.write_frames(
        str(path), painter.size, fps=LOOPS_PER_SECOND, quality=7, macro_block_size=2
    )
    writer.send(None)
    try:
        picture = b""
        for frame in range(painter.trace.loops + 1):
            picture = painter.paint(frame).tobytes()
            writer.send(picture)
        for _ in range(round(_HOLD * LOOPS_PER_SECOND)):
            writer.send(picture)
    finally:
        writer.close()
