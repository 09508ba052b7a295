"""Advantages and losses of the policy-gradient family, as pure functions.

Axes: B rows of a batch, T steps, N agents, V values per step (1 or N), F dimensions of an action (1 where
discrete). Leading axes of the losses are free.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..data.batch import EpisodeBatch

LOG_RATIO_LIMIT = 20.0
"""Ratios stay within exp(-20) and exp(20) = 5e8: float32 ends at exp(88), products of a few in between."""


def gae(
    reward: Tensor,
    values: Tensor,
    next_values: Tensor,
    goes_on: Tensor,
    gamma: float,
    gae_lambda: float,
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates and returns (Schulman et al., 2016).

    Args:
        reward: (B, T).
        values: (B, T, V) in units of reward.
        next_values: (B, T, V) of what each step led to: 0 after a terminated step, V(last entry) after a
            truncated one or where the row was cut.
        goes_on: (B, T) bool, false at the last step of each row and beyond.

    Returns:
        (B, T, V) each.
    """
    delta = reward[..., None] + gamma * next_values - values
    decay = gamma * gae_lambda * goes_on[..., None].to(delta.dtype)
    advantage = torch.empty_like(delta)
    following = torch.zeros_like(delta[:, 0])
    for t in range(delta.shape[1] - 1, -1, -1):
        following = delta[:, t] + decay[:, t] * following
        advantage[:, t] = following
    return advantage, advantage + values


def bootstrapped(
    batch: EpisodeBatch, values: Tensor, last: Tensor, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """:func:`gae` of the rows of ``batch``, which end where it says.

    Args:
        values: (B, T, V) in units of reward, 0 beyond the ends of rows.
        last: (B, V) value of each row's last entry; it counts where the row did not end with a terminated
            step.

    Returns:
        Advantages and returns (B, T, V).
    """
    final = batch.lengths.to(values.device) - 1
    last = last.masked_fill(batch.terminated.any(dim=1)[:, None], 0.0)
    following = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], dim=1)
    following[torch.arange(batch.batch_size, device=values.device), final] = last
    goes_on = torch.arange(batch.max_t, device=values.device) < final[:, None]
    return gae(batch.reward, values, following, goes_on, gamma, gae_lambda)


def masked_mean(x: Tensor, weight: Tensor) -> Tensor:
    """Mean of ``x`` where ``weight`` (same shape, bool or 0..1) is set; 0 where it never is."""
    weight = weight.to(x.dtype)
    return (x * weight).sum() / weight.sum().clamp(min=1.0)


def normalised(advantage: Tensor, active: Tensor) -> Tensor:
    """``advantage`` minus its mean over its deviation, both over entries where ``active`` is true."""
    some = advantage[active]
    if some.numel() == 0:
        return advantage
    return (advantage - some.mean()) / (some.std(correction=0) + 1e-5)


def ratio_of(log_ratio: Tensor) -> Tensor:
    """exp of ``log_ratio``, kept within what float32 can multiply: exactly exp up to LOG_RATIO_LIMIT.

    An infinite ratio whose objective is clipped has gradient 0, and 0 times infinity is no number. Beyond
    the limit the gradient is 0.
    """
    return log_ratio.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()


def surrogate(
    log_ratio: Tensor, advantage: Tensor, clip: float, *, per_dimension: bool = False
) -> Tensor:
    """PPO's clipped objective (Schulman et al., 2017), to be maximised.

    Args:
        log_ratio: (..., F) new minus old log-probability per dimension of the action.
        advantage: (...).
        per_dimension: clip every dimension's ratio and add the terms up, as MAT's code does; else the ratio
            of the whole action.

    Returns:
        (...).
    """
    if not per_dimension:
        log_ratio = log_ratio.sum(dim=-1, keepdim=True)
    ratio, a = ratio_of(log_ratio), advantage[..., None]
    return torch.min(ratio * a, ratio.clamp(1 - clip, 1 + clip) * a).sum(dim=-1)


def huber(error: Tensor, delta: float) -> Tensor:
    """Squared up to ``delta``, linear beyond, on both sides."""
    size = error.abs()
    return torch.where(size <= delta, 0.5 * size.square(), delta * (size - 0.5 * delta))


def value_loss(
    values: Tensor, old_values: Tensor, target: Tensor, clip: float | None, delta: float | None
) -> Tensor:
    """Elementwise loss of ``values``, all in the critic's units and of the same shape.

    Args:
        clip: how far from ``old_values`` a value may gain by moving; None: anywhere.
        delta: of the Huber loss; None: half the square.
    """

    def loss(error: Tensor) -> Tensor:
        return 0.5 * error.square() if delta is None else huber(error, delta)

    free = loss(target - values)
    if clip is None:
        return free
    near = old_values + (values - old_values).clamp(-clip, clip)
    return torch.max(free, loss(target - near))
