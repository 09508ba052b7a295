"""Published formats of recorded episodes, read into ours. Nothing that comes in is unpickled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .alberdice import convert_alberdice

CONVERTERS: dict[str, Callable[[Path, Path], None]] = {"alberdice": convert_alberdice}
"""Format -> what reads its folder (first path) into a new dataset (second path)."""
