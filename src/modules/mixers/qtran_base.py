"""The joint networks of QTRAN: not a mixing of agents' values, but what these are fitted to."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from ...envs.protocol import EnvSpec
from ...registry import MIXERS, PartConfig
from ..agents.base import Agent
from ..layers.one_hot import one_hot_actions
from ..world_models.base import WorldModel
from .base import seen_by


@MIXERS.register("qtran_base")
class QTRANBase(nn.Module):
    """Unrestricted joint action value and state value, for learner qtran (QTRAN-base, Son et al., 2019).

    It is no :class:`~phalanx.modules.mixers.base.Mixer`: that agents' best actions are the team's comes of
    the learner's losses, not of its form.
    """

    class Config(PartConfig):
        mixing_embed_dim: int = Field(64, ge=1, description="width of the joint networks")

    reads_state: ClassVar[bool] = True

    def __init__(
        self, config: Config, spec: EnvSpec, *, agent: Agent, world_model: WorldModel
    ) -> None:
        super().__init__()
        self.n_actions = spec.n_actions
        E, D = config.mixing_embed_dim, spec.state_dim + world_model.output_dim
        inner = agent.hidden_dim + spec.n_actions

        def net(inputs: int) -> nn.Module:
            return nn.Sequential(
                nn.Linear(inputs, E), nn.ReLU(), nn.Linear(E, E), nn.ReLU(), nn.Linear(E, 1)
            )

        self.encoder = nn.Sequential(nn.Linear(inner, inner), nn.ReLU(), nn.Linear(inner, inner))
        self.joint, self.of_state = net(D + inner), net(D)

    def forward(
        self, hidden: Tensor, actions: Tensor, state: Tensor, context: Tensor | None = None
    ) -> Tensor:
        """Q_jt (..., 1), of any joint action whatever agents think of it.

        Args:
            hidden: (..., N, H) what agents remember. actions: (..., N) int64. state: (..., S).
            context: (..., C) of the world model, None where C = 0.
        """
        pairs = torch.cat([hidden, one_hot_actions(actions + 1, self.n_actions)], dim=-1)
        team = self.encoder(pairs).sum(dim=-2)
        q_jt: Tensor = self.joint(torch.cat([seen_by(state, context), team], dim=-1))
        return q_jt

    def value(self, state: Tensor, context: Tensor | None = None) -> Tensor:
        """V_jt (..., 1), which makes up for what agents do not see."""
        v_jt: Tensor = self.of_state(seen_by(state, context))
        return v_jt
