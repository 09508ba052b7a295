"""Critics of IPPO and MAPPO: layers on the state, the own observation, or both."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field, model_validator
from torch import Tensor, nn

from ...envs.protocol import EnvSpec
from ...registry import CRITICS, PartConfig, Widths
from ..layers.normed import Activation, NormedMLP, linear
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
        frames: int = Field(
            1,
            ge=1,
            description="states and observations the critic sees at once: the present ones and those before",
        )
        hidden_dims: Widths = Field([64, 64], description="widths of the layers")
        activation: Activation = Field("relu", description="behind every layer: relu | gelu")

        @model_validator(mode="after")
        def _sees_something(self) -> NormedCritic.Config:
            if not (self.see_state or self.see_obs):
                raise ValueError("must see something: see_state, see_obs or both")
            return self

    def __init__(self, config: Config, spec: EnvSpec) -> None:
        super().__init__()
        self._config, self.frames = config, config.frames
        self.reads_state = config.see_state
        self._per_agent = config.see_obs or config.see_agent_id
        parts = [config.frames * spec.state_dim] if config.see_state else []
        parts += [config.frames * spec.obs_dim] if config.see_obs else []
        agents = spec.n_agents if config.see_agent_id else 0
        self.base = NormedMLP(parts, config.hidden_dims, config.activation, agents=agents)
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
        parts = [state[:, None]] if self._config.see_state else []
        parts += [obs] if self._config.see_obs else []
        features = self.base(*parts, alive=alive if self._per_agent else None)
        values: Tensor = self.value(features)
        return values[..., 0]
