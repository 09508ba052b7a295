"""What runners and policy-gradient learners need of a policy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from ...data.chunks import Chunks


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
        """Actions for obs (B, N, O) under avail_actions (B, N, A) bool, and the next carry.

        They are (B, N) int64, or (B, N, D) float32 where continuous (A = 0).
        """
        ...

    def metrics(self, t_env: int) -> dict[str, float]:
        """What it reports of itself after ``t_env`` environment steps."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """What a stochastic policy says of steps that were taken; K chunks of C steps.

    F is 1 where actions are discrete and D, their dimensions, where they are continuous.

    Attributes:
        log_prob: (K, C, N, F) of the actions taken.
        entropy: (K, C, N, F) of the distributions they came from.
        carry: (K, C, ...) what the policy remembered before each step.
        values: (K, C, N) where the policy also values what it sees, in the critic's units.
    """

    log_prob: Tensor
    entropy: Tensor
    carry: dict[str, Tensor]
    values: Tensor | None = None


class StochasticPolicy(nn.Module, ABC):
    """A policy that says how likely its actions were: what policy gradients need.

    Attributes:
        recurrent: it remembers earlier steps, so that steps must be evaluated in order.
    """

    recurrent: bool

    @abstractmethod
    def init_carry(
        self, batch_size: int, device: torch.device, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Carry at the start of B episodes; ``generator`` draws what is random in it."""

    @abstractmethod
    def evaluate(self, chunks: Chunks) -> Evaluation:
        """Log-probabilities, entropies and more of the steps in ``chunks``, in one parallel pass."""

    def metrics(self, t_env: int) -> dict[str, float]:
        """Nothing to report."""
        return {}
