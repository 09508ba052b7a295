"""What an agent's sequence is told of the others: attention to the tokens of all (Jaegle et al., 2022).

Axes: M moments, N agents, P tokens of an agent, E width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...layers.attention import Attention, gaussian_linear


class GatedLayers(nn.Module):
    """``E -> 4E -> E`` with a gate in the middle (GEGLU; Shazeer, 2020)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.enter = gaussian_linear(width, 8 * width)
        self.leave = gaussian_linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(..., E) of x (..., E)."""
        value, gate = self.enter(x).chunk(2, dim=-1)
        y: Tensor = self.dropout(self.leave(value * F.gelu(gate)))
        return y


class Look(nn.Module):
    """Attention and a gated layer, both residual; of rows to themselves, or to another source."""

    def __init__(self, width: int, heads: int, head_dim: int, dropout: float, other: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.norm_source = nn.LayerNorm(width) if other else None
        self.attention = Attention(width, width, heads * head_dim, heads, dropout=dropout)
        self.layers = GatedLayers(width, dropout)

    def forward(self, x: Tensor, source: Tensor | None = None) -> Tensor:
        """(M, L, E) of x (M, L, E), which look at ``source`` (M, S, E), default themselves."""
        seen = self.norm1(x)
        if source is None:
            source = seen
        elif self.norm_source is not None:
            source = self.norm_source(source)
        x = x + self.attention(seen, source)
        y: Tensor = x + self.layers(self.norm2(x))
        return y


class Perceiver(nn.Module):
    """One vector for each agent of all agents' tokens.

    Args:
        width: E.
        agents: N.
        tokens: P.
        heads: of the attention. head_dim: width of each.
        depth: layers in which the agents' vectors look at each other.
        slots: tokens carry their place among the agent's own; else they are a bag.
        dropout: share left out in training.
        scale: first size of the agents' vectors and of what tells agents and places apart, the tokens':
            much larger, as published, they drown the tokens for hundreds of updates.
    """

    agent_places: Tensor

    def __init__(
        self,
        width: int,
        agents: int,
        tokens: int,
        heads: int,
        head_dim: int,
        depth: int,
        slots: bool,
        dropout: float,
        scale: float,
    ) -> None:
        super().__init__()
        self.latents = nn.Parameter(scale * torch.randn(agents, width))
        self.slots = nn.Parameter(scale * torch.randn(tokens, width)) if slots else None
        self.register_buffer("agent_places", scale * sinusoid(agents, width), persistent=False)
        self.cross = Look(width, heads, head_dim, dropout, other=True)
        self.depth = nn.ModuleList(
            Look(width, heads, head_dim, dropout, other=False) for _ in range(depth)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """(M, N, E) of tokens (M, N, P, E)."""
        tokens = tokens + self.agent_places[:, None]
        if self.slots is not None:
            tokens = tokens + self.slots
        x: Tensor = self.cross(self.latents.expand(len(tokens), -1, -1), tokens.flatten(1, 2))
        for look in self.depth:
            x = look(x)
        return x


def sinusoid(rows: int, width: int) -> Tensor:
    """(rows, width) sines, then cosines, of places 0, 1, ... (Vaswani et al., 2017)."""
    half = (width + 1) // 2
    rate = torch.exp(torch.arange(half) * (-math.log(10_000.0) / max(half - 1, 1)))
    angle = torch.arange(rows)[:, None] * rate
    return torch.cat([angle.sin(), angle.cos()], dim=1)[:, :width]
