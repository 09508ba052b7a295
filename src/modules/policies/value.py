"""Policy of value-based methods: an agent network and an action selector."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ...data.batch import EpisodeBatch
from ...envs.protocol import EnvSpec
from ...registry import POLICIES, PartConfig
from ..action_selectors.epsilon_greedy import EpsilonGreedy
from ..agents.base import Agent, AgentOutput
from ..agents.frames import none_before, with_those_before
from .base import Seen


@POLICIES.register("value")
class ValuePolicy(nn.Module):
    """Decentralised acting on action values."""

    class Config(PartConfig):
        agent_output_type: Literal["q"] = Field(
            "q", description="what the agent's outputs mean: q, values of actions"
        )

    def __init__(
        self, config: Config, spec: EnvSpec, *, agent: Agent, action_selector: EpsilonGreedy
    ) -> None:
        super().__init__()
        self.n_agents, self._spec = spec.n_agents, spec
        self.agent: Agent = agent
        self.action_selector = action_selector

    def init_carry(
        self, batch_size: int, device: torch.device, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Hidden state (B, N, H), last action plus one (B, N), and frames; zeros start an episode."""
        last = torch.zeros(batch_size, self.n_agents, dtype=torch.int64, device=device)
        before = none_before(self.agent, self._spec, batch_size, device)
        return {"hidden": self.agent.init_carry(batch_size, device), "last_actions": last} | before

    # no_grad, not inference_mode: runners write into the carry, which inference tensors refuse.
    @torch.no_grad()
    def act(
        self,
        seen: Seen,
        carry: dict[str, Tensor],
        t_env: int,
        test_mode: bool,
        generator: torch.Generator,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Actions (B, N) for what is ``seen``, and the next carry."""
        obs, before = with_those_before(seen.obs, carry)
        out = self.agent(obs, carry["last_actions"][:, None], carry["hidden"])
        actions = self.action_selector.select(
            out.values[:, 0], seen.avail_actions, t_env, test_mode, generator
        )
        return actions, {"hidden": out.carry, "last_actions": actions + 1} | before

    def unroll(self, batch: EpisodeBatch, agent: Agent | None = None) -> AgentOutput:
        """The agent over all T + 1 entries of each row, with what it remembered before where a row has that.

        Args:
            agent: network to use instead of the policy's own, e.g. a target network.
        """
        network = self.agent if agent is None else agent
        start = (batch.carry or {}).get("hidden")
        obs = batch.frames("obs", network.frames)
        output: AgentOutput = network(obs, batch.last_actions, start, lengths=batch.lengths + 1)
        return output

    def metrics(self, t_env: int) -> dict[str, float]:
        """What the action selector reports."""
        return self.action_selector.metrics(t_env)
