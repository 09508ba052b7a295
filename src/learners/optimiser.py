"""The optimisers of value learning, as keys of a learner."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from ..registry import PartConfig


class OptimiserConfig(PartConfig):
    """How a learner descends."""

    lr: float = Field(5e-4, gt=0, description="learning rate")
    optim: Literal["rmsprop", "adam"] = Field("rmsprop", description="optimiser")
    optim_alpha: float = Field(0.99, ge=0, lt=1, description="smoothing of RMSprop")
    optim_eps: float = Field(1e-5, gt=0, description="term that keeps the optimiser stable")
    grad_norm_clip: float = Field(10.0, gt=0, description="largest norm of the whole gradient")


def make_optimiser(
    config: OptimiserConfig, parameters: Iterable[nn.Parameter], lr: float
) -> torch.optim.Optimizer:
    """The optimiser that ``config`` names, of ``parameters``."""
    if config.optim == "adam":
        return torch.optim.Adam(parameters, lr=lr, eps=config.optim_eps)
    return torch.optim.RMSprop(parameters, lr=lr, alpha=config.optim_alpha, eps=config.optim_eps)
