"""OMIGA: a value of the team regularised towards the data, as weights on what each agent did."""

from __future__ import annotations

import itertools
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from ..data.batch import EpisodeBatch
from ..envs.protocol import EnvSpec
from ..errors import ConfigError
from ..modules.layers.packing import Packing
from ..modules.mixers.base import of_actions
from ..modules.policies.base import StochasticPolicy
from ..registry import LEARNERS, PartConfig, Widths
from .advantages import masked_mean
from .base import Learner, frozen_copy
from .optimiser import AdamW
from .sums import weighted_sum
from .targets import td_target

LIMIT = 10.0
"""Advantages over alpha stay within it, so that a weight is at most exp(10) = 22026."""


def team_value(weight: Tensor, bias: Tensor, values: Tensor) -> Tensor:
    """``sum_i w_i v_i + b`` (..., 1) of weight and values (..., N) and bias (..., 1)."""
    return (weight * values).sum(dim=-1, keepdim=True) + bias


def scaled_advantage(weight: Tensor, q: Tensor, value: Tensor, alpha: float) -> Tensor:
    """``z_i = w_i (Q_i - V_i) / alpha`` within the LIMIT, all (..., N) (Wang et al., 2023).

    ``exp(z_i)`` is how much likelier than in the data an agent's action is under the best policy that stays
    close to them.
    """
    return (weight * (q - value) / alpha).clamp(-LIMIT, LIMIT)


def local_value_loss(z: Tensor, weight: Tensor, value: Tensor, alpha: float) -> Tensor:
    """``exp(z_i) + w_i V_i / alpha``, least where the mean of exp(z_i) is 1; (..., N).

    All of it is divided by the exponential of the largest z, or of -1, so that no sum overflows.
    """
    largest = z.detach().max().clamp(min=-1.0)
    return (z - largest).exp() + (-largest).exp() * weight * value / alpha


class LocalValues(nn.Module):
    """Values that an agent sees for itself, one network for all.

    Args:
        n_agents: N.
        obs_dim: O.
        hidden: widths of the layers between.
        outputs: values of each agent.
    """

    def __init__(self, n_agents: int, obs_dim: int, hidden: list[int], outputs: int) -> None:
        super().__init__()
        self.n_agents = n_agents
        self.net = _relu_layers([obs_dim + n_agents, *hidden, outputs])

    def forward(self, obs: Tensor) -> Tensor:
        """(M, N, outputs) of obs (M, N, O)."""
        which = torch.eye(self.n_agents, device=obs.device).expand(*obs.shape[:-1], -1)
        values: Tensor = self.net(torch.cat([obs, which], dim=-1))
        return values


