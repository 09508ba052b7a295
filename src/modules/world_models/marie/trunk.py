"""A causal transformer over tokens: a whole sequence at once, or some tokens at a time with a cache.

Axes: M sequences, L tokens, E width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...layers.attention import Attention, KeyValues, gaussian_linear


class TokenBlock(nn.Module):
    """``x + attention(LN(x))``, then ``x + MLP(LN(x))``, with dropout (Radford et al., 2019).

    Args:
        width: E.
        heads: they divide E.
        dropout: share left out in training, of weights and of what is added.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, width, width, heads, dropout=dropout)
        self.mlp = nn.Sequential(
            gaussian_linear(width, 4 * width), nn.GELU(), gaussian_linear(4 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, cache: KeyValues | None) -> Tensor:
        """(M, L, E) of x (M, L, E), which come after what is in ``cache``."""
        seen = self.norm1(x)
        # A single token sees all that is there.
        causal = x.shape[1] > 1
        x = x + self.dropout(self.attention(seen, seen, causal=causal, cache=cache))
        y: Tensor = x + self.dropout(self.mlp(self.norm2(x)))
        return y


class TokenTrunk(nn.Module):
    """Blocks over tokens whose place in the sequence is learnt, with a norm behind them.

    Args:
        width: E.
        blocks: how many.
        heads: of each.
        positions: most tokens of a sequence.
        dropout: share left out in training.
    """

    def __init__(self, width: int, blocks: int, heads: int, positions: int, dropout: float) -> None:
        super().__init__()
        self.width, self.positions = width, positions
        self.place = nn.Parameter(0.02 * torch.randn(positions, width))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(TokenBlock(width, heads, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)

    def begin(self, sequences: int, device: torch.device, dtype: torch.dtype) -> list[KeyValues]:
        """Empty caches for so many sequences."""
        size = (sequences, self.positions, self.width)
        return [KeyValues(*size, device, dtype) for _ in self.blocks]

    def cache_bytes(self, dtype: torch.dtype) -> int:
        """Bytes that :meth:`begin` takes for one sequence."""
        return 2 * len(self.blocks) * self.positions * self.width * dtype.itemsize

    def forward(self, x: Tensor, caches: list[KeyValues] | None = None) -> Tensor:
        """Features (M, L, E) of embedded tokens (M, L, E), the next ones after those in ``caches``."""
        start = caches[0].length if caches else 0
        x = self.dropout(x + self.place[start : start + x.shape[1]])
        for i, block in enumerate(self.blocks):
            x = block(x, caches[i] if caches else None)
        features: Tensor = self.norm(x)
        return features
