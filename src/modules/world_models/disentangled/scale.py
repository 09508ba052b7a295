"""Errors in units of what they are errors of."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def mean_over_living(x: Tensor, living: Tensor | None) -> Tensor:
    """Mean of x (R, N, F) over all dimensions of the agents marked in ``living`` (R, N) bool, or of all.

    Where nobody is marked it is 0.
    """
    if living is None:
        return x.mean()
    total = (x.mean(dim=-1) * living).sum()
    return total / living.sum().clamp(min=1)


class RunningVariance(nn.Module):
    """Moving average of a quantity's variance over the living: errors divided by it are shares of it.

    The variance is taken around the mean of each dimension and averaged over dimensions, so that dimensions
    which hardly vary weigh as little in the units as they do in the error.
    """

    DECAY = 0.99
    ROWS = 256  # of a batch, at most, that an update looks at

    total: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(()))
        self.register_buffer("weight", torch.zeros(()))

    def share(self, guess: Tensor, truth: Tensor, living: Tensor | None) -> Tensor:
        """Share of the variance of ``truth`` (R, N, F) that ``guess`` leaves, over the ``living`` (R, N)."""
        variance = self.update(truth, living)
        return mean_over_living((guess - truth).square(), living) / variance

    @torch.no_grad()
    def update(self, x: Tensor, living: Tensor | None) -> Tensor:
        """Take x (R, N, F) into account; returns the variance so far, never 0."""
        every = max(1, -(-len(x) // self.ROWS))
        variance = variance_of_living(x[::every], None if living is None else living[::every])
        self.total.lerp_(variance, 1 - self.DECAY)
        self.weight.lerp_(torch.ones_like(self.weight), 1 - self.DECAY)
        return (self.total / self.weight).clamp(min=1e-8)


def variance_of_living(x: Tensor, living: Tensor | None) -> Tensor:
    """Variance of x (R, N, F) over the living, around each dimension's mean, averaged over dimensions."""
    if living is None:
        return x.var(dim=(0, 1), correction=0).mean()
    mean = (x * living[..., None]).sum(dim=(0, 1)) / living.sum().clamp(min=1)
    return mean_over_living((x - mean).square(), living)