class PositiveMixer(nn.Module):
    """Weight of each agent in the team's value, never below 0, and what is added to it, by the state.

    Args:
        n_agents: N.
        state_dim: S.
        hidden: width of the layers between.
    """

    def __init__(self, n_agents: int, state_dim: int, hidden: int) -> None:
        super().__init__()
        self.weight = _relu_layers([state_dim, hidden, n_agents])
        self.bias = _relu_layers([state_dim, hidden, 1])

    def forward(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Weight (M, N) and bias (M, 1) of state (M, S)."""
        return self.weight(state).abs(), self.bias(state)


class Values(nn.Module):
    """What agents' actions (q) and prospects (v) are worth to them, and their weights in the team's value."""

    def __init__(self, spec: EnvSpec, hidden: list[int], mix_hidden: int) -> None:
        super().__init__()
        self.q = LocalValues(spec.n_agents, spec.obs_dim, hidden, spec.n_actions)
        self.v = LocalValues(spec.n_agents, spec.obs_dim, hidden, 1)
        self.mixer = PositiveMixer(spec.n_agents, spec.state_dim, mix_hidden)


def _relu_layers(widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, (before, after) in enumerate(itertools.pairwise(widths)):
        layers += [nn.ReLU()] if i else []
        layers.append(nn.Linear(before, after))
    return nn.Sequential(*layers)


@LEARNERS.register("omiga")
class OMIGALearner(Learner):
    """Implicit global-to-local value regularisation (Wang et al., 2023), from a dataset or from a replay.

    Values are learnt of what was done alone; the policy does again what was done, the more so the better
    it was. Any stochastic policy of discrete actions learns so, in whole rows.
    """

    class Config(PartConfig):
        alpha: float = Field(
            10.0, gt=0, description="how close to the data the policy stays, in units of reward"
        )
        gamma: float = Field(0.99, ge=0, le=1, description="discount per environment step")
        lr: float = Field(5e-4, gt=0, description="learning rate of the policy")
        critic_lr: float = Field(5e-4, gt=0, description="learning rate of the values")
        weight_decay: float = Field(0.0, ge=0, description="AdamW's, of the policy's weights")
        critic_weight_decay: float = Field(0.0, ge=0, description="AdamW's, of the values' weights")
        target_rate: float = Field(
            0.005,
            gt=0,
            le=1,
            description="share of the online weights that goes into the target networks at each update",
        )
        entropy_coef: float = Field(0.0, ge=0, description="weight of the policy's entropy")
        value_hidden: Widths = Field([256, 256], description="widths of the values' layers")
        mix_hidden: int = Field(64, ge=1, description="width of the layer that weighs agents")
        grad_norm_clip: float = Field(
            1.0, gt=0, description="largest norm of the policy's, and of the values', gradient"
        )

    on_policy: ClassVar[bool] = False

    def __init__(
        self, config: Config, spec: EnvSpec, *, policy: StochasticPolicy, device: torch.device
    ) -> None:
        super().__init__(device)
        if spec.action_shape:
            raise ConfigError(
                "learner omiga values each of a number of actions; this environment's are vectors. Choose "
                "learner=bc, or an environment with discrete actions."
            )
        self.config, self.policy = config, policy.to(device)
        self.values = Values(spec, config.value_hidden, config.mix_hidden).to(device)
        self.target_values = frozen_copy(self.values)
        self.modules = {
            "policy": self.policy,
            "values": self.values,
            "target_values": self.target_values,
        }
        self.optimisers = [
            AdamW(policy.parameter_groups(), lr=config.lr, weight_decay=config.weight_decay),
            AdamW(
                self.values.parameters(),
                lr=config.critic_lr,
                weight_decay=config.critic_weight_decay,
            ),
        ]

    def update(self, batch: EpisodeBatch, t_env: int) -> dict[str, Tensor]:
        """One gradient step of values and policy, both by the networks of before the step."""
        config = self.config
        # Rows of the entries that exist: M steps, and the B entries after the last ones.
        packing = Packing.of(batch.lengths + 1, batch.max_t + 1, self.device)
        steps, after = packing.previous, slice(batch.batch_size, None)
        obs, state = packing.pack(batch.obs), packing.pack(batch.state)
        place = packing.previous_step
        actions = batch.actions.flatten(0, 1).index_select(0, place)  # (M, N)
        reward, terminated = (x.flatten()[place] for x in (batch.reward, batch.terminated))

        online, target = self.values, self.target_values
        with torch.no_grad():
            weight, bias = target.mixer(state)  # (P, N), (P, 1)
            v_next = target.v(obs[after]).squeeze(-1)
            following = team_value(weight[after], bias[after], v_next)
            y = td_target(reward, terminated, following, config.gamma)  # (M, 1)
            q_judge = of_actions(target.q(obs[steps]), actions)  # (M, N)
            weight = weight[steps]
        online_weight, online_bias = online.mixer(state[steps])
        q_taken = of_actions(online.q(obs[steps]), actions)
        q_tot = team_value(online_weight, online_bias, q_taken)
        value = online.v(obs[steps]).squeeze(-1)
        z = scaled_advantage(weight, q_judge, value, config.alpha)
        # The dead are in both: their one action is what their value is to be.
        losses = {
            "q": (q_tot - y).square().mean(),
            "v": local_value_loss(z, weight, value, config.alpha).mean(),
        }
        of_policy, entropy = self._policy_losses(batch, packing, z.detach().exp())
        weights = {"q": 1.0, "v": 1.0, "policy": 1.0, **self.policy.loss_weights}
        losses |= of_policy
        loss = weighted_sum(losses, weights) - config.entropy_coef * entropy
        norm = self.descend(torch.as_tensor(loss), losses, self.optimisers, config.grad_norm_clip)
        with torch.no_grad():
            for kept, new in zip(target.parameters(), online.parameters(), strict=True):
                kept.lerp_(new, config.target_rate)
        return {
            "loss": torch.as_tensor(loss),
            **{f"loss_{name}": part for name, part in losses.items()},
            "grad_norm": norm,
            "entropy": entropy,
            "td_error_abs": (q_tot - y).abs().mean(),
            "target_mean": y.mean(),
            "advantage_abs": (q_judge - value).abs().mean(),
            "weight_max": z.detach().max().exp(),
        }

    def _policy_losses(
        self, batch: EpisodeBatch, packing: Packing, weight: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """What the policy descends, by name, and its entropy; ``weight`` (M, N) of each agent's action."""
        (B, T), N = batch.reward.shape, weight.shape[-1]
        padded = weight.new_zeros(B * T, N).index_copy(0, packing.previous_step, weight)
        cutting, _, chunks = self.policy.rows_of(batch)
        evaluation = self.policy.evaluate(chunks)
        active = chunks.alive & cutting.filled[..., None]
        gain = cutting.take(padded.view(B, T, N)) * evaluation.log_prob.sum(dim=-1)
        losses = {"policy": -masked_mean(gain, active), **evaluation.losses}
        return losses, masked_mean(evaluation.entropy.sum(dim=-1), active)
