"""Behaviour cloning: the policy that makes recorded actions most likely."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ..data.batch import EpisodeBatch
from ..data.chunks import Cutting
from ..errors import ConfigError
from ..modules.critics.base import Critic, last_values, values_of
from ..modules.critics.none import NoCritic
from ..modules.layers.value_norm import ValueNorm
from ..modules.policies.base import StochasticPolicy
from ..registry import LEARNERS, PartConfig
from .advantages import bootstrapped, masked_mean
from .base import Learner
from .optimiser import AdamW, scale_rates, with_first_rates
from .sums import weighted_sum


@LEARNERS.register("bc")
class BehaviourCloning(Learner):
    """Maximum likelihood of what was done, for any stochastic policy; values of it on the side.

    The loss is ``-mean(log_prob of each living agent's action)``, plus what the policy learns of its own and,
    with ``value_loss_coef``, half the squared error of the critic's values of the returns that followed.
    """

    class Config(PartConfig):
        lr: float = Field(1e-4, gt=0, description="learning rate")
        betas: list[float] = Field(
            [0.9, 0.999], min_length=2, max_length=2, description="AdamW's decay of both moments"
        )
        optim_eps: float = Field(1e-8, gt=0, description="term that keeps AdamW stable")
        weight_decay: float = Field(
            0.0, ge=0, description="AdamW's, of what the policy does not exempt"
        )
        warmup_updates: int = Field(
            0, ge=0, description="updates in which the learning rate rises, linear; 0: none"
        )
        grad_norm_clip: float = Field(10.0, gt=0, description="largest norm of the gradient")
        availability_mask: bool = Field(
            True, description="actions that were not available have no probability while learning"
        )
        value_loss_coef: float = Field(0.0, ge=0, description="weight of the critic's loss")
        gamma: float = Field(0.99, ge=0, le=1, description="discount of the critic's returns")

    on_policy: ClassVar[bool] = False

    def __init__(
        self,
        config: Config,
        *,
        policy: StochasticPolicy,
        critic: Critic | NoCritic,
        device: torch.device,
    ) -> None:
        super().__init__(device)
        self.config = config
        self.policy, self.critic = policy.to(device), critic.to(device)
        if config.value_loss_coef and isinstance(critic, NoCritic):
            raise ConfigError(
                f"learner bc: value_loss_coef={config.value_loss_coef} asks for values, and critic=none has "
                "none: choose critic=normed or critic=attention, or value_loss_coef=0."
            )
        self.value_norm = ValueNorm().to(device)
        self.modules = {
            "policy": self.policy,
            "critic": self.critic,
            "value_norm": self.value_norm,
        }
        groups = self.policy.parameter_groups()
        if self._values:
            groups.append({"params": list(self.critic.parameters())})
        self.optimisers = [
            AdamW(
                with_first_rates(groups, config.lr),
                lr=config.lr,
                betas=(config.betas[0], config.betas[1]),
                eps=config.optim_eps,
                weight_decay=config.weight_decay,
            )
        ]

    @property
    def _values(self) -> bool:
        return self.config.value_loss_coef > 0

    def update(self, batch: EpisodeBatch, t_env: int) -> dict[str, Tensor]:
        """One gradient step on whole rows of ``batch``."""
        self._warm_up()
        if not self.config.availability_mask:
            batch = replace(batch, avail_actions=torch.ones_like(batch.avail_actions))
        cutting, start, chunks = self.policy.rows_of(batch)
        self.policy.train()  # a policy may be noisy while it learns from data, and then alone
        evaluation = self.policy.evaluate(chunks)
        self.policy.eval()
        active = chunks.alive & cutting.filled[..., None]
        losses = {
            "policy": -masked_mean(evaluation.log_prob.sum(dim=-1), active),
            **evaluation.losses,
        }
        weights = {"policy": 1.0, **self.policy.loss_weights}
        if self._values:
            assert isinstance(self.critic, Critic)
            values = values_of(self.critic, chunks, evaluation)
            losses["value"] = self._value_loss(values, batch, cutting, start)
            weights["value"] = self.config.value_loss_coef
        loss = torch.as_tensor(weighted_sum(losses, weights))
        norm = self.descend(loss, losses, self.optimisers, self.config.grad_norm_clip)
        entropy = masked_mean(evaluation.entropy.sum(dim=-1), active)
        named = {f"loss_{name}": value for name, value in losses.items()}
        return {"loss": loss, **named, "entropy": entropy, "grad_norm": norm}

    def _value_loss(
        self, values: Tensor, batch: EpisodeBatch, cutting: Cutting, start: dict[str, Tensor]
    ) -> Tensor:
        """Half the squared distance of ``values`` (K, C, V) from returns, in the critic's units.

        A row that ends before its episode does goes on with what the critic thinks of its last entry.
        """
        assert isinstance(self.critic, Critic)
        with torch.no_grad():
            last = self.value_norm.denormalise(last_values(self.critic, batch, start))
            nothing = last.new_zeros((batch.batch_size, batch.max_t, last.shape[-1]))
            returns = bootstrapped(batch, nothing, last, self.config.gamma, 1.0)[1]
            self.refuse_unless_finite("returns", returns)
            taken = cutting.take(returns)
            self.value_norm.update(taken[cutting.filled])
            target = self.value_norm.normalise(taken)
        weight = cutting.filled[..., None].expand_as(values)
        return masked_mean(0.5 * (values - target).square(), weight)

    def _warm_up(self) -> None:
        if not self.config.warmup_updates:
            return
        scale_rates(self.optimisers, min((self.n_updates + 1) / self.config.warmup_updates, 1.0))
