"""What an agent did last, as numbers a network can read."""

from __future__ import annotations

import torch
from torch import Tensor


def one_hot_actions(last_actions: Tensor, n_actions: int) -> Tensor:
    """(..., A) float one-hot of ``last_actions`` (...) plus one; zeros where there was none."""
    marked = torch.zeros(*last_actions.shape, n_actions + 1, device=last_actions.device)
    return marked.scatter_(-1, last_actions[..., None], 1.0)[..., 1:]
