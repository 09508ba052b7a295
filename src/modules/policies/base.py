"""What a runner needs of a policy."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Policy(Protocol):
    """Acts for a team, step by step, with state carried from step to step.

    The carry is a dict of tensors whose leading axis is B; a runner restarts a row by writing into it what
    :meth:`init_carry` gives.
    """

    def init_carry(
        self, batch_size: int, device: torch.device, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Carry at the start of B episodes; ``generator`` draws what is random in it."""
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
        """Actions (B, N), or (B, N, D) where continuous, for obs (B, N, O) under avail_actions (B, N, A) bool, and the next carry."""
        ...

    def metrics(self, t_env: int) -> dict[str, float]:
        """What it reports of itself after ``t_env`` environment steps."""
        ...
