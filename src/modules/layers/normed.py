"""Layers as policy gradients like them: orthogonal weights, and a layer norm behind every activation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

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


def normed_mlp(inputs: int, widths: Sequence[int], activation: Activation) -> nn.Sequential:
    """``LN(inputs) -> [linear, activation, LN] x layers``; the last width is what comes out."""
    layers: list[nn.Module] = [nn.LayerNorm(inputs)]
    for width in widths:
        layers += [
            linear(inputs, width, HIDDEN_GAIN),
            ACTIVATIONS[activation](),
            nn.LayerNorm(width),
        ]
        inputs = width
    return nn.Sequential(*layers)


class ActionHead(nn.Module):
    """From features to a distribution's outputs (see ``EnvSpec.policy_outputs``).

    Discrete actions get one logit each. Continuous ones get a mean each from the features, and a scale
    each that depends on nothing.

    Args:
        features: width of what comes in.
        outputs: K.
        continuous: whether actions are.
        gain: of the weights; small, so that all actions are alike to begin with.
        initial_scale: where the scales begin.
    """

    def __init__(
        self,
        features: int,
        outputs: int,
        *,
        continuous: bool,
        gain: float = 0.01,
        initial_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.outputs = outputs
        self.linear = linear(features, outputs // 2 if continuous else outputs, gain)
        self.scale = (
            nn.Parameter(torch.full((outputs // 2,), initial_scale)) if continuous else None
        )

    def forward(self, features: Tensor) -> Tensor:
        """Outputs (..., K) of features (..., H)."""
        return self.with_scale(self.linear(features))

    def with_scale(self, means: Tensor) -> Tensor:
        """Outputs (..., K) of what depends on the features."""
        if self.scale is None:
            return means
        return torch.cat([means, self.scale.expand_as(means)], dim=-1)
