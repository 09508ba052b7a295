"""Layers as policy gradients like them: orthogonal weights, and a layer norm behind every activation."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Activation = Literal["relu", "gelu"]
ACTIVATIONS: dict[Activation, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU}
HIDDEN_GAIN = 2**0.5


def linear(inputs: int, outputs: int, gain: float, *, bias: bool = True) -> nn.Linear:
    """A linear layer with orthogonal weights of this gain and no bias to begin with."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.orthogonal_(layer.weight, gain)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


class NormedLinear(nn.Module):
    """``linear(LN(x))`` of rows x put together of parts, without putting them together.

    A row is its parts side by side, and behind them which one of the team it is of, as a one-hot. What all
    agents share is read once for the team. Nothing as wide as x is written: with normalisation's scale g
    and shift c, and mean m and deviation s of x,

        W (g (x - m) / s + c) + b = V x / s + W c + b,  where V is W g less the mean of each of its rows.

    Args:
        parts: width of each part.
        outputs: K.
        agents: N, where rows say which one of the team they are of, else 0.
    """

    def __init__(self, parts: Sequence[int], outputs: int, *, agents: int = 0) -> None:
        super().__init__()
        self._widths, self._agents = [*parts, agents], agents
        inputs = sum(self._widths)
        self.norm = nn.LayerNorm(inputs)
        self.linear = linear(inputs, outputs, HIDDEN_GAIN)

    def forward(self, *parts: Tensor, alive: Tensor | None = None) -> Tensor:
        """(..., N, K) of parts (..., N, I), or (..., 1, I) where all agents share one.

        Args:
            alive: (..., N) bool; the parts of the others count as zeros.
        """
        weight = self.linear.weight * self.norm.weight
        weight = weight - weight.mean(dim=1, keepdim=True)
        *of_parts, of_agents = torch.split(weight, self._widths, dim=1)
        projected = [F.linear(x, w) for x, w in zip(parts, of_parts, strict=True)]
        means = [x.mean(dim=-1, keepdim=True) for x in parts]
        squares = [_square(x - mean) for x, mean in zip(parts, means, strict=True)]
        seen = functools.reduce(torch.add, projected)
        if alive is not None:
            lives = alive[..., None].to(seen.dtype)
            seen = seen * lives
            means, squares = ([x * lives for x in xs] for xs in (means, squares))
        moments: list[Moments] = list(zip(self._widths, means, squares, strict=False))
        if self._agents:
            seen = seen + of_agents.t()
            moments.append((self._agents, 1 / self._agents, 1 - 1 / self._agents))
        scale = (_variance(moments) + self.norm.eps).rsqrt()
        bias = F.linear(self.norm.bias, self.linear.weight, self.linear.bias)
        return torch.addcmul(bias, seen, scale)


def _square(x: Tensor) -> Tensor:
    """(..., 1) squared length."""
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return length.square()


Moments = tuple[int, Tensor | float, Tensor | float]
"""Of a part of a row: its length, mean, and sum of squared deviations from the mean."""


def _variance(moments: list[Moments]) -> Tensor:
    """Variance of rows in parts.

    Nothing large is taken from anything large (Chan et al., 1979).
    """
    (count, mean, total), *others = moments
    for n, of_part, square in others:
        gap = of_part - mean
        total = total + square + gap**2 * (count * n / (count + n))
        mean = mean + gap * (n / (count + n))
        count += n
    return torch.as_tensor(total / count)


class NormedMLP(nn.Module):
    """``LN(x) -> [linear, activation, LN] x layers`` of rows as :class:`NormedLinear` reads them.

    Args:
        parts: width of each part of a row.
        widths: of the layers; the last one is what comes out.
        activation: behind every layer.
        agents: N, where rows say which one of the team they are of, else 0.
    """

    def __init__(
        self,
        parts: Sequence[int],
        widths: Sequence[int],
        activation: Activation,
        *,
        agents: int = 0,
    ) -> None:
        super().__init__()
        self.entry = NormedLinear(parts, widths[0], agents=agents)
        layers: list[nn.Module] = []
        for i, width in enumerate(widths):
            if i:
                layers.append(linear(widths[i - 1], width, HIDDEN_GAIN))
            layers += [ACTIVATIONS[activation](), nn.LayerNorm(width)]
        self.layers = nn.Sequential(*layers)

    def forward(self, *parts: Tensor, alive: Tensor | None = None) -> Tensor:
        """Features (..., N, H), see :meth:`NormedLinear.forward`."""
        features: Tensor = self.layers(self.entry(*parts, alive=alive))
        return features


class ActionHead(nn.Module):
    """From features to a distribution's outputs (see ``EnvSpec.policy_outputs``).

    Choices get one logit each. Dimensions get a mean each from the features, and a scale each that depends
    on nothing.

    Args:
        features: width of what comes in.
        choices: C.
        dimensions: D.
        gain: of the weights; small, so that all actions are alike to begin with.
        initial_scale: where the scales begin.
    """

    def __init__(
        self,
        features: int,
        choices: int,
        dimensions: int,
        *,
        gain: float = 0.01,
        initial_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.linear = linear(features, choices + dimensions, gain)
        self.scale = nn.Parameter(torch.full((dimensions,), initial_scale)) if dimensions else None

    def forward(self, features: Tensor) -> Tensor:
        """Outputs (..., K) of features (..., H)."""
        return self.with_scale(self.linear(features))

    def with_scale(self, computed: Tensor) -> Tensor:
        """Outputs (..., K) of those that depend on the features (..., C + D)."""
        if self.scale is None:
            return computed
        scale = self.scale.expand(*computed.shape[:-1], -1)
        return torch.cat([computed, scale], dim=-1)
