"""Weights & Biases, and trackio, which is used the same way."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, ClassVar

from ...registry import SINKS, require
from .base import About, Point, Sink


class _Service(Sink):
    """A module with ``init``, ``log`` and ``finish``; steps are a number like any other, under ``step``."""

    module: ClassVar[str]

    def __init__(self) -> None:
        self._service: Any = require(self.module, self.module, f"sink {self.module}")
        self._run: Any = None

    def options(self, run: About) -> dict[str, Any]:
        """What ``init`` is given of a run."""
        return {
            "project": run.project,
            "name": f"{run.name} {run.task} {run.uid}",
            "config": run.config,
        }

    def begin(self, run: About) -> None:
        """Open the run at the service, or go on with it there."""
        self._run = self._service.init(**self.options(run))

    def write(self, points: Sequence[Point]) -> None:
        """One entry for all numbers of a step."""
        for step, group in itertools.groupby(points, key=lambda point: point.step):
            self._log({point.name: point.value for point in group}, step)

    def _log(self, numbers: dict[str, float], step: int) -> None:
        self._run.log({**numbers, "step": step})

    def end(self, status: str) -> None:
        """Let the service send what it has."""
        self._run.finish()


@SINKS.register("wandb")
class WeightsAndBiases(_Service):
    """Weights & Biases; log in with `wandb login`, or set WANDB_MODE=offline."""

    module = "wandb"

    def options(self, run: About) -> dict[str, Any]:
        """Under the run's own name, so that a resumed one goes on; nothing of the terminal is touched."""
        settings = self._service.Settings(console="off", silent=True, login_timeout=5)
        return super().options(run) | {
            "id": run.uid,
            "resume": "allow",
            "group": f"{run.name} {run.task}",
            "dir": str(run.folder),
            "settings": settings,
        }

    def begin(self, run: About) -> None:
        """Open the run; curves are over its own steps, which a resumed run may count back."""
        super().begin(run)
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def end(self, status: str) -> None:
        """With the exit code that says whether the run went well."""
        self._run.finish(exit_code=0 if status == "COMPLETED" else 1)


@SINKS.register("trackio")
class Trackio(_Service):
    """trackio, a dashboard on this machine: `trackio show`."""

    module = "trackio"

    def options(self, run: About) -> dict[str, Any]:
        """trackio knows a run by its name."""
        return super().options(run) | {"resume": "allow", "embed": False}

    def _log(self, numbers: dict[str, float], step: int) -> None:
        self._run.log(numbers, step=step)
