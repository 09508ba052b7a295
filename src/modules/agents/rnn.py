"""PyMARL's recurrent agent, written over whole sequences."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ...envs.protocol import EnvSpec
from ...registry import AGENTS, PartConfig
from ..layers.gru import PackedGRU
from ..layers.packing import Packing
from .base import Agent, AgentOutput


@AGENTS.register("rnn")
class RNNAgent(Agent):
    """Linear, GRU, linear on the own observation, as in PyMARL (Rashid et al., 2018)."""

    class Config(PartConfig):
        rnn_hidden_dim: int = Field(64, ge=1, description="H, width of the GRU")
        obs_last_action: bool = Field(True, description="the agent sees its last action")
        obs_agent_id: bool = Field(True, description="the agent sees which one of the team it is")

    def __init__(self, config: Config, spec: EnvSpec) -> None:
        super().__init__()
        self.n_agents, self.obs_dim, self.n_actions = spec.n_agents, spec.obs_dim, spec.n_actions
        self.hidden_dim = H = config.rnn_hidden_dim
        self.obs_last_action, self.obs_agent_id = config.obs_last_action, config.obs_agent_id
        input_dim = self.obs_dim
        input_dim += self.n_actions if config.obs_last_action else 0
        input_dim += self.n_agents if config.obs_agent_id else 0
        self.fc1 = nn.Linear(input_dim, H)
        self.rnn = PackedGRU(H, H)
        self.fc2 = nn.Linear(H, self.n_actions)

    def init_carry(self, batch_size: int, device: torch.device) -> Tensor:
        """(B, N, H) zeros: nothing remembered."""
        return torch.zeros(batch_size, self.n_agents, self.hidden_dim, device=device)

    def forward(
        self,
        obs: Tensor,
        last_actions: Tensor,
        carry: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> AgentOutput:
        """Run over sequences, see :class:`~phalanx.modules.agents.base.Agent`."""
        B, T = obs.shape[:2]
        if carry is None:
            carry = self.init_carry(B, obs.device)
        # Without lengths every sequence is whole and keeps its place: no packing, only time first.
        packing = None if lengths is None else Packing.of(lengths, T, obs.device)
        if packing is None:
            sizes = (B,) * T
            x = self._embed(obs.transpose(0, 1), last_actions.transpose(0, 1)).flatten(0, 1)
        else:
            sizes, carry = packing.sizes, carry.index_select(0, packing.order)
            x = self._embed(packing.pack(obs), packing.pack(last_actions))
        N = self.n_agents
        rows, last = self.rnn.run(
            x.flatten(0, 1), carry.flatten(0, 1), tuple(size * N for size in sizes)
        )
        hidden, last = (y.view(-1, N, self.hidden_dim) for y in (rows, last))
        values = self.fc2(hidden)
        if packing is None:
            values, hidden = (y.view(T, B, N, -1).transpose(0, 1) for y in (values, hidden))
            return AgentOutput(values, hidden, last)
        last = torch.empty_like(last).index_copy(0, packing.order, last)
        return AgentOutput(packing.pad(values), packing.pad(hidden), last)

    def head(self, hidden: Tensor) -> Tensor:
        """Action values (..., A) of hidden states (..., H)."""
        values: Tensor = self.fc2(hidden)
        return values

    def _embed(self, obs: Tensor, last_actions: Tensor) -> Tensor:
        """First layer, (..., N, H) of obs (..., N, O) and last_actions (..., N).

        Equal to a linear layer on [observation, one-hot last action, one-hot agent]; the one-hot parts
        are looked up in its weights instead of multiplied with them.
        """
        weight = self.fc1.weight
        x = F.linear(obs, weight[:, : self.obs_dim], self.fc1.bias)
        column = self.obs_dim
        if self.obs_last_action:
            table = weight[:, column : column + self.n_actions].t()
            x = x + F.embedding(last_actions, F.pad(table, (0, 0, 1, 0)))  # 0: no action yet
            column += self.n_actions
        if self.obs_agent_id:
            x = x + weight[:, column:].t()
        return torch.relu(x)
