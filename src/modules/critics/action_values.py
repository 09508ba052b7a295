"""A critic of actions: what every action of an agent is worth beside what the others do."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from ...envs.protocol import EnvSpec
from ...registry import CRITICS, PartConfig, Widths
from ..layers.one_hot import one_hot_actions
from .base import ActionCritic


@CRITICS.register("action_values")
class ActionValueCritic(ActionCritic):
    """Layers on the state, the agent's observation and everyone's actions (Foerster et al., 2018).

    All agents share them; an agent's own current action is left out, for it has a value for each.
    """

    class Config(PartConfig):
        hidden_dims: Widths = Field([128, 128], description="widths of the layers")

    reads_state = True

    def __init__(self, config: Config, spec: EnvSpec) -> None:
        super().__init__()
        N, self.n_actions = spec.n_agents, spec.n_actions
        inputs = spec.state_dim + spec.obs_dim + 2 * N * self.n_actions + N
        layers: list[nn.Module] = []
        for width in config.hidden_dims:
            layers += [nn.Linear(inputs, width), nn.ReLU()]
            inputs = width
        self.net = nn.Sequential(*layers, nn.Linear(inputs, self.n_actions))
        self.register_buffer("eye", torch.eye(N), persistent=False)

    eye: Tensor

    def forward(self, obs: Tensor, state: Tensor, actions: Tensor, last_actions: Tensor) -> Tensor:
        """Values (M, N, A), see :class:`~phalanx.modules.critics.base.ActionCritic`."""
        M, N = actions.shape
        last = one_hot_actions(last_actions, self.n_actions).flatten(1)
        now = one_hot_actions(actions + 1, self.n_actions)
        # others[m, i, j] is what j does as i sees it: nothing where j is i.
        others = (now[:, None] * (1 - self.eye)[..., None]).flatten(2)  # (M, N, N A)
        shared = torch.cat([state, last], dim=-1)[:, None].expand(M, N, -1)
        seen = torch.cat([shared, obs, others, self.eye.expand(M, N, N)], dim=-1)
        values: Tensor = self.net(seen)
        return values
