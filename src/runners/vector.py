"""All copies always play: finished ones restart at once, complete episodes go to the buffer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pydantic import Field

from ..envs.protocol import Env
from ..modules.policies.base import Policy
from ..registry import RUNNERS, PartConfig
from ..seeding import named_generator
from .rollout import Rollout


@RUNNERS.register("vector")
class VectorRunner:
    """One step of every environment at a time; no environment waits for another."""

    class Config(PartConfig):
        batch_size_run: int = Field(16, ge=1, description="environments stepped together")

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
        self._started = False

    def collect(self, t_env: int) -> int:
        """One step in every copy."""
        if not self._started:
            self.rollout.restart(self._all)
            self._started = True
        done = self.rollout.step(self._all, t_env, test_mode=False)
        if done.any():
            complete = np.flatnonzero(done & (self.rollout.store.lengths > 0))
            self._buffer.insert(self.rollout.store, complete)
            self.rollout.restart(done)
        return len(self._all)

    def state_dict(self) -> dict[str, Any]:
        """The open episodes."""
        return {"started": self._started, "rollout": self.rollout.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state_dict`."""
        self._started = state["started"]
        self.rollout.load_state_dict(state["rollout"])
