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

    def mode(self, outputs: Tensor, avail: Tensor) -> Tensor:
        """Most likely actions, (...) int64 or (..., D)."""
        ...

    def sample(self, outputs: Tensor, avail: Tensor, noise: Tensor) -> Tensor:
        """Actions made of ``noise``, as :meth:`noise` draws it."""
        ...

    def noise(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Randomness for actions of outputs shaped ``like`` (..., K), in one draw."""
        ...

    def log_prob(self, outputs: Tensor, avail: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of ``actions`` and entropies, (..., F) each."""
        ...


class MaskedCategorical:
    """One of A actions, among the available ones."""

    def mode(self, outputs: Tensor, avail: Tensor) -> Tensor:
        """(...) int64."""
        return outputs.masked_fill(~avail, MASKED).argmax(dim=-1)

    def noise(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Gumbel noise: the largest of logits plus it is a draw from their softmax."""
        uniform = torch.rand(like.shape, device=like.device, generator=generator)
        return -torch.log(-torch.log(uniform.clamp_(1e-20, 1 - 1e-7)))

    def sample(self, outputs: Tensor, avail: Tensor, noise: Tensor) -> Tensor:
        """(...) int64."""
        return (outputs + noise).masked_fill(~avail, MASKED).argmax(dim=-1)

    def log_prob(self, outputs: Tensor, avail: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """(..., 1) each."""
        log_p = F.log_softmax(outputs.masked_fill(~avail, MASKED), dim=-1)
        entropy = -(log_p.exp() * log_p.masked_fill(~avail, 0.0)).sum(dim=-1, keepdim=True)
        return log_p.gather(-1, actions[..., None]), entropy


class DiagonalGaussian:
    """Real vectors; outputs are D means and D scales s, the deviation is ``0.5 * sigmoid(s)``."""

    def mode(self, outputs: Tensor, avail: Tensor) -> Tensor:
        """(..., D), the means."""
        return outputs.chunk(2, dim=-1)[0]

    def noise(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Standard normal, (..., D)."""
        shape = (*like.shape[:-1], like.shape[-1] // 2)
        return torch.randn(shape, device=like.device, generator=generator)

    def sample(self, outputs: Tensor, avail: Tensor, noise: Tensor) -> Tensor:
        """(..., D)."""
        mean, std = self._of(outputs)
        return mean + std * noise

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
