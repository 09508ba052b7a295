"""Attention against its formula, with a cache, and folded for one position that looks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from phalanx.modules.layers.attention import Attention, Folded, KeyValues


def make(query_dim: int = 6, source_dim: int = 6) -> Attention:
    """Of inner width 8, with weights large enough that everything matters."""
    torch.manual_seed(0)
    layer = Attention(query_dim, source_dim, 8, 2)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    return layer


def by_formula(layer: Attention, query: Tensor, source: Tensor, *, causal: bool) -> Tensor:
    """Position by position and head by head."""
    rows = []
    for m in range(len(query)):
        q, k, v = layer.query(query[m]), layer.key(source[m]), layer.value(source[m])
        taken = torch.zeros(len(q), 8)
        for i in range(len(q)):
            sees = slice(0, i + 1 if causal else None)
            for head in (slice(0, 4), slice(4, 8)):
                weights = torch.softmax(k[sees, head] @ q[i, head] / 4**0.5, dim=0)
                taken[i, head] = weights @ v[sees, head]
        rows.append(layer.out(taken))
    return torch.stack(rows)


@pytest.mark.parametrize("causal", [False, True])
def test_it_is_the_formula(causal: bool) -> None:
    layer, x = make(), torch.randn(2, 5, 6)
    torch.testing.assert_close(layer(x, x, causal=causal), by_formula(layer, x, x, causal=causal))


def test_it_looks_at_a_sequence_of_another_width_and_length() -> None:
    layer, query, source = make(6, 3), torch.randn(2, 5, 6), torch.randn(2, 4, 3)
    expected = by_formula(layer, query, source, causal=False)
    torch.testing.assert_close(layer(query, source), expected)


@pytest.mark.parametrize("sizes", [(1,) * 5, (2, 1, 2), (5,)])
def test_cached_equals_uncached(sizes: tuple[int, ...]) -> None:
    layer, x = make(), torch.randn(3, 5, 6)
    cache, parts = KeyValues(3, 5, layer.inner, x.device), []
    with torch.no_grad():
        for part in x.split(sizes, dim=1):
            parts.append(layer(part, part, causal=True, cache=cache))
        torch.testing.assert_close(torch.cat(parts, dim=1), layer(x, x, causal=True))
    assert cache.length == 5


def test_a_full_cache_says_so() -> None:
    layer, x = make(), torch.randn(1, 3, 6)
    cache = KeyValues(1, 2, layer.inner, x.device)
    with pytest.raises(ValueError, match="position 3 does not fit into a cache of 2 positions"):
        layer(x, x, causal=True, cache=cache)


def test_folded_products_are_the_same_attention() -> None:
    layers, x = (make(), make(6, 6)), torch.randn(4, 5, 6)
    folded = Folded(*layers)
    for i, layer in enumerate(layers):
        queries = (x[:, -1] @ folded.query[i].T + folded.query_bias[i]).view(4, 2, 6)
        taken = (queries @ x.mT).softmax(dim=-1) @ x
        ours = taken.flatten(1) @ folded.out[i] + folded.out_bias[i, 0]
        torch.testing.assert_close(ours, layer(x[:, -1:], x)[:, 0], atol=1e-5, rtol=1e-5)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="3 heads do not divide a width of 8"):
        Attention(8, 8, 8, 3)
