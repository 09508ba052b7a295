"""All copies always play: finished ones restart at once, complete episodes go to the buffer."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from ..registry import RUNNERS, PartConfig
from .base import Runner


@RUNNERS.register("vector")
class VectorRunner(Runner):
    """One step of every environment at a time; no environment waits for another."""

    class Config(PartConfig):
        batch_size_run: int = Field(16, ge=1, description="environments stepped together")

    def collect(self, t_env: int) -> int:
        """One step in every copy."""
        if not self.rollout.started:
            self.rollout.restart(self._all)
        done = self.rollout.step(self._all, t_env, test_mode=False)
        if done.any():
            complete = np.flatnonzero(done & (self.rollout.store.lengths > 0))
            self._buffer.insert(self.rollout.store, complete)
            self.rollout.restart(done)
        return len(self._all)
