"""The actor network of the policy-gradient family, feed-forward or recurrent, shared or one per agent."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from pydantic import Field
from torch import Tensor, nn

from ...envs.protocol import Discrete, EnvSpec
from ...errors import ConfigError
from ...registry import AGENTS, PartConfig
from ..layers.gru import PackedGRU
from ..layers.normed import ActionHead, Activation, normed_mlp
from ..layers.one_hot import one_hot_actions, with_agent_id
from ..layers.packing import Packing
from .base import Agent, AgentOutput


class _Net(nn.Module):
    """Features of an observation, a GRU over time where there is memory, and a head."""

    def __init__(self, inputs: int, config: NormedAgent.Config, spec: EnvSpec) -> None:
        super().__init__()
        H = config.hidden_dims[-1]
        self.base = normed_mlp(inputs, config.hidden_dims, config.activation)
        self.rnn = PackedGRU(H, H) if config.recurrent else None
        if self.rnn is not None:
            for name, parameter in self.rnn.named_parameters():
                (nn.init.zeros_ if "bias" in name else nn.init.orthogonal_)(parameter)
        self.norm = nn.LayerNorm(H) if config.recurrent else nn.Identity()
        self.action_head = ActionHead(
            H,
            spec.policy_outputs,
            continuous=not isinstance(spec.action, Discrete),
            gain=config.head_gain,
            initial_scale=config.initial_scale,
        )

    def run(self, x: Tensor, start: Tensor, sizes: Sequence[int]) -> Tensor:
        """What is remembered (R, H) after packed rows x (R, I), see ``PackedGRU.run``."""
        features: Tensor = self.base(x)
        return features if self.rnn is None else self.rnn.run(features, start, sizes)[0]

    def head(self, hidden: Tensor) -> Tensor:
        """Outputs (..., K) of what is remembered (..., H)."""
        outputs: Tensor = self.action_head(self.norm(hidden))
        return outputs


@AGENTS.register("normed")
class NormedAgent(Agent):
    """Layers with layer norms on the own observation, as MAPPO's actor (Yu et al., 2022).

    Feed-forward, or with a GRU behind the layers (``recurrent``); one network for all agents, or one each.
    """

    class Config(PartConfig):
        hidden_dims: list[int] = Field([64, 64], min_length=1, description="widths of the layers")
        activation: Activation = Field("relu", description="behind every layer: relu | gelu")
        recurrent: bool = Field(False, description="a GRU behind the layers, as wide as the last")
        share_parameters: bool = Field(True, description="one network for all agents, or one each")
        obs_last_action: bool = Field(False, description="the agent sees its last action")
        obs_agent_id: bool = Field(True, description="the agent sees which one of the team it is")
        head_gain: float = Field(0.01, gt=0, description="size of the first outputs")
        initial_scale: float = Field(
            1.0, description="s in the first deviation 0.5 sigmoid(s) of continuous actions"
        )

    def __init__(self, config: Config, spec: EnvSpec) -> None:
        super().__init__()
        self.n_agents = spec.n_agents
        self.hidden_dim, self.recurrent = config.hidden_dims[-1], config.recurrent
        discrete = isinstance(spec.action, Discrete)
        if config.obs_last_action and not discrete:
            raise ConfigError(
                "agent normed: obs_last_action=True needs discrete actions; this environment's are "
                "continuous. Set obs_last_action=False."
            )
        self._last_action = spec.n_actions if config.obs_last_action else 0
        # Networks of one's own tell agents apart by themselves.
        self._agent_id = config.obs_agent_id and config.share_parameters
        inputs = spec.obs_dim + self._last_action + (spec.n_agents if self._agent_id else 0)
        copies = 1 if config.share_parameters else spec.n_agents
        self.nets = nn.ModuleList(_Net(inputs, config, spec) for _ in range(copies))

    def init_carry(self, batch_size: int, device: torch.device) -> Tensor:
        """(B, N, H) zeros: nothing remembered."""
        return torch.zeros(batch_size, self.n_agents, self.hidden_dim, device=device)

    def forward(
        self,
        obs: Tensor,
        last_actions: Tensor,
        carry: Tensor | None = None,
        lengths: Tensor | None = None,
        member: int | None = None,
    ) -> AgentOutput:
        """Run over sequences, see :class:`~phalanx.modules.agents.base.Agent`.

        Args:
            member: run the network of this agent alone; the outputs then have one agent.
        """
        B, T = obs.shape[:2]
        if carry is None:
            carry = self.init_carry(B, obs.device)
        x = self._inputs(obs, last_actions)
        packing = None if lengths is None else Packing.of(lengths, T, obs.device)
        if packing is None:
            rows, sizes = x.transpose(0, 1).flatten(0, 1), (B,) * T
        else:
            rows, sizes = packing.pack(x), packing.sizes
            carry = carry.index_select(0, packing.order)
        parts = [
            self._run(net, rows[:, group], carry[:, group], sizes)
            for net, group in self._groups(member)
        ]
        hidden = torch.cat([part[0] for part in parts], dim=1)
        values = torch.cat([part[1] for part in parts], dim=1)
        if packing is None:
            values, hidden = (rearrange(y, "(t b) n k -> b t n k", b=B) for y in (values, hidden))
            return AgentOutput(values, hidden, hidden[:, -1])
        hidden = packing.pad(hidden)
        assert lengths is not None
        ends = (lengths - 1).to(obs.device)
        last = hidden[torch.arange(B, device=obs.device), ends]
        return AgentOutput(packing.pad(values), hidden, last)

    def head(self, hidden: Tensor) -> Tensor:
        """Outputs (..., N, K) of what is remembered (..., N, H)."""
        parts = [net.head(hidden[..., group, :]) for net, group in self._groups(None)]  # type: ignore[operator]
        return torch.cat(parts, dim=-2)

    def parameters_of(self, member: int) -> list[nn.Parameter]:
        """Parameters of one agent's own network."""
        return list(self.nets[member].parameters())

    def _groups(self, member: int | None) -> list[tuple[nn.Module, slice]]:
        """Networks with the agents they act for."""
        if len(self.nets) == 1:
            return [(self.nets[0], slice(None) if member is None else slice(member, member + 1))]
        members = range(self.n_agents) if member is None else (member,)
        return [(self.nets[i], slice(i, i + 1)) for i in members]

    def _run(
        self, net: nn.Module, rows: Tensor, start: Tensor, sizes: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """What is remembered (P, n, H) and outputs (P, n, K) of packed rows (P, n, I)."""
        assert isinstance(net, _Net)
        n = rows.shape[1]
        hidden = net.run(
            rearrange(rows, "p n i -> (p n) i"),
            rearrange(start, "b n h -> (b n) h"),
            tuple(size * n for size in sizes),
        )
        return tuple(rearrange(y, "(p n) k -> p n k", n=n) for y in (hidden, net.head(hidden)))  # type: ignore[return-value]

    def _inputs(self, obs: Tensor, last_actions: Tensor) -> Tensor:
        """(B, T, N, I): observation, one-hot last action (zeros where none), one-hot agent."""
        if self._last_action:
            obs = torch.cat([obs, one_hot_actions(last_actions, self._last_action)], dim=-1)
        return with_agent_id(obs) if self._agent_id else obs
