"""Diagonal Gaussians and the divergences between them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# Means lie within +-5, log-variances within (-8, 2): wide enough for latents pulled to N(0, I).
MEAN_BOUND, LOW_LOGVAR = 5.0, -8.0
LOW_MEAN = -MEAN_BOUND
BOUND = 10.0
"""Width of the range of both, so that one sigmoid serves them."""
SLOPE = 4 / BOUND
"""Of what enters the sigmoid: its output then has slope 1 in the middle."""


class Gaussian(NamedTuple):
    """Diagonal Gaussian over the last axis."""

    mean: Tensor
    logvar: Tensor

    @classmethod
    def of(cls, parameters: Tensor) -> Gaussian:
        """From a network's output (..., 2z): means, then log-variances, both kept in bounds.

        Choice: sigmoids keep them there. A posterior that feeds on its own last sample otherwise runs away
        before it has learnt anything (with random weights its scan can grow at every step of the episode),
        and the mixer, whose weights depend on it, follows.
        """
        z = parameters.shape[-1] // 2
        low = parameters.new_tensor((LOW_MEAN, LOW_LOGVAR)).repeat_interleave(z)
        # In the middle, where networks start: mean 0, standard deviation 0.22.
        bounded = torch.add(low, parameters.mul(SLOPE).sigmoid_(), alpha=BOUND)
        return cls(*bounded.chunk(2, dim=-1))

    def sample(self, noise: Tensor) -> Tensor:
        """Reparametrised sample from standard normal ``noise`` (..., z)."""
        return torch.addcmul(self.mean, self.logvar.mul(0.5).exp_(), noise)

    def detach(self) -> Gaussian:
        """The same distribution without gradient."""
        return Gaussian(self.mean.detach(), self.logvar.detach())


def bounded_mean(parameters: Tensor) -> Tensor:
    """The mean of :meth:`Gaussian.of` from its half (..., z) of the parameters."""
    return parameters.mul(SLOPE).sigmoid().mul(BOUND).add(LOW_MEAN)


def kl_divergence(q: Gaussian, p: Gaussian) -> Tensor:
    """``KL(q || p)`` per dimension: ``(log v_p - log v_q + (v_q + (m_q - m_p)^2) / v_p - 1) / 2``."""
    spread = (q.logvar - p.logvar).exp()
    distance = (q.mean - p.mean).square() * (-p.logvar).exp()
    return 0.5 * (spread + distance + p.logvar - q.logvar - 1)


def kl_standard_normal(q: Gaussian) -> Tensor:
    """``KL(q || N(0, I))`` per dimension."""
    return 0.5 * (q.logvar.exp() + q.mean.square() - q.logvar - 1)


def balanced_kl(q: Gaussian, p: Gaussian, alpha: float) -> Tensor:
    """KL divergence per dimension that moves posterior and prior at different rates.

    ``alpha KL(q || sg(p)) + (1 - alpha) KL(sg(q) || p)`` (Wang and Meger, 2024, section 4; Hafner et al.,
    2021): with alpha < 0.5 the prior p learns faster than the posterior q is pulled towards it.
    """
    to_posterior = kl_divergence(q, p.detach())
    to_prior = kl_divergence(q.detach(), p)
    return alpha * to_posterior + (1 - alpha) * to_prior
