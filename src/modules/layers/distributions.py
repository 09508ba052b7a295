"""Distributions over actions, read off a network's outputs.

Axes: K outputs of the network for one agent, A discrete actions, D dimensions of a continuous one, F = 1
(discrete) or D (continuous): log-probabilities and entropies come per dimension.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ...envs.protocol import Discrete, EnvSpec

MASKED = -1e10
"""Logit of an action that is not available: no probability, no infinities in the entropy."""


class ActionDistribution(Protocol):
    """How outputs (..., K) of a network are read. Masks are (..., A), A = 0 where continuous."""

    def offsets(self, like: Tensor, avail: Tensor, generator: torch.Generator | None) -> Tensor:
        """What makes actions of outputs shaped ``like`` (..., K), in one draw: chance, and the mask.

        Args:
            generator: draws; None leaves the most likely actions.
        """
        ...

    def choose(self, outputs: Tensor, offsets: Tensor) -> Tensor:
        """Actions, (...) int64 or (..., D), of outputs (..., K) and what :meth:`offsets` gave for them."""
        ...

    def log_prob(self, outputs: Tensor, avail: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of ``actions`` and entropies, (..., F) each."""
        ...


class MaskedCategorical:
    """One of A actions, among the available ones."""

    def offsets(self, like: Tensor, avail: Tensor, generator: torch.Generator | None) -> Tensor:
        """(..., A) Gumbel noise: the largest of logits plus it is a draw from their softmax."""
        if generator is None:
            return torch.zeros_like(like).masked_fill_(~avail, MASKED)
        uniform = torch.rand(like.shape, device=like.device, generator=generator)
        noise = uniform.clamp_(1e-20, 1 - 1e-7).log_().neg_().log_().neg_()
        return noise.masked_fill_(~avail, MASKED)

    def choose(self, outputs: Tensor, offsets: Tensor) -> Tensor:
        """(...) int64."""
        return (outputs + offsets).argmax(dim=-1)

    def log_prob(self, outputs: Tensor, avail: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """(..., 1) each."""
        log_p = F.log_softmax(outputs.masked_fill(~avail, MASKED), dim=-1)
        entropy = -(log_p.exp() * log_p.masked_fill(~avail, 0.0)).sum(dim=-1, keepdim=True)
        return log_p.gather(-1, actions[..., None]), entropy


class DiagonalGaussian:
    """Real vectors; outputs are D means and D scales s, the deviation is ``0.5 * sigmoid(s)``."""

    def offsets(self, like: Tensor, avail: Tensor, generator: torch.Generator | None) -> Tensor:
        """(..., D), standard normal."""
        shape = (*like.shape[:-1], like.shape[-1] // 2)
        if generator is None:
            return like.new_zeros(shape)
        return torch.randn(shape, device=like.device, generator=generator)

    def choose(self, outputs: Tensor, offsets: Tensor) -> Tensor:
        """(..., D)."""
        mean, std = self._of(outputs)
        return mean + std * offsets

    def log_prob(self, outputs: Tensor, avail: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """(..., D) each."""
        mean, std = self._of(outputs)
        log_std = std.log()
        log_p = -0.5 * ((actions - mean) / std).square() - log_std - 0.5 * math.log(2 * math.pi)
        return log_p, 0.5 + 0.5 * math.log(2 * math.pi) + log_std

    @staticmethod
    def _of(outputs: Tensor) -> tuple[Tensor, Tensor]:
        mean, scale = outputs.chunk(2, dim=-1)
        return mean, 0.5 * torch.sigmoid(scale)


def distribution_of(spec: EnvSpec) -> ActionDistribution:
    """How the outputs of an agent's network are read for the actions of ``spec``."""
    return MaskedCategorical() if isinstance(spec.action, Discrete) else DiagonalGaussian()
