"""How a simulator's numbers become rewards, ends and masks, and what they are compared with in training."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ...layers.symlog import centre_of, symexp, symlog


def soft_bins(target: Tensor, edges: Tensor, sigma: float) -> Tensor:
    """Shares (..., B) of a normal around ``target`` (...) that fall between ``edges`` (B + 1,).

    Histogram losses (Imani and White, 2018; Farebrother et al., 2024). Targets beyond the edges count as
    being there: further out nothing of the normal would be left to share.
    """
    target = target.clamp(float(edges[0]), float(edges[-1]))
    below = torch.special.ndtr((edges - target[..., None]) / sigma)
    shares: Tensor = below.diff(dim=-1) / (below[..., -1:] - below[..., :1])
    return shares


class RewardCode(Protocol):
    """How a reward is read off a network's outputs, ``width`` of them.

    Attributes:
        width: outputs for each reward.
    """

    width: int

    def decode(self, outputs: Tensor) -> Tensor:
        """Rewards (...) of outputs (..., width)."""
        ...

    def loss(self, outputs: Tensor, reward: Tensor) -> Tensor:
        """() mean over rewards (...) of what outputs (..., width) lack."""
        ...


class PlainReward:
    """The reward itself; its error counts squared up to 1 and linear beyond."""

    width = 1

    def decode(self, outputs: Tensor) -> Tensor:
        """See :class:`RewardCode`."""
        return outputs[..., 0]

    def loss(self, outputs: Tensor, reward: Tensor) -> Tensor:
        """See :class:`RewardCode`."""
        return F.smooth_l1_loss(outputs[..., 0], reward)


class BinnedReward:
    """A distribution over bins of the reward's logarithm; the reward is its mean.

    Args:
        bins: how many.
        limit: the bins share out [-limit, limit], in units of ``sign(r) ln(1 + |r|)``.
    """

    SPREAD = 0.75
    """Deviation of what is learnt from, in bins."""

    def __init__(self, bins: int, limit: float) -> None:
        self.width, self._limit = bins, limit

    def decode(self, outputs: Tensor) -> Tensor:
        """See :class:`RewardCode`."""
        places = torch.arange(self.width, device=outputs.device)
        centres = centre_of(places, self.width, -self._limit, self._limit)
        return symexp(outputs.softmax(dim=-1) @ centres)

    def loss(self, outputs: Tensor, reward: Tensor) -> Tensor:
        """See :class:`RewardCode`."""
        edges = torch.linspace(-self._limit, self._limit, self.width + 1, device=outputs.device)
        shares = soft_bins(symlog(reward), edges, self.SPREAD * 2 * self._limit / self.width)
        return F.cross_entropy(outputs.flatten(0, -2), shares.flatten(0, -2))


def sampled(logits: Tensor, generator: torch.Generator) -> Tensor:
    """One draw (...) int64 from the softmax of each row of logits (..., V)."""
    # One uniform number a row; an exponential one for each logit took a sixth of the time of imagining.
    upto = logits.softmax(dim=-1).cumsum(dim=-1)
    draws = torch.rand(*logits.shape[:-1], 1, generator=generator, device=logits.device)
    return (upto <= draws * upto[..., -1:]).sum(dim=-1).clamp(max=logits.shape[-1] - 1)


def sampled_masks(probability: Tensor, generator: torch.Generator) -> Tensor:
    """(..., A) bool drawn with these probabilities (..., A), the likeliest true where none was drawn."""
    draws = torch.rand(probability.shape, generator=generator, device=probability.device)
    mask = draws < probability
    likeliest = F.one_hot(probability.argmax(dim=-1), probability.shape[-1]).bool()
    return torch.where(mask.any(dim=-1, keepdim=True), mask, likeliest)
