"""Epsilon-greedy exploration."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from ...envs.protocol import EnvSpec
from ...registry import ACTION_SELECTORS, PartConfig


def linear_schedule(start: float, finish: float, anneal_time: int, t: int) -> float:
    """Value at ``t`` on the line from ``start`` to ``finish``, which it keeps from ``anneal_time`` on."""
    return finish + (start - finish) * max(0.0, 1.0 - t / anneal_time)


@ACTION_SELECTORS.register("epsilon_greedy")
class EpsilonGreedy:
    """Best available action, or with probability epsilon a random available one."""

    class Config(PartConfig):
        epsilon_start: float = Field(1.0, ge=0, le=1, description="epsilon at the start")
        epsilon_finish: float = Field(0.05, ge=0, le=1, description="epsilon in the end")
        epsilon_anneal_time: int = Field(
            50_000, ge=1, description="environment steps from start to finish, linear"
        )

    def __init__(self, config: Config, spec: EnvSpec) -> None:
        self._config = config

    def epsilon(self, t_env: int) -> float:
        """Probability of a random action after ``t_env`` environment steps."""
        c = self._config
        return linear_schedule(c.epsilon_start, c.epsilon_finish, c.epsilon_anneal_time, t_env)

    def select(
        self,
        values: Tensor,
        avail_actions: Tensor,
        t_env: int,
        test_mode: bool,
        generator: torch.Generator,
    ) -> Tensor:
        """Actions (B, N) int64 for values (B, N, A) under avail_actions (B, N, A) bool."""
        scores = values
        if not test_mode:
            # One draw for all: the first column decides whether to explore, the largest of the others
            # among available actions is a uniform choice.
            B, N, A = values.shape
            draw = torch.rand(B, N, A + 1, device=values.device, generator=generator)
            explore = draw[..., :1] < self.epsilon(t_env)
            scores = torch.where(explore, draw[..., 1:], values)
        return scores.masked_fill(~avail_actions, -torch.inf).argmax(dim=-1)

    def metrics(self, t_env: int) -> dict[str, float]:
        """The current epsilon."""
        return {"epsilon": self.epsilon(t_env)}
