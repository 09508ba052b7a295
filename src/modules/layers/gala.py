"""Symmetric graph auto-encoder: Laplacian smoothing to encode, Laplacian sharpening to decode.

Park et al., 2019, as used by Wang and Meger, 2024. Axes: R rows (moments of episodes), N nodes (agents), F
features, Z code. The number of parameters does not depend on N.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def smoothing(graph: Tensor) -> Tensor:
    """``D^-1/2 (G + I) D^-1/2`` with ``D = diag(rowsum(G + I))``, for graphs G (..., N, N)."""
    eye = torch.eye(graph.shape[-1], device=graph.device, dtype=graph.dtype)
    scale = (graph.sum(dim=-1) + 1).rsqrt()
    return scale[..., :, None] * (graph + eye) * scale[..., None, :]


def sharpening(graph: Tensor) -> Tensor:
    """``D^-1/2 (2I - G) D^-1/2`` with ``D = diag(2 + rowsum(G))``: spectral radius at most 1."""
    eye = torch.eye(graph.shape[-1], device=graph.device, dtype=graph.dtype)
    scale = (graph.sum(dim=-1) + 2).rsqrt()
    return scale[..., :, None] * (2 * eye - graph) * scale[..., None, :]


class Operators(NamedTuple):
    """What a graph does to node features: both (R, N, N), without gradient."""

    smooth: Tensor
    sharpen: Tensor

    @classmethod
    def of(cls, graph: Tensor) -> Operators:
        """Operators of graphs (R, N, N)."""
        return cls(smoothing(graph), sharpening(graph))


class GraphLayer(nn.Module):
    """``S X W + b`` for an operator S of the graph.

    Choice: the layer has a bias, which the papers' formula leaves out. Without it the network would be
    homogeneous in its input, and a log-variance could only grow with the features.
    """

    def __init__(self, features: int, out: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out, features))
        self.bias = nn.Parameter(torch.zeros(out)) if bias else None
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # as torch.nn.Linear

    def forward(self, x: Tensor, operator: Tensor) -> Tensor:
        """(R, N, out) for x (R, N, features) and operator (R, N, N)."""
        out, features = self.weight.shape
        if features <= out:  # the operator goes where the features are fewer
            return F.linear(torch.bmm(operator, x), self.weight, self.bias)
        y = F.linear(x, self.weight)
        return (
            torch.bmm(operator, y) if self.bias is None else torch.baddbmm(self.bias, operator, y)
        )


class GALA(nn.Module):
    """Graph auto-encoder that reconstructs the features of the nodes.

    Args:
        features: F, what is encoded and reconstructed.
        hidden: width between the two layers of encoder and decoder.
        code: Z' of the encoder's output; mean and log-variance stand side by side in it.
        latent: Z of the decoder's input.
        recurrent: the encoder also sees the latent of the step before, and the decoder can reconstruct
            that as well.
    """

    def __init__(
        self, features: int, hidden: int, code: int, latent: int, *, recurrent: bool = False
    ) -> None:
        super().__init__()
        self.first = GraphLayer(features, hidden)
        self.first_latent = GraphLayer(latent, hidden, bias=False) if recurrent else None
        self.second = GraphLayer(hidden, code)
        self.third = GraphLayer(latent, hidden)
        # The last layer's operator is applied in expand(), once for all that is reconstructed.
        self.fourth = nn.Linear(hidden, features)
        self.fourth_latent = nn.Linear(hidden, latent) if recurrent else None

    def project(self, x: Tensor, operators: Operators) -> Tensor:
        """The part (R, N, hidden) of the first layer, before its activation, that x (R, N, F) makes."""
        y: Tensor = self.first(x, operators.smooth)
        return y

    def code(self, projected: Tensor, smooth: Tensor, latent: Tensor | None = None) -> Tensor:
        """Code (R, N, Z') from the first layer, completed by the latent (R, N, Z) of the step before."""
        if self.first_latent is not None and latent is not None:
            projected = projected + self.first_latent(latent, smooth)
        y: Tensor = self.second(torch.relu(projected), smooth)
        return y

    def encode(self, x: Tensor, operators: Operators) -> Tensor:
        """Code (R, N, Z') of x (R, N, F)."""
        return self.code(self.project(x, operators), operators.smooth)

    def decode(self, latent: Tensor, operators: Operators) -> Tensor:
        """Features (R, N, F) of latent (R, N, Z)."""
        y: Tensor = self.fourth(self.expand(latent, operators))
        return y

    def decode_both(self, latent: Tensor, operators: Operators) -> tuple[Tensor, Tensor]:
        """Latent of the step before (R, N, Z) and features (R, N, F), where recurrent."""
        assert self.fourth_latent is not None, (
            "only a recurrent auto-encoder knows an earlier latent"
        )
        hidden = self.expand(latent, operators)
        return self.fourth_latent(hidden), self.fourth(hidden)

    def expand(self, latent: Tensor, operators: Operators) -> Tensor:
        """(R, N, hidden) that the last weights are applied to: the decoder up to its last operator."""
        hidden = torch.relu(self.third(latent, operators.sharpen))
        return torch.bmm(operators.sharpen, hidden)
