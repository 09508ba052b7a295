"""Running scale of returns, so that a critic learns values of about unit size."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ValueNorm(nn.Module):
    """Mean and spread of all returns so far, debiased (the ValueNorm of MAPPO, Yu et al., 2022).

    Everything is kept in buffers, so checkpoints hold it.

    Args:
        beta: weight of the past in every update.
    """

    mean: Tensor
    mean_square: Tensor
    debias: Tensor

    def __init__(self, beta: float = 0.99999) -> None:
        super().__init__()
        self.beta = beta
        for name in ("mean", "mean_square", "debias"):
            # float64: increments of 1e-5 would drown in the rounding of a large float32 mean.
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def update(self, returns: Tensor) -> None:
        """Take account of ``returns``, any shape."""
        x = returns.double()
        for kept, new in (
            (self.mean, x.mean()),
            (self.mean_square, x.square().mean()),
            (self.debias, torch.ones_like(self.debias)),
        ):
            kept.mul_(self.beta).add_(new, alpha=1 - self.beta)

    def normalise(self, x: Tensor) -> Tensor:
        """Into the critic's units."""
        mu, std = self.moments()
        return ((x - mu) / std).to(x.dtype)

    def denormalise(self, y: Tensor) -> Tensor:
        """Back into units of reward."""
        mu, std = self.moments()
        return (y * std + mu).to(y.dtype)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation; 0 and 0.1 before the first update."""
        share = self.debias.clamp(min=1e-5)
        mu = self.mean / share
        return mu, (self.mean_square / share - mu.square()).clamp(min=1e-2).sqrt()


class PopArt(ValueNorm):
    """ValueNorm that corrects the critic's last layer, so that an update leaves its values unchanged.

    Preserving Outputs Precisely while Adaptively Rescaling Targets (van Hasselt et al., 2016).

    Args:
        layer: the critic's last layer.
    """

    def __init__(self, layer: nn.Linear, beta: float = 0.99999) -> None:
        super().__init__(beta)
        self._layer = [layer]  # in a list: its parameters are the critic's, not this module's

    @torch.no_grad()
    def update(self, returns: Tensor) -> None:
        """Take account of ``returns``, and rescale the layer."""
        mu_old, std_old = self.moments()
        super().update(returns)
        mu, std = self.moments()
        (layer,) = self._layer
        layer.weight.mul_((std_old / std).to(layer.weight.dtype))
        layer.bias.copy_((std_old * layer.bias + mu_old - mu) / std)


class NoValueNorm(ValueNorm):
    """Values in units of reward."""

    def update(self, returns: Tensor) -> None:
        """Nothing to keep."""

    def normalise(self, x: Tensor) -> Tensor:
        """x."""
        return x

    def denormalise(self, y: Tensor) -> Tensor:
        """y."""
        return y
