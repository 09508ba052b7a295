"""Proximal policy optimisation of a team: IPPO, MAPPO and MAT, by the parts they are given."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ..data.batch import EpisodeBatch
from ..data.chunks import Chunks, Cutting, agents_of, alive_of
from ..envs.protocol import EnvSpec
from ..modules.critics.base import Critic, last_values, values_of
from ..modules.layers.value_norm import NoValueNorm, PopArt, ValueNorm
from ..modules.policies.base import Evaluation, StochasticPolicy
from ..registry import LEARNERS, PartConfig
from ..seeding import named_generator
from .advantages import bootstrapped, masked_mean, normalised, ratio_of, surrogate, value_loss
from .base import Learner, frozen_copy
from .optimiser import Adam, scale_rates, with_first_rates
from .sums import MetricSums, weighted_sum


class PPOConfig(PartConfig):
    """Keys of all learners of the family."""

    gamma: float = Field(0.99, ge=0, le=1, description="discount per environment step")
    gae_lambda: float = Field(0.95, ge=0, le=1, description="decay of advantage estimates")
    lr: float = Field(5e-4, gt=0, description="learning rate of the policy")
    critic_lr: float = Field(
        5e-4, gt=0, description="learning rate of a critic with parameters of its own"
    )
    optim_eps: float = Field(1e-5, gt=0, description="term that keeps Adam stable")
    lr_anneal_time: int = Field(
        0, ge=0, description="environment steps in which learning rates fall to 0, linear; 0: never"
    )
    ppo_epoch: int = Field(10, ge=0, description="passes over the data of an update")
    num_mini_batch: int = Field(1, ge=1, description="gradient steps per pass")
    data_chunk_length: int = Field(
        10, ge=1, description="steps a recurrent policy learns through at once"
    )
    clip_param: float = Field(0.2, gt=0, description="how far ratios and values may gain by moving")
    anchor_coef: float = Field(
        0.0,
        ge=0,
        description="weight of KL(policy at the start of this learning || policy), per step and agent",
    )
    entropy_coef: float = Field(0.01, ge=0, description="weight of the entropy")
    value_loss_coef: float = Field(1.0, ge=0, description="weight of the value loss")
    max_grad_norm: float = Field(
        10.0, gt=0, description="largest norm of the policy's, and of the critic's, gradient"
    )
    huber_delta: float | None = Field(
        10.0, gt=0, description="where the value loss turns linear; null: never"
    )
    clip_value_loss: bool = Field(True, description="values gain within clip_param only")
    value_norm: Literal["valuenorm", "popart", "none"] = Field(
        "valuenorm", description="running scale of returns the critic learns in"
    )
    use_policy_active_masks: bool = Field(
        True, description="the dead count neither in the policy's loss nor in the entropy"
    )
    use_value_active_masks: bool = Field(
        False, description="the dead do not count in the value loss"
    )
    action_aggregation: Literal["prod", "dim"] = Field(
        "prod",
        description="continuous actions: clip the ratio of the whole action, or of each dimension",
    )


@dataclass(frozen=True)
class Targets:
    """What the data of one update says, fixed while the networks move; the layout of a batch.

    With a critic of one value for the team, V = 1 and all agents have its advantage.
    """

    log_prob: Tensor  # (B, T, N, F) by the policy that acted
    advantage: Tensor  # (B, T, N) normalised
    raw_advantage: Tensor  # (B, T, N)
    returns: Tensor  # (B, T, V) in units of reward
    values: Tensor  # (B, T, V) in the critic's units
    raw_values: Tensor  # (B, T, V) in units of reward
    active: Tensor  # (B, T, N) bool, steps that exist, of agents that are alive
    carry: dict[str, Tensor]  # (B, T, ...) before each step, or (B, 1, ...) before each row
    anchor: Tensor | None = None  # (B, T, N, K') outputs of the policy this one is to stay close to


@LEARNERS.register("ppo")
class PPOLearner(Learner):
    """Clipped policy gradients with generalised advantages, all agents at once (Yu et al., 2022).

    Old log-probabilities and values are those of the networks before the first gradient step, in one
    parallel pass: with on-policy data they are what acting had. Where others act too, a batch brings the
    log-probabilities of whoever did (``log_prob``).
    """

    Config = PPOConfig

    on_policy: ClassVar[bool] = True

    def __init__(
        self,
        config: PPOConfig,
        spec: EnvSpec,
        *,
        policy: StochasticPolicy,
        critic: Critic,
        seed: int,
        device: torch.device,
    ) -> None:
        super().__init__(device)
        self.config, self.spec = config, spec
        self.policy, self.critic = policy.to(device), critic.to(device)
        self.value_norm = _value_norm(config, critic).to(device)
        self.modules = {
            "policy": self.policy,
            "critic": self.critic,
            "value_norm": self.value_norm,
        }
        # The policy as it comes: what an earlier phase made of it, where there was one.
        self.anchor = frozen_copy(self.policy) if config.anchor_coef else None
        if self.anchor is not None:
            self.modules["anchor"] = self.anchor
        self.optimisers = self._make_optimisers()
        # Draws stay on the CPU: they order chunks, whose lengths are there too.
        self._generator = named_generator(seed, "learn")
        self.generators = {"order": self._generator}

    def update(self, batch: EpisodeBatch, t_env: int) -> dict[str, Tensor]:
        """All passes over ``batch``, which the policy as it is has made; means over the gradient steps."""
        self._set_learning_rates(t_env)
        cutting = self.policy.cut(batch, self.config.data_chunk_length)
        targets = self.prepare(batch)
        self.refuse_unless_finite("returns", targets.returns)  # the value norm keeps them
        sums = MetricSums()
        self._improve(batch, cutting, targets, sums)
        means = sums.means_on_device()
        means["advantage_abs"] = masked_mean(targets.raw_advantage.abs(), targets.active)
        means["return_target_mean"] = masked_mean(
            targets.returns, batch.filled[..., None].expand_as(targets.returns)
        )
        return means

    @torch.no_grad()
    def prepare(self, batch: EpisodeBatch) -> Targets:
        """Advantages and what else the gradient steps compare with."""
        cutting, start, chunks = self.policy.rows_of(batch)
        evaluation = self.policy.evaluate(chunks)
        values = cutting.put(values_of(self.critic, chunks, evaluation))
        last = last_values(self.critic, batch, start)
        value = self.value_norm.denormalise(values) * batch.filled[..., None]
        last = self.value_norm.denormalise(last)
        advantage, returns = bootstrapped(
            batch, value, last, self.config.gamma, self.config.gae_lambda
        )
        active = alive_of(batch)[:, :-1] & batch.filled[..., None]
        advantage = advantage.expand_as(active)
        carry = evaluation.carry
        return Targets(
            log_prob=(
                cutting.put(evaluation.log_prob) if batch.log_prob is None else batch.log_prob
            ),
            advantage=normalised(advantage, active),
            raw_advantage=advantage,
            returns=returns,
            values=values,
            raw_values=value,
            active=active,
            carry=(
                {k: v[:, None] for k, v in start.items()}
                if carry is None
                else {k: cutting.put(v) for k, v in carry.items()}
            ),
            # Where a row begins within an episode the anchor goes on from what the policy has in mind.
            anchor=None
            if self.anchor is None
            else cutting.put(self.anchor.evaluate(chunks).outputs),
        )

    def _improve(
        self, batch: EpisodeBatch, cutting: Cutting, targets: Targets, sums: MetricSums
    ) -> None:
        """All gradient steps of one update."""
        for part, chunks in self._minibatches(self.config.ppo_epoch, batch, cutting, targets):
            self.track_returns(part, targets)
            evaluation = self.policy.evaluate(chunks)
            policy_loss, metrics = self.policy_loss(evaluation, part, targets)
            bounds, of_bounds = self.bounds(evaluation, chunks, part, targets)
            critic_loss = self.critic_loss(chunks, evaluation, part, targets)
            loss = policy_loss + bounds + self.config.value_loss_coef * critic_loss
            parts = {"policy": policy_loss, "value": critic_loss, **of_bounds}
            norm = self.descend(loss, parts, self.optimisers, self.config.max_grad_norm)
            metrics |= {f"loss_{name}": value for name, value in of_bounds.items()}
            sums.add({"loss": loss, "loss_value": critic_loss, **metrics, "grad_norm": norm})

    def policy_loss(
        self,
        evaluation: Evaluation,
        part: Cutting,
        targets: Targets,
        member: int | None = None,
        factor: Tensor | None = None,
        advantage: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Clipped objective and entropy of the steps in ``part``, as a loss, and its metrics.

        Args:
            member: of this agent alone; ``evaluation`` then is of it alone.
            factor: (B, T, 1) weight of each step's objective (HAPPO's M).
            advantage: (B, T, N) in place of the targets' own.
        """
        config = self.config
        group = agents_of(member)
        active = part.take(targets.active)[:, :, group] & part.filled[..., None]
        weight = active
        if not config.use_policy_active_masks:
            weight = part.filled[..., None].expand_as(active)
        log_ratio = evaluation.log_prob - part.take(targets.log_prob)[:, :, group]
        judged = part.take(targets.advantage if advantage is None else advantage)[:, :, group]
        objective = surrogate(
            log_ratio,
            judged,
            config.clip_param,
            per_dimension=config.action_aggregation == "dim",
        )
        if factor is not None:
            objective = objective * part.take(factor)
        entropy = masked_mean(evaluation.entropy.sum(dim=-1), weight)
        loss_policy = -masked_mean(objective, weight)
        with torch.no_grad():
            joint = log_ratio.sum(dim=-1)
            ratio = ratio_of(joint)
            clipped = (ratio - 1).abs() > config.clip_param
            metrics = {
                "loss_policy": loss_policy,
                "entropy": entropy,
                "ratio_clipped": masked_mean(clipped.to(joint.dtype), active),
                "approx_kl": masked_mean(ratio - 1 - joint, active),
            }
        return loss_policy - config.entropy_coef * entropy, metrics

    def bounds(
        self, evaluation: Evaluation, chunks: Chunks, part: Cutting, targets: Targets
    ) -> tuple[Tensor | float, dict[str, Tensor]]:
        """What keeps the policy in bounds beside its objective: the weighted sum, and what it is made of.

        These are losses of the policy's own, and its distance from the anchor where there is one.
        """
        losses, weights = dict(evaluation.losses), dict(self.policy.loss_weights)
        if targets.anchor is not None:
            group = agents_of(chunks.member)
            active = part.take(targets.active)[:, :, group] & part.filled[..., None]
            anchor = part.take(targets.anchor)[:, :, group]
            kl = self.policy.distribution.kl(anchor, evaluation.outputs, chunks.avail_actions)
            losses["anchor"] = masked_mean(kl.sum(dim=-1), active)
            weights["anchor"] = self.config.anchor_coef
        return weighted_sum(losses, weights), losses

    def track_returns(self, part: Cutting, targets: Targets) -> None:
        """Move the running scale of returns; before values are computed, as PopArt changes the critic."""
        self.value_norm.update(part.take(targets.returns)[part.filled])

    def critic_loss(
        self, chunks: Chunks, evaluation: Evaluation | None, part: Cutting, targets: Targets
    ) -> Tensor:
        """Loss of the values of the steps in ``part``."""
        config = self.config
        values = values_of(self.critic, chunks, evaluation)
        returns, weight = part.take(targets.returns), part.filled[..., None].expand_as(values)
        if config.use_value_active_masks:
            active = part.take(targets.active)
            if values.shape[-1] == 1:
                active = active.any(dim=-1, keepdim=True)
            weight = weight & active
        # A network's old output is compared with its new one. PopArt has moved the outputs themselves.
        old = part.take(targets.values)
        if isinstance(self.value_norm, PopArt):
            old = self.value_norm.normalise(part.take(targets.raw_values))
        loss = value_loss(
            values,
            old,
            self.value_norm.normalise(returns),
            config.clip_param if config.clip_value_loss else None,
            config.huber_delta,
        )
        return masked_mean(loss, weight)

    def _make_optimisers(self) -> list[torch.optim.Optimizer]:
        """One for the policy and one for the critic, or one where the values are the policy's own."""
        policy, critic = self.policy.parameter_groups(), list(self.critic.parameters())
        if not critic:
            return [self._adam(policy, self.config.lr)]
        of_critic = self._adam([{"params": critic}], self.config.critic_lr)
        return [self._adam(policy, self.config.lr), of_critic]

    def _adam(self, groups: Iterable[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
        return Adam(with_first_rates(groups, lr), lr=lr, eps=self.config.optim_eps)

    def _set_learning_rates(self, t_env: int) -> None:
        if not self.config.lr_anneal_time:
            return
        scale_rates(self.optimisers, max(0.0, 1.0 - t_env / self.config.lr_anneal_time))

    def _minibatches(
        self,
        passes: int,
        batch: EpisodeBatch,
        cutting: Cutting,
        targets: Targets,
        member: int | None = None,
    ) -> Iterator[tuple[Cutting, Chunks]]:
        """What each gradient step of so many passes reads: the chunks in random order, split evenly."""
        if self.config.num_mini_batch == 1:
            # The same for every pass, so gathered once.
            whole = Chunks.of(batch, cutting, targets.carry, member)
            yield from itertools.repeat((cutting, whole), passes)
            return
        for _ in range(passes):
            order = torch.randperm(len(cutting), generator=self._generator)
            for members in order.tensor_split(min(self.config.num_mini_batch, len(cutting))):
                part = cutting.part(members)
                yield part, Chunks.of(batch, part, targets.carry, member)


def _value_norm(config: PPOConfig, critic: Critic) -> ValueNorm:
    if config.value_norm == "popart":
        return PopArt(critic.output_layer)
    return ValueNorm() if config.value_norm == "valuenorm" else NoValueNorm()
