"""The actor network of the policy-gradient family, feed-forward or recurrent, shared or one per agent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from einops import rearrange
from pydantic import Field
from torch import Tensor, nn

from ...envs.protocol import EnvSpec
from ...errors import ConfigError
from ...registry import AGENTS, PartConfig, Widths
from ..layers.gru import PackedGRU
from ..layers.normed import ActionHead, Activation, NormedMLP
from ..layers.one_hot import one_hot_actions
from ..layers.packing import Packing
from .base import Agent, AgentOutput


class _Net(nn.Module):
    """Features of an observation, a GRU over time where there is memory, and a head."""

    def __init__(self, config: NormedAgent.Config, spec: EnvSpec, agents: int) -> None:
        super().__init__()
        H = config.hidden_dims[-1]
        parts = [config.frames * spec.obs_dim] + (
            [spec.n_actions] if config.obs_last_action else []
        )
        self.base = NormedMLP(parts, config.hidden_dims, config.activation, agents=agents)
        self.rnn = PackedGRU(H, H) if config.recurrent else None
        if self.rnn is not None:
            for name, parameter in self.rnn.named_parameters():
                (nn.init.zeros_ if "bias" in name else nn.init.orthogonal_)(parameter)
        self.norm = nn.LayerNorm(H) if config.recurrent else nn.Identity()
        self.action_head = ActionHead(
            H,
            spec.choices,
            spec.dimensions,
            gain=config.head_gain,
            initial_scale=config.initial_scale,
        )

    def run(self, parts: Sequence[Tensor], start: Tensor, sizes: Sequence[int]) -> Tensor:
        """What is remembered (P, n, H) after packed rows of parts (P, n, I), see ``PackedGRU.run``."""
        features: Tensor = self.base(*parts)
        if self.rnn is None:
            return features
        n = features.shape[1]
        rows, _ = self.rnn.run(
            rearrange(features, "p n h -> (p n) h"),
            rearrange(start, "b n h -> (b n) h"),
            tuple(size * n for size in sizes),
        )
        return rearrange(rows, "(p n) h -> p n h", n=n)

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
        hidden_dims: Widths = Field([64, 64], description="widths of the layers")
        activation: Activation = Field("relu", description="behind every layer: relu | gelu")
        recurrent: bool = Field(False, description="a GRU behind the layers, as wide as the last")
        share_parameters: bool = Field(True, description="one network for all agents, or one each")
        obs_last_action: bool = Field(False, description="the agent sees its last action")
        frames: int = Field(
            1,
            ge=1,
            description="observations the agent sees at once: the present one and those before",
        )
        obs_agent_id: bool = Field(True, description="the agent sees which one of the team it is")
        head_gain: float = Field(0.01, gt=0, description="size of the first outputs")
        initial_scale: float = Field(
            1.0, description="s in the first deviation 0.5 sigmoid(s) of continuous actions"
        )

    def __init__(self, config: Config, spec: EnvSpec) -> None:
        super().__init__()
        self.n_agents, self.frames = spec.n_agents, config.frames
        self.hidden_dim, self.recurrent = config.hidden_dims[-1], config.recurrent
        if config.obs_last_action and spec.dimensions:
            raise ConfigError(
                "agent normed: obs_last_action=True needs discrete actions; this environment's are "
                "vectors. Set obs_last_action=False."
            )
        self._last_action = spec.n_actions if config.obs_last_action else 0
        # Networks of one's own tell agents apart by themselves.
        agents = spec.n_agents if config.obs_agent_id and config.share_parameters else 0
        copies = 1 if config.share_parameters else spec.n_agents
        self.nets = nn.ModuleList(_Net(config, spec, agents) for _ in range(copies))

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
            member: run this agent's own network on inputs of it alone, N being 1.
        """
        B, T = obs.shape[:2]
        if carry is None:
            carry = self.init_carry(B, obs.device)
        parts = [obs]
        if self._last_action:
            parts.append(one_hot_actions(last_actions, self._last_action))
        packing = None if lengths is None else Packing.of(lengths, T, obs.device)
        if packing is None:
            rows, sizes = [x.transpose(0, 1).flatten(0, 1) for x in parts], (B,) * T
        else:
            rows, sizes = [packing.pack(x) for x in parts], packing.sizes
            carry = carry.index_select(0, packing.order)
        outputs = []
        for net, group in self._groups(member):
            remembered = net.run([x[:, group] for x in rows], carry[:, group], sizes)
            outputs.append((remembered, net.head(remembered)))
        hidden, values = (torch.cat(of_nets, dim=1) for of_nets in zip(*outputs, strict=True))
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
        parts = [net.head(hidden[..., group, :]) for net, group in self._groups(None)]
        return torch.cat(parts, dim=-2)

    def parameters_of(self, member: int) -> list[nn.Parameter]:
        """Parameters of one agent's own network."""
        return list(self.nets[member].parameters())

    def _groups(self, member: int | None) -> list[tuple[_Net, slice]]:
        """Networks with the agents of the inputs they act for."""
        nets = cast("list[_Net]", list(self.nets))
        if len(nets) == 1 or member is not None:
            return [(nets[member or 0], slice(None))]
        return [(net, slice(i, i + 1)) for i, net in enumerate(nets)]
