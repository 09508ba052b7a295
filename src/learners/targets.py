"""What values are compared with: one-step and lambda-returns, as pure functions.

Axes: M steps of any episodes, or B episodes of T steps; K values of each, 1 for the team or N.
"""

from __future__ import annotations

import torch
from torch import Tensor

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
