"""Distributions over actions, read off a network's outputs.

Axes: K outputs of the network for one agent, A entries of its mask, C discrete actions, D dimensions of a
real vector, F = 1 (discrete), D (continuous) or 1 + D (mixed): log-probabilities and entropies come one for
the choice and one per dimension.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ...envs.protocol import EnvSpec

MASKED = -1e10
"""Logit of an action that is not available: no probability, no infinities in the entropy."""


class ActionDistribution(Protocol):
    """How outputs (..., K) of a network are read, under masks (..., A), see ``EnvSpec.mask_dim``."""

    def offsets(self, like: Tensor, avail: Tensor, generator: torch.Generator | None) -> Tensor:
        """What makes actions of outputs shaped ``like`` (..., K), in one draw: chance, and the mask.

        Args:
            generator: draws; None leaves the most likely actions.
        """
        ...

    def choose(self, outputs: Tensor, offsets: Tensor) -> Tensor:
        """Actions (..., *action_shape) of outputs (..., K) and what :meth:`offsets` gave for them."""
        ...

    def log_prob(self, outputs: Tensor, avail: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of ``actions`` and entropies, (..., F) each."""
        ...

    def kl(self, p: Tensor, q: Tensor, avail: Tensor) -> Tensor:
        """Divergence KL(p || q) (..., F) of the distributions that outputs p and q (..., K) give."""
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

    def kl(self, p: Tensor, q: Tensor, avail: Tensor) -> Tensor:
        """(..., 1)."""
        log_p, log_q = (F.log_softmax(x.masked_fill(~avail, MASKED), dim=-1) for x in (p, q))
        gap = (log_p - log_q).masked_fill(~avail, 0.0)
        return (log_p.exp() * gap).sum(dim=-1, keepdim=True)


class DiagonalGaussian:
    """Real vectors; outputs are D means and D scales s, the deviation is ``0.5 * sigmoid(s)``.

    Masks are (..., D), or (..., 0) where everyone has all dimensions; one that is masked is always 0 and
    counts for nothing.
    """

    def offsets(self, like: Tensor, avail: Tensor, generator: torch.Generator | None) -> Tensor:
        """(..., D), standard normal; not a number where there is no such dimension."""
        shape = (*like.shape[:-1], like.shape[-1] // 2)
        if generator is None:
            drawn = like.new_zeros(shape)
        else:
            drawn = torch.randn(shape, device=like.device, generator=generator)
        return drawn.masked_fill_(~avail, math.nan) if avail.shape[-1] else drawn

    def choose(self, outputs: Tensor, offsets: Tensor) -> Tensor:
        """(..., D)."""
        mean, std = self._of(outputs)
        return (mean + std * offsets).masked_fill(offsets.isnan(), 0.0)

    def log_prob(self, outputs: Tensor, avail: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """(..., D) each."""
        mean, std = self._of(outputs)
        log_std = std.log()
        log_p = -0.5 * ((actions - mean) / std).square() - log_std - 0.5 * math.log(2 * math.pi)
        entropy = 0.5 + 0.5 * math.log(2 * math.pi) + log_std
        if avail.shape[-1]:
            log_p, entropy = (x.masked_fill(~avail, 0.0) for x in (log_p, entropy))
        return log_p, entropy

    def kl(self, p: Tensor, q: Tensor, avail: Tensor) -> Tensor:
        """(..., D)."""
        (mean_p, std_p), (mean_q, std_q) = self._of(p), self._of(q)
        spread = (std_p.square() + (mean_p - mean_q).square()) / (2 * std_q.square())
        divergence = (std_q / std_p).log() + spread - 0.5
        return divergence.masked_fill(~avail, 0.0) if avail.shape[-1] else divergence

    @staticmethod
    def _of(outputs: Tensor) -> tuple[Tensor, Tensor]:
        mean, scale = outputs.chunk(2, dim=-1)
        return mean, 0.5 * torch.sigmoid(scale)


class MixedDistribution:
    """One of C choices and, independent of it, a real vector: ``[choice, *vector]``.

    Outputs are C logits, D means and D scales; masks have C entries, then D.

    Args:
        choices: C.
    """

    def __init__(self, choices: int) -> None:
        self._choices = choices
        self._choice, self._vector = MaskedCategorical(), DiagonalGaussian()

    def offsets(self, like: Tensor, avail: Tensor, generator: torch.Generator | None) -> Tensor:
        """(..., C + D)."""
        (logits, moments), (choices, dimensions) = self._split(like), self._split(avail)
        chance = self._choice.offsets(logits, choices, generator)
        return torch.cat([chance, self._vector.offsets(moments, dimensions, generator)], dim=-1)

    def choose(self, outputs: Tensor, offsets: Tensor) -> Tensor:
        """(..., 1 + D)."""
        (logits, moments), (chance, noise) = self._split(outputs), self._split(offsets)
        choice = self._choice.choose(logits, chance)[..., None].to(outputs.dtype)
        return torch.cat([choice, self._vector.choose(moments, noise)], dim=-1)

    def log_prob(self, outputs: Tensor, avail: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """(..., 1 + D) each."""
        (logits, moments), (choices, dimensions) = self._split(outputs), self._split(avail)
        of_choice = self._choice.log_prob(logits, choices, actions[..., 0].long())
        of_vector = self._vector.log_prob(moments, dimensions, actions[..., 1:])
        log_prob, entropy = (torch.cat(p, dim=-1) for p in zip(of_choice, of_vector, strict=True))
        return log_prob, entropy

    def kl(self, p: Tensor, q: Tensor, avail: Tensor) -> Tensor:
        """(..., 1 + D)."""
        (logits_p, moments_p), (logits_q, moments_q) = self._split(p), self._split(q)
        choices, dimensions = self._split(avail)
        of_choice = self._choice.kl(logits_p, logits_q, choices)
        return torch.cat([of_choice, self._vector.kl(moments_p, moments_q, dimensions)], dim=-1)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x[..., : self._choices], x[..., self._choices :]


def distribution_of(spec: EnvSpec) -> ActionDistribution:
    """How the outputs of an agent's network are read for the actions of ``spec``."""
    if not spec.dimensions:
        return MaskedCategorical()
    return MixedDistribution(spec.choices) if spec.choices else DiagonalGaussian()
