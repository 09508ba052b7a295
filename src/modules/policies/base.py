"""What a runner needs of a policy."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Policy(Protocol):
    """Acts for a team, step by step, with state carried from step to step.

    The carry is a dict of tensors whose leading axis is B; zeros are the start of an episode, so a runner
    restarts a row by writing zeros.
    """

    def init_carry(self, batch_size: int, device: torch.device) -> dict[str, Tensor]:
        """Carry at the start of B episodes."""
        ...

    def act(
        self,
        obs: Tensor,
        avail_actions: Tensor,
        carry: dict[str, Tensor],
        t_env: int,
        test_mode: bool,
        generator: torch.Generator,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Actions (B, N) for obs (B, N, O) under avail_actions (B, N, A) bool, and the next carry."""
        ...
