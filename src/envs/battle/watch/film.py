"""A recorded battle as the environment protocol has films."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from .render import render
from .trace import Trace


class BattleFilm(NamedTuple):
    """A trace, and the pictures that can be drawn of it; see :class:`phalanx.envs.protocol.Film`."""

    trace: Trace

    def save(self, path: Path) -> Path:
        """Write the trace; returns the file."""
        return self.trace.save(path)

    def render(self, path: Path) -> Path:
        """Draw it into ``path``, in the format of its ending; returns the file."""
        return render(self.trace, path)
