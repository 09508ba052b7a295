"""TensorBoard's event files, in the run's folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from typing import Any

from ...registry import SINKS, require
from .base import About, Point, Sink


@SINKS.register("tensorboard")
class TensorBoard(Sink):
    """Event files in tensorboard/ of the run's folder: `tensorboard --logdir results/runs`."""

    replays = True

    def __init__(self) -> None:
        module = require("torch.utils.tensorboard", "tensorboard", "sink tensorboard")
        self._writer_of: Any = module.SummaryWriter
        self._writer: Any = None

    def begin(self, run: About) -> None:
        """Start files of one's own; what an earlier part of the run wrote is written again."""
        folder = run.folder / "tensorboard"
        shutil.rmtree(folder, ignore_errors=True)
        self._writer = self._writer_of(str(folder))
        config = json.dumps(run.config, indent=1, sort_keys=True)
        self._writer.add_text("config", "\n".join(f"    {line}" for line in config.splitlines()), 0)

    def write(self, points: Sequence[Point]) -> None:
        """One scalar for each point."""
        for point in points:
            self._writer.add_scalar(point.name, point.value, point.step, walltime=point.time)
        self._writer.flush()

    def end(self, status: str) -> None:
        """Close the files."""
        self._writer.close()
