"""Critics of IPPO and MAPPO: layers on the state, the own observation, or both."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ...envs.protocol import EnvSpec
from ...registry import CRITICS, PartConfig
from ..layers.normed import Activation, linear, normed_mlp
from ..layers.one_hot import with_agent_id
from .base import Critic


@CRITICS.register("normed")
class NormedCritic(Critic):
    """Layers with layer norms on what ``see_*`` says, shared by all agents (Yu et al., 2022).

    It has no memory. Of a dead agent it sees zeros and who it is (death masking). With the state alone
    there is one value for the team, else one for each agent.
    """

    class Config(PartConfig):
        see_state: bool = Field(True, description="the critic sees the global state")
        see_obs: bool = Field(True, description="it sees the agent's own observation")
        see_agent_id: bool = Field(True, description="it sees which agent it judges")
        hidden_dims: list[int] = Field([64, 64], min_length=1, description="widths of the layers")
        activation: Activation = Field("relu", description="behind every layer: relu | gelu")

        @model_validator(mode="after")
        def _sees_something(self) -> NormedCritic.Config:
            if not (self.see_state or self.see_obs):
                raise ValueError("must see something: see_state, see_obs or both")
            return self

    def __init__(self, config: Config, spec: EnvSpec) -> None:
        super().__init__()
        self._config, self._n_agents = config, spec.n_agents
        inputs = spec.state_dim if config.see_state else 0
        inputs += spec.obs_dim if config.see_obs else 0
        inputs += spec.n_agents if config.see_agent_id else 0
        self._per_agent = config.see_obs or config.see_agent_id
        self.base = normed_mlp(inputs, config.hidden_dims, config.activation)
        self.value = linear(config.hidden_dims[-1], 1, 1.0)

    @property
    def output_layer(self) -> nn.Linear:
        """From features to the value."""
        return self.value

    def forward(
        self,
        obs: Tensor,
        state: Tensor,
        alive: Tensor,
        avail_actions: Tensor,
        carry: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Values (M, N), or (M, 1) of the state alone."""
        if not self._per_agent:
            return self._value(state)
        return self._value(self.inputs(obs, state, alive))[..., 0]

    def inputs(self, obs: Tensor, state: Tensor, alive: Tensor) -> Tensor:
        """(M, N, I): state, observation, one-hot agent; zeros but for the agent where it is dead."""
        M, N = alive.shape
        parts = [state[:, None].expand(M, N, -1)] if self._config.see_state else []
        parts += [obs] if self._config.see_obs else []
        seen = torch.cat(parts, dim=-1) * alive[..., None]
        return with_agent_id(seen) if self._config.see_agent_id else seen

    def _value(self, x: Tensor) -> Tensor:
        values: Tensor = self.value(self.base(x))
        return values
