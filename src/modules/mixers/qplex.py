"""Duplex dueling: mixing whose advantages carry weights of their own."""

from __future__ import annotations

from typing import ClassVar

import torch
from einops import rearrange
from pydantic import Field
from torch import Tensor, nn

from ...envs.protocol import EnvSpec
from ...registry import MIXERS, PartConfig
from ..layers.one_hot import one_hot_actions
from ..world_models.base import WorldModel
from .base import Choice, Mixer, seen_by

LEAST = 1e-10
"""No weight is smaller: a best action stays the best one."""


def duplex(q: Tensor, best: Tensor, w: Tensor, b: Tensor, importance: Tensor) -> Tensor:
    """``sum_i V_i + importance_i * A_i`` with ``Q_i = w_i q_i + b_i`` (Wang et al., 2021).

    V_i is Q_i of the agent's best action and ``A_i = Q_i - V_i``, never positive. As in the authors' code no
    gradient passes through the weighted advantages: it reaches q by ``sum_i Q_i``, and the importance by A_i.

    Args:
        q, best: (..., N) values of the chosen and of the best actions. w: (..., N) positive. b: (..., N).
        importance: (..., N) positive.

    Returns:
        (..., 1).
    """
    advantage = (w * (q - best)).detach()
    return (w * q + b + (importance - 1) * advantage).sum(dim=-1, keepdim=True)


@MIXERS.register("qplex")
class QPlexMixer(Mixer):
    """Duplex dueling (Wang et al., 2021): every value function that decentralised greedy acting allows."""

    class Config(PartConfig):
        hypernet_embed: int = Field(64, ge=1, description="hidden width of all networks in it")
        n_head: int = Field(4, ge=1, description="terms the importance of advantages is a sum of")

    reads_state: ClassVar[bool] = True

    def __init__(self, config: Config, spec: EnvSpec, *, world_model: WorldModel) -> None:
        super().__init__()
        N, self.n_actions, self.n_head = spec.n_agents, spec.n_actions, config.n_head
        D = spec.state_dim + world_model.output_dim

        def net(inputs: int, out: int) -> nn.Module:
            hidden = config.hypernet_embed
            return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, out))

        self.weight, self.bias = net(D, N), net(D, N)
        self.keys = net(D, self.n_head)
        self.agents = net(D, self.n_head * N)
        self.actions = net(D + N * self.n_actions, self.n_head * N)

    def forward(self, choice: Choice, state: Tensor, context: Tensor | None = None) -> Tensor:
        """Value of the team (..., 1), see :class:`~phalanx.modules.mixers.base.Mixer`."""
        seen = seen_by(state, context)
        w = self.weight(seen).abs() + LEAST
        importance = self._importance(seen, choice.actions)
        return duplex(choice.q, choice.best, w, self.bias(seen), importance)

    def _importance(self, seen: Tensor, actions: Tensor) -> Tensor:
        """(..., N) positive weights of the agents' advantages, by state and joint action."""
        joint = one_hot_actions(actions + 1, self.n_actions).flatten(-2)  # (..., N A)
        keys = self.keys(seen).abs().unsqueeze(-1) + LEAST  # (..., n_head, 1)
        gates = [
            rearrange(torch.sigmoid(gate), "... (h n) -> ... h n", h=self.n_head)
            for gate in (self.agents(seen), self.actions(torch.cat([seen, joint], dim=-1)))
        ]
        weights: Tensor = (keys * gates[0] * gates[1]).sum(dim=-2)
        return weights
