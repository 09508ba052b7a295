"""What learners need of a mixer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn


class Choice(NamedTuple):
    """What a team chose, as its agents value it. Leading axes are free."""

    q: Tensor  # (..., N) value of each agent's chosen action
    best: Tensor  # (..., N) value of each agent's best available action, without gradient
    actions: Tensor  # (..., N) int64

    @classmethod
    def of(cls, values: Tensor, avail_actions: Tensor, actions: Tensor) -> Choice:
        """The choice of ``actions`` (..., N) int64.

        Args:
            values: (..., N, A) of every action. avail_actions: (..., N, A) bool.
        """
        best = available(values.detach(), avail_actions).amax(dim=-1)
        return cls(of_actions(values, actions), best, actions)


def of_actions(values: Tensor, actions: Tensor) -> Tensor:
    """``values`` (..., A) of the chosen ``actions`` (...) int64."""
    return values.gather(-1, actions[..., None]).squeeze(-1)


def available(values: Tensor, avail_actions: Tensor) -> Tensor:
    """``values`` (..., A), minus infinity where ``avail_actions`` (..., A) is false."""
    return values.masked_fill(~avail_actions, -torch.inf)


class Mixer(nn.Module, ABC):
    """Value of a team from its agents' values.

    By its form it keeps what decentralised acting relies on (individual-global-max, IGM): where every agent
    takes its best action, no joint action is worth more.

    Attributes:
        reads_state: its value depends on the state it is given.
    """

    reads_state: ClassVar[bool]

    @abstractmethod
    def forward(self, choice: Choice, state: Tensor, context: Tensor | None = None) -> Tensor:
        """Value of the team (..., 1), or (..., N) where agents' values stay apart.

        Args:
            choice: (..., N) each.
            state: (..., S).
            context: (..., C) of the world model, None where C = 0.
        """


def seen_by(state: Tensor, context: Tensor | None) -> Tensor:
    """(..., S + C): ``state`` (..., S) and, where there is one, ``context`` (..., C)."""
    return state if context is None else torch.cat([state, context], dim=-1)
