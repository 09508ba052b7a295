"""PyMARL's way: play ``batch_size_run`` whole episodes, then learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pydantic import Field

from ..envs.protocol import Env
from ..modules.policies.base import Policy
from ..registry import RUNNERS, PartConfig
from ..seeding import named_generator
from .rollout import Rollout, play_episodes


@RUNNERS.register("episode")
class EpisodeRunner:
    """Whole episodes: every copy plays one, the early ones wait for the last."""

    class Config(PartConfig):
        batch_size_run: int = Field(1, ge=1, description="environments stepped together")

    def __init__(
        self,
        config: Config,
        *,
        env: Env,
        policy: Policy,
        buffer: Any,
        seed: int,
        device: torch.device,
        optional_fields: frozenset[str],
    ) -> None:
        generator = named_generator(seed, "act", device)
        self.rollout = Rollout(env, policy, generator, device, optional_fields)
        self._buffer = buffer
        self._all = np.ones(env.num_envs, bool)

    def collect(self, t_env: int) -> int:
        """One episode in every copy."""
        steps = play_episodes(self.rollout, self._all, t_env, test_mode=False)
        self._buffer.insert(self.rollout.store, np.flatnonzero(self.rollout.store.lengths > 0))
        return steps

    def state_dict(self) -> dict[str, Any]:
        """No episode is open between two calls; counters and generators are."""
        return {"rollout": self.rollout.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state_dict`."""
        self.rollout.load_state_dict(state["rollout"])
