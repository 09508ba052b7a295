"""What values are compared with: one-step and lambda-returns, as pure functions.

Axes: M steps of any episodes, or B episodes of T steps; K values of each, 1 for the team or N.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..data.batch import EpisodeBatch
from ..modules.layers.packing import Packing
from .advantages import gae


def td_target(reward: Tensor, terminated: Tensor, next_value: Tensor, gamma: float) -> Tensor:
    """One-step target ``r + gamma * V(next)``, nothing beyond the end of the task.

    A step that only the clock stopped (truncated, not terminated) is followed by a value like any other.

    Args:
        reward: (M,). terminated: (M,) bool. next_value: (M, K).

    Returns:
        (M, K).
    """
    return reward[:, None] + gamma * next_value.masked_fill(terminated[:, None], 0.0)


def td_lambda_target(
    reward: Tensor,
    terminated: Tensor,
    next_value: Tensor,
    goes_on: Tensor,
    gamma: float,
    td_lambda: float,
) -> Tensor:
    """Lambda-returns ``G_t = r_t + gamma * ((1 - lambda) V(next) + lambda G_(t+1))`` (Sutton, 1988).

    The last step of a row has the one-step target.

    Args:
        reward: (B, T). terminated: (B, T) bool. next_value: (B, T, K) of what each step led to.
        goes_on: (B, T) bool, false at the last step of each row and beyond.

    Returns:
        (B, T, K); what lies beyond a row's end is arbitrary.
    """
    next_value = next_value.masked_fill(terminated[..., None], 0.0)
    # The value of a step is that of what the step before it led to; nothing asks for the first one's.
    value = torch.cat([torch.zeros_like(next_value[:, :1]), next_value[:, :-1]], dim=1)
    return gae(reward, value, next_value, goes_on, gamma, td_lambda)[1]


def targets_of(
    batch: EpisodeBatch, packing: Packing, next_value: Tensor, gamma: float, td_lambda: float
) -> Tensor:
    """(M, K) targets of the steps of ``batch``.

    Args:
        packing: of its entries; its order is that of the steps here.
        next_value: (M, K) of what each step led to.
        td_lambda: 0 are one-step targets.
    """
    place, (B, T), K = packing.previous_step, batch.reward.shape, next_value.shape[-1]
    if not td_lambda:
        reward, terminated = (x.flatten()[place] for x in (batch.reward, batch.terminated))
        return td_target(reward, terminated, next_value, gamma)
    padded = next_value.new_zeros(B * T, K).index_copy(0, place, next_value).view(B, T, K)
    goes_on = batch.filled & torch.cat([batch.filled[:, 1:], batch.filled.new_zeros(B, 1)], dim=1)
    fields = (batch.reward, batch.terminated, padded, goes_on)
    return td_lambda_target(*fields, gamma, td_lambda).flatten(0, 1).index_select(0, place)
