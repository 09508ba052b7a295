"""PyMARL's way: play ``batch_size_run`` whole episodes, then learn."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from ..registry import RUNNERS, PartConfig
from .base import PlayingRunner
from .rollout import play_episodes


@RUNNERS.register("episode")
class EpisodeRunner(PlayingRunner):
    """Whole episodes: every copy plays one, the early ones wait for the last."""

    class Config(PartConfig):
        batch_size_run: int = Field(1, ge=1, le=65_536, description="environments stepped together")

    def collect(self, t_env: int) -> int:
        """One episode in every copy."""
        steps = play_episodes(self.rollout, self._all, t_env, test_mode=False)
        self._buffer.insert(self.rollout.store, np.flatnonzero(self.rollout.store.lengths > 0))
        return steps
