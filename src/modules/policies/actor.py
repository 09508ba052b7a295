"""Policy of actor-critic methods that act on their own: an agent network and a distribution."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from ...data.chunks import Chunks
from ...envs.protocol import EnvSpec
from ...registry import POLICIES, PartConfig
from ..agents.base import Agent
from ..layers.distributions import distribution_of
from .base import Evaluation, StochasticPolicy


@POLICIES.register("actor")
class ActorPolicy(StochasticPolicy):
    """Decentralised stochastic acting: every agent draws from its own network's distribution."""

    class Config(PartConfig):
        test_greedy: bool = Field(True, description="tests take the most likely action")

    def __init__(self, config: Config, spec: EnvSpec, *, agent: Agent) -> None:
        super().__init__()
        self.n_agents, self._greedy = spec.n_agents, config.test_greedy
        self.agent: Agent = agent
        self.recurrent = bool(getattr(agent, "recurrent", True))
        self.distribution = distribution_of(spec)
        self._discrete = not spec.action_shape

    def init_carry(
        self, batch_size: int, device: torch.device, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Hidden state (B, N, H) and last action plus one (B, N); zeros start an episode."""
        last = torch.zeros(batch_size, self.n_agents, dtype=torch.int64, device=device)
        return {"hidden": self.agent.init_carry(batch_size, device), "last_actions": last}

    # no_grad, not inference_mode: runners write into the carry, which inference tensors refuse.
    @torch.no_grad()
    def act(
        self,
        obs: Tensor,
        avail_actions: Tensor,
        carry: dict[str, Tensor],
        t_env: int,
        test_mode: bool,
        generator: torch.Generator,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Actions for obs (B, N, O) under avail_actions (B, N, A) bool, and the next carry."""
        out = self.agent(obs[:, None], carry["last_actions"][:, None], carry["hidden"])
        outputs = out.values[:, 0]
        draws = None if test_mode and self._greedy else generator
        offsets = self.distribution.offsets(outputs, avail_actions, draws)
        actions = self.distribution.choose(outputs, offsets)
        last = actions + 1 if self._discrete else carry["last_actions"]
        return actions, {"hidden": out.carry, "last_actions": last}

    def evaluate(self, chunks: Chunks) -> Evaluation:
        """Log-probabilities and entropies of what was done; an agent alone needs a network of its own."""
        start = chunks.carry["hidden"]
        extra = {} if chunks.member is None else {"member": chunks.member}
        lengths = chunks.lengths if self.recurrent else None
        out = self.agent(chunks.obs, chunks.last_actions, start, lengths, **extra)
        log_prob, entropy = self.distribution.log_prob(
            out.values, chunks.avail_actions, chunks.actions
        )
        before = torch.cat([start[:, None], out.hidden[:, :-1]], dim=1)
        return Evaluation(
            log_prob, entropy, {"hidden": before, "last_actions": chunks.last_actions}
        )
