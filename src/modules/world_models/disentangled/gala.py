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

from ...layers.gaussian import Gaussian
from ...layers.packing import Packing
from .parts import linear_of_parts
from .scan import graph_scan


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
    """``S X W + X U + b`` for an operator S of the graph.

    Choices: the layer has a bias, which the papers' formula leaves out. Without it the network would be
    homogeneous in its input, and a log-variance could only grow with the features. And it has weights U for
    the node's own row: no weights shared by the nodes undo an operator that is nearly singular, as the
    smoothing of small graphs is, so that without U the network cannot tell smoothed nodes apart.

    Args:
        features: F of X. out: width of the result.
        own_rows: with U; without it the layer is that of the papers.
    """

    def __init__(self, features: int, out: int, *, bias: bool = True, own_rows: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out, features))
        self.own = nn.Parameter(torch.empty(out, features)) if own_rows else None
        self.bias = nn.Parameter(torch.zeros(out)) if bias else None
        for weight in (self.weight, self.own):
            if weight is not None:
                nn.init.kaiming_uniform_(weight, a=math.sqrt(5))  # as torch.nn.Linear

    def own_or_zeros(self) -> Tensor:
        """U (out, features), zeros where there is none."""
        return torch.zeros_like(self.weight) if self.own is None else self.own

    def forward(self, x: Tensor, operator: Tensor) -> Tensor:
        """(R, N, out) for x (R, N, features) and operator (R, N, N)."""
        out, features = self.weight.shape
        if features <= out:  # the operator goes where the features are fewer
            y = F.linear(torch.bmm(operator, x).flatten(0, 1), self.weight, self.bias)
            if self.own is not None:
                y = y.addmm_(x.flatten(0, 1), self.own.t())
            return y.view(*x.shape[:2], -1)
        y = F.linear(x, self.weight)
        if self.own is not None:
            return F.linear(x, self.own, self.bias).baddbmm_(operator, y)
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
        own_rows: every layer also has weights for the node's own row, see :class:`GraphLayer`.
    """

    def __init__(
        self,
        features: int,
        hidden: int,
        code: int,
        latent: int,
        *,
        recurrent: bool = False,
        own_rows: bool = True,
    ) -> None:
        super().__init__()
        own = {"own_rows": own_rows}
        self.first = GraphLayer(features, hidden, **own)
        self.first_latent = GraphLayer(latent, hidden, bias=False, **own) if recurrent else None
        self.second = GraphLayer(hidden, code, **own)
        self.third = GraphLayer(latent, hidden, **own)
        # The last layer's operator is applied in expand(), once for all that is reconstructed.
        self.own_rows = own_rows
        width = 2 * hidden if own_rows else hidden
        self.fourth = nn.Linear(width, features)
        self.fourth_latent = nn.Linear(width, latent) if recurrent else None

    def project(self, x: Tensor, operators: Operators) -> Tensor:
        """The part (R, N, hidden) of the first layer, before its activation, that x (R, N, F) makes."""
        y: Tensor = self.first(x, operators.smooth)
        return y

    def scan(
        self, projected: Tensor, smooth: Tensor, noise: Tensor | None, packing: Packing
    ) -> tuple[Gaussian, Tensor]:
        """Posteriors and samples, or means, of packed rows that each see the one before, where recurrent.

        Args:
            projected: (P, N, hidden) of :meth:`project`. smooth: (P, N, N). noise: (P, N, Z) or None.
            packing: of the P rows.
        """
        entering, leaving = self.first_latent, self.second
        assert entering is not None, "only a recurrent auto-encoder sees an earlier latent"
        assert leaving.bias is not None
        inner = (entering.weight, entering.own_or_zeros())
        outer = (leaving.weight, leaving.own_or_zeros(), leaving.bias)
        return graph_scan(projected, smooth, noise, inner, outer, packing)

    def encode(self, x: Tensor, operators: Operators) -> Tensor:
        """Code (R, N, Z') of x (R, N, F)."""
        y: Tensor = self.second(torch.relu(self.project(x, operators)), operators.smooth)
        return y

    def decode(self, latent: Tensor, operators: Operators, onto: Tensor | None = None) -> Tensor:
        """Features (R, N, F) of latent (R, N, Z); ``onto`` (R, N, F) takes the place of the bias."""
        return _last(self.fourth, self.expand(latent, operators), onto)

    def decode_change(self, before: Tensor, after: Tensor, operators: Operators) -> Tensor:
        """``decode(after) - decode(before)`` (R, N, F): the last weights are applied once."""
        pairs = zip(self.expand(after, operators), self.expand(before, operators), strict=True)
        return _last(self.fourth, [new - old for new, old in pairs], after.new_zeros(1, 1, 1))

    def decode_both(self, latent: Tensor, operators: Operators) -> tuple[Tensor, Tensor]:
        """Latent of the step before (R, N, Z) and features (R, N, F), where recurrent."""
        assert self.fourth_latent is not None, (
            "only a recurrent auto-encoder knows an earlier latent"
        )
        parts = self.expand(latent, operators)
        return _last(self.fourth_latent, parts), _last(self.fourth, parts)

    def expand(self, latent: Tensor, operators: Operators) -> list[Tensor]:
        """What the last weights are applied to, in parts: the decoder up to its last operator.

        (R, N, hidden) sharpened, and with own rows another of the nodes' own.
        """
        hidden = torch.relu(self.third(latent, operators.sharpen))
        sharpened = torch.bmm(operators.sharpen, hidden)
        return [sharpened, hidden] if self.own_rows else [sharpened]


def _last(layer: nn.Linear, parts: list[Tensor], onto: Tensor | None = None) -> Tensor:
    """``layer`` (R, N, out) of what :meth:`GALA.expand` gives."""
    base = None if onto is None else onto.flatten(0, 1)
    rows = linear_of_parts(layer, [part.flatten(0, 1) for part in parts], base)
    return rows.view(*parts[0].shape[:2], -1)
