"""A critic that attends over the agents' observations: MAT's encoder without its decoder."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field
from torch import Tensor, nn

from ...envs.protocol import EnvSpec
from ...registry import CRITICS, PartConfig
from ..layers.normed import NormedMLP
from ..layers.transformer import AgentEncoder, value_head
from .base import Critic


@CRITICS.register("attention")
class AttentionCritic(Critic):
    """One value per agent from all observations, by attention between agents (Wen et al., 2022)."""

    class Config(PartConfig):
        n_block: int = Field(1, ge=1, description="attention blocks")
        n_embd: int = Field(64, ge=1, description="D, width of everything")
        n_head: int = Field(1, ge=1, description="attention heads, they divide D")
        frames: int = Field(
            1, ge=1, description="observations it sees at once: the present ones and those before"
        )
        see_agent_id: bool = Field(True, description="it sees which agent each observation is of")

    def __init__(self, config: Config, spec: EnvSpec) -> None:
        super().__init__()
        self.frames = config.frames
        D, agents = config.n_embd, spec.n_agents if config.see_agent_id else 0
        self.embed = NormedMLP([config.frames * spec.obs_dim], [D], "gelu", agents=agents)
        self.encoder = AgentEncoder(D, config.n_block, config.n_head)
        self.value = value_head(D)

    @property
    def output_layer(self) -> nn.Linear:
        """From representation to value."""
        layer = self.value[-1]
        assert isinstance(layer, nn.Linear)
        return layer

    def forward(
        self,
        obs: Tensor,
        state: Tensor,
        alive: Tensor,
        avail_actions: Tensor,
        carry: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Values (M, N)."""
        values: Tensor = self.value(self.encoder(self.embed(obs)))
        return values.squeeze(-1)
