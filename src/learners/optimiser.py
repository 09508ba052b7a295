"""The optimisers of learners: torch's, and keys that choose one for value learning."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from ..registry import PartConfig


class _Eager:
    """Bookkeeping of torch's optimisers as it was written, without the wrappers that keep compilers off it.

    They import torch._dynamo when they are first called: five seconds of CPU at the start of every
    process, for code that is never compiled here. Comes before torch's class among the bases.
    """

    add_param_group: Any = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    load_state_dict: Any = inspect.unwrap(torch.optim.Optimizer.load_state_dict)
    state_dict: Any = inspect.unwrap(torch.optim.Optimizer.state_dict)
    zero_grad: Any = inspect.unwrap(torch.optim.Optimizer.zero_grad)


class Adam(_Eager, torch.optim.Adam):
    """Kingma and Ba, 2015."""

    step: Any = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))


class AdamW(_Eager, torch.optim.AdamW):
    """Loshchilov and Hutter, 2019."""

    step: Any = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


class RMSprop(_Eager, torch.optim.RMSprop):
    """Hinton, Srivastava and Swersky, 2012, lecture 6e."""

    step: Any = torch.no_grad()(inspect.unwrap(torch.optim.RMSprop.step))


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
        return Adam(parameters, lr=lr, eps=config.optim_eps)
    return RMSprop(parameters, lr=lr, alpha=config.optim_alpha, eps=config.optim_eps)


def with_first_rates(groups: Iterable[dict[str, Any]], lr: float) -> list[dict[str, Any]]:
    """Groups that keep the rate they begin with, their own or ``lr``, for :func:`scale_rates`."""
    return [{**group, "initial_lr": group.get("lr", lr)} for group in groups]


def scale_rates(optimisers: Iterable[torch.optim.Optimizer], share: float) -> None:
    """Set every group's learning rate to this share of the one it began with."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group["initial_lr"] * share
