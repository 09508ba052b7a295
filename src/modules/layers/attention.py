"""Scaled dot-product attention, the one layer of that kind, and a cache for what it looks at.

Axes: M rows, L positions that look, S positions that are looked at, D and E their widths, I inner width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MakeLinear = Callable[[int, int], nn.Linear]
"""Makes a linear layer of so many inputs and outputs, with its first weights."""


def gaussian_linear(inputs: int, outputs: int, std: float = 0.02) -> nn.Linear:
    """A linear layer with normal weights and no bias to begin with (Radford et al., 2018)."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=std)
    nn.init.zeros_(layer.bias)
    return layer


class KeyValues:
    """Keys and values of the positions so far, written into room that is made once; holds no gradient.

    Args:
        rows: M.
        positions: most there will be.
        inner: I.
        dtype: what they are kept in.
    """

    def __init__(
        self,
        rows: int,
        positions: int,
        inner: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._room = torch.empty(2, rows, positions, inner, device=device, dtype=dtype)
        self.length = 0

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values so far (M, S, I), those of the next positions (M, L, I) included.

        Raises:
            ValueError: there is no room for them.
        """
        end = self.length + keys.shape[1]
        if end > self._room.shape[2]:
            raise ValueError(
                f"position {end} does not fit into a cache of {self._room.shape[2]} positions: make it larger"
            )
        for room, new in zip(self._room, (keys, values), strict=True):
            room[:, self.length : end] = new
        self.length = end
        return self._room[0, :, :end], self._room[1, :, :end]


class Attention(nn.Module):
    """Attention of queries to keys and values of the same or another sequence (Vaswani et al., 2017).

    Args:
        query_dim: D of what looks, and of what comes out.
        source_dim: width of what is looked at.
        inner: I of queries, keys and values, all heads together.
        heads: they divide I.
        layer: makes the four linear layers: of queries, keys, values and output, in this order.
        dropout: share of the weights that is left out in training.

    Raises:
        ValueError: ``heads`` does not divide ``inner``.
    """

    def __init__(
        self,
        query_dim: int,
        source_dim: int,
        inner: int,
        heads: int,
        layer: MakeLinear = gaussian_linear,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if inner % heads:
            raise ValueError(f"attention: {heads} heads do not divide a width of {inner}")
        self.inner, self.heads, self.dropout = inner, heads, dropout
        self.query = layer(query_dim, inner)
        self.key, self.value = (layer(source_dim, inner) for _ in range(2))
        self.out = layer(inner, query_dim)

    def forward(
        self,
        query: Tensor,
        source: Tensor,
        *,
        causal: bool = False,
        cache: KeyValues | None = None,
    ) -> Tensor:
        """What each position of ``query`` (M, L, D) takes from ``source`` (M, S, E), (M, L, D).

        Args:
            causal: positions look at themselves and earlier ones only.
            cache: what came before ``source`` and is looked at too; it grows by ``source``.
        """
        queries, keys, values = self.query(query), self.key(source), self.value(source)
        if cache is not None:
            keys, values = cache.extend(keys, values)
        L, S = queries.shape[1], keys.shape[1]
        mask = None
        if causal and L != S:
            mask = torch.ones(L, S, dtype=torch.bool, device=keys.device).tril(S - L)
        return self.look(queries, keys, values, mask, causal=causal and L == S)

    def look(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None = None,
        *,
        causal: bool = False,
    ) -> Tensor:
        """What queries (M, L, I) take from keys and values (M, S, I) that ``mask`` lets them see, (M, L, D).

        Args:
            mask: bool, (L, S) or (M, 1, L, S); None where they see all, or with ``causal`` what came before.
        """
        heads = (self.heads, self.inner // self.heads)
        q, k, v = (x.view(*x.shape[:2], *heads).transpose(1, 2) for x in (queries, keys, values))
        dropout = self.dropout if self.training else 0.0
        taken = F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=causal)
        y: Tensor = self.out(taken.transpose(1, 2).flatten(2))
        return y


class Folded:
    """What remains of attentions' four products when what is looked at is kept as it came.

    That with the keys' weights is made on the query's side, ``q . (K x + b) = (K^T q) . x + const``, and that
    with the values' after the sum, as weights add up to one. One position looks at what is kept, for the
    price of the heads times D per position looked at. Axes: B attentions of the same shape, h heads.

    Attributes:
        query: (B, h E, D). query_bias: (B, h E).
        out: (B, h E, D), of what is taken. out_bias: (B, 1, D).
    """

    def __init__(self, *attentions: Attention) -> None:
        B, h, head = (
            len(attentions),
            attentions[0].heads,
            attentions[0].inner // attentions[0].heads,
        )
        query, key, value, out = (
            torch.stack([layer.weight for layer in layers])
            for layers in zip(*((a.query, a.key, a.value, a.out) for a in attentions), strict=True)
        )
        query_bias, value_bias, out_bias = (
            torch.stack([layer.bias for layer in layers])[:, None]
            for layers in zip(*((a.query, a.value, a.out) for a in attentions), strict=True)
        )
        D = out.shape[1]
        self.out_bias = torch.baddbmm(out_bias, value_bias, out.mT)
        # By head: of queries, keys and values (B h, head, D or E), of outputs (B h, D, head).
        query, key, value = (x.view(B * h, head, -1) for x in (query, key * head**-0.5, value))
        out = out.view(B, D, h, head).transpose(1, 2).flatten(0, 1)
        self.query = torch.bmm(key.mT, query).view(B, -1, D)
        self.query_bias = torch.bmm(query_bias.view(B * h, 1, -1), key).view(B, -1)
        self.out = torch.bmm(out, value).mT.reshape(B, -1, D)
