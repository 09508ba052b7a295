"""HAPPO: agents improve one after the other, each taking account of those before it."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor

from ..data.batch import EpisodeBatch
from ..data.chunks import Chunks, Cutting, agents_of
from ..envs.protocol import EnvSpec
from ..errors import ConfigError
from ..modules.agents.normed import NormedAgent
from ..modules.critics.base import Critic
from ..modules.policies.actor import ActorPolicy
from ..registry import LEARNERS
from .advantages import LOG_RATIO_LIMIT, normalised, ratio_of
from .ppo import PPOConfig, PPOLearner, Targets
from .sums import MetricSums


@LEARNERS.register("happo")
class HAPPOLearner(PPOLearner):
    """Heterogeneous-agent PPO (Kuba et al., 2022): one network per agent, updated in random order.

    The objective of each agent is weighted by M, the product of the ratios by which the agents updated
    before it in this round have changed the probabilities of their actions. Advantages of a critic with
    one value for the team are normalised over each agent's own steps, those of a critic with a value per
    agent over the steps of all, as in HARL (Zhong et al., 2024).
    """

    class Config(PPOConfig):
        critic_epoch: int = Field(
            10, ge=0, description="the critic's passes over the data, after all agents"
        )
        fixed_order: bool = Field(False, description="agents improve in the order of their index")

    config: HAPPOLearner.Config

    def __init__(
        self,
        config: HAPPOLearner.Config,
        spec: EnvSpec,
        *,
        policy: ActorPolicy,
        critic: Critic,
        seed: int,
        device: torch.device,
    ) -> None:
        self.agent = policy.agent
        if not (isinstance(self.agent, NormedAgent) and len(self.agent.nets) == spec.n_agents):
            raise ConfigError(
                "learner happo needs one network per agent: with shared parameters the log-probabilities of "
                "agents that wait for their turn have moved already. Use agent=normed "
                "share_parameters=False, or learner=ppo for shared ones."
            )
        super().__init__(config, spec, policy=policy, critic=critic, seed=seed, device=device)
        self.factor: Tensor | None = None

    def _make_optimisers(self) -> list[torch.optim.Optimizer]:
        """One per agent, and the critic's last."""
        assert isinstance(self.agent, NormedAgent)
        members = [self.agent.parameters_of(i) for i in range(self.spec.n_agents)]
        actors = [self._adam([{"params": own}], self.config.lr) for own in members]
        critic = [{"params": list(self.critic.parameters())}]
        return [*actors, self._adam(critic, self.config.critic_lr)]

    def _improve(
        self, batch: EpisodeBatch, cutting: Cutting, targets: Targets, sums: MetricSums
    ) -> None:
        """Every agent in turn, then the critic."""
        order = list(range(self.spec.n_agents))
        if not self.config.fixed_order and self.spec.n_agents > 1:
            order = torch.randperm(self.spec.n_agents, generator=self._generator).tolist()
        self.factor = torch.ones_like(targets.returns[..., :1])  # M, (B, T, 1)
        actor_sums = MetricSums()
        for i in order:
            self._improve_agent(i, batch, cutting, targets, actor_sums)
            if i != order[-1]:
                changed = self.factor * self._change(i, batch, cutting, targets)
                self.factor = changed.clamp(max=math.exp(LOG_RATIO_LIMIT))
        critic_sums = MetricSums()
        for part, chunks in self._minibatches(self.config.critic_epoch, batch, cutting, targets):
            self.track_returns(part, targets)
            loss = self.critic_loss(chunks, None, part, targets)
            weighted, critics = self.config.value_loss_coef * loss, self.optimisers[-1:]
            self.descend(weighted, {"value": loss}, critics, self.config.max_grad_norm)
            critic_sums.add({"loss_value": loss})
        sums.add(actor_sums.means_on_device() | critic_sums.means_on_device())

    def _improve_agent(
        self,
        member: int,
        batch: EpisodeBatch,
        cutting: Cutting,
        targets: Targets,
        sums: MetricSums,
    ) -> None:
        """All passes of one agent; no step where it was never alive: momentum alone would move it."""
        advantage = targets.advantage
        if targets.returns.shape[-1] == 1:
            own = torch.zeros_like(targets.active)
            own[..., member] = targets.active[..., member]
            advantage = normalised(targets.raw_advantage, own)
        passes = self.config.ppo_epoch
        for part, chunks in self._minibatches(passes, batch, cutting, targets, member):
            if not (part.take(targets.active)[..., member] & part.filled).any():
                continue
            evaluation = self.policy.evaluate(chunks)
            loss, metrics = self.policy_loss(
                evaluation, part, targets, member, self.factor, advantage
            )
            bounds, parts = self.bounds(evaluation, chunks, part, targets)
            total, actor = loss + bounds, [self.optimisers[member]]
            norm = self.descend(total, {"policy": loss, **parts}, actor, self.config.max_grad_norm)
            metrics |= {f"loss_{name}": value for name, value in parts.items()}
            sums.add({"loss": total, **metrics, "grad_norm": norm})

    @torch.no_grad()
    def _change(
        self, member: int, batch: EpisodeBatch, cutting: Cutting, targets: Targets
    ) -> Tensor:
        """(B, T, 1) by what factor the probability of the agent's actions has changed; 1 while dead."""
        chunks = Chunks.of(batch, cutting, targets.carry, member)
        after = cutting.put(self.policy.evaluate(chunks).log_prob)
        change = (after - targets.log_prob[:, :, agents_of(member)]).sum(dim=-1)
        # Without masks the dead have probabilities that move, of actions that do nothing.
        return ratio_of(change.masked_fill(~targets.active[:, :, agents_of(member)], 0.0))
