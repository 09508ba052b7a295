"""What all runners share: a policy playing in a batch of environments, and where episodes go."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..data.buffer import Buffer
from ..envs.protocol import Env
from ..modules.policies.base import Policy
from ..registry import PartConfig
from ..seeding import named_generator
from .rollout import Rollout


class Runner:
    """Collects experience and files finished episodes in the buffer."""

    def __init__(
        self,
        config: PartConfig,
        *,
        env: Env,
        policy: Policy,
        buffer: Buffer,
        seed: int,
        device: torch.device,
        optional_fields: frozenset[str],
    ) -> None:
        generator = named_generator(seed, "act", device)
        self.rollout = Rollout(
            env, policy, generator, device, optional_fields, keep_carry=buffer.takes_pieces
        )
        self._buffer = buffer
        self._all = np.ones(env.num_envs, bool)

    def collect(self, t_env: int) -> int:
        """Play on from environment step ``t_env``; returns how many steps (over all copies) were taken."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Open episodes, counters and generators."""
        return {"rollout": self.rollout.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state_dict`."""
        self.rollout.load_state_dict(state["rollout"])
