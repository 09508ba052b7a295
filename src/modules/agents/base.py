"""What policies, learners and world models need of an agent's network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn


class AgentOutput(NamedTuple):
    """What an agent makes of a sequence."""

    values: Tensor  # (B, T, N, A), of every action
    hidden: Tensor  # (B, T, N, H), all that the agent remembers
    carry: Tensor  # (B, N, H), hidden state after the last entry of each sequence


class Agent(nn.Module, ABC):
    """Network of one agent, its weights shared by the N agents of the team.

    Attributes:
        hidden_dim: H, width of what the agent remembers.
        frames: observations it is given at once, the present one and those before it, side by side, oldest
            first.
    """

    hidden_dim: int
    frames: int = 1

    @abstractmethod
    def init_carry(self, batch_size: int, device: torch.device) -> Tensor:
        """(B, N, H) zeros: nothing remembered."""

    @abstractmethod
    def forward(
        self,
        obs: Tensor,
        last_actions: Tensor,
        carry: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> AgentOutput:
        """Run over sequences; acting is the same with T = 1 and the carry of the step before.

        Args:
            obs: (B, T, N, O), or (B, T, N, frames * O).
            last_actions: (B, T, N) int64, action before each entry plus one, 0 where there was none.
            carry: (B, N, H) hidden state before the first entry, default zeros.
            lengths: (B,) entries of each sequence, on the CPU; the others come out as zeros and cost
                nothing. Default: all T.
        """

    @abstractmethod
    def head(self, hidden: Tensor) -> Tensor:
        """Action values (..., A) of hidden states (..., H)."""
