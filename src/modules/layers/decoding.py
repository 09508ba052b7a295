"""Decoders at work on one position after the other, computing nothing twice while weights stay.

Axes: M moments, N positions, D embedding, h heads.
"""

from __future__ import annotations

from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from . import compiled
from .attention import Folded
from .normed import ActionHead
from .transformer import AttentionDecoder, DecodeBlock, RecurrentDecoder


class Decoding(Protocol):
    """Outputs of all positions, one by one."""

    def enter(self, tokens: Tensor) -> Tensor:
        """All that depends on embedded tokens (..., D) alone, (..., E)."""
        ...

    def step(self, i: int, entered: Tensor) -> Tensor:
        """Outputs (M, K) of position ``i``, after those before it, by what entered of its token (M, E)."""
        ...

    def choose_all(self, table: Tensor, offsets: Tensor) -> Tensor | None:
        """Choices (M, N) of all positions at one go, or None where only steps are offered.

        Args:
            table: (K + 1, E) what enters of each token: the start, then each choice.
            offsets: (M, N, K) added to outputs before the largest is taken.
        """
        ...


def begin(
    decoder: AttentionDecoder | RecurrentDecoder,
    head: nn.Sequential,
    rep: Tensor,
    *,
    loops: bool | None = None,
) -> Decoding:
    """Start to decode.

    Args:
        head: from features to outputs, see :func:`~.transformer.head_base`.
        rep: representations (M, N, D).
        loops: attention decodes in compiled loops, which only CPUs can; None where they can.
    """
    if isinstance(decoder, RecurrentDecoder):
        return _RecurrentDecoding(decoder, head, rep)
    return _AttentionDecoding(decoder, head, rep, rep.is_cpu if loops is None else loops)


class _RecurrentDecoding:
    def __init__(self, decoder: RecurrentDecoder, head: nn.Sequential, rep: Tensor) -> None:
        M, _, D = rep.shape
        self._decoder, self._head, self._rep = decoder, head, rep
        self._hidden = rep.new_zeros(decoder.rnn.num_layers, M, D)

    def enter(self, tokens: Tensor) -> Tensor:
        return tokens

    def step(self, i: int, entered: Tensor) -> Tensor:
        x = self._decoder.norm(entered + self._rep[:, i])
        features, self._hidden = self._decoder.rnn(x[:, None], self._hidden)
        outputs: Tensor = self._head(features[:, 0])
        return outputs

    def choose_all(self, table: Tensor, offsets: Tensor) -> Tensor | None:
        return None


class _AttentionDecoding:
    def __init__(
        self, decoder: AttentionDecoder, head: nn.Sequential, rep: Tensor, loops: bool
    ) -> None:
        by_position = rearrange(rep, "m n d -> n m d").contiguous()
        kind = _BlockInLoops if loops else _Block
        *lower, last = (block for block in decoder.blocks if isinstance(block, DecodeBlock))
        blocks = [*(kind(block, by_position) for block in lower), kind(last, by_position, head)]
        self._norm, self._first, self._others = decoder.norm, blocks[0], blocks[1:]

    def enter(self, tokens: Tensor) -> Tensor:
        return self._first.enter(self._norm(tokens))

    def step(self, i: int, entered: Tensor) -> Tensor:
        x = self._first.step(i, entered)
        for block in self._others:
            x = block.step(i, block.enter(x))
        return x

    def choose_all(self, table: Tensor, offsets: Tensor) -> Tensor | None:
        if self._others or not isinstance(self._first, _BlockInLoops):
            return None
        return self._first.choose_all(table, offsets)


class _Block:
    """A block at work.

    Args:
        rep: representations (N, M, D).
        head: what its features go through.
    """

    def __init__(self, block: DecodeBlock, rep: Tensor, head: nn.Sequential | None = None) -> None:
        N, M, D = rep.shape
        products = Folded(block.actions, block.agents)
        self._block, self._head = block, head
        self._query, _ = products.query
        self._query_bias, _ = products.query_bias
        self._out, (self._out_bias, out_bias) = products.out, products.out_bias
        queries = F.linear(rep, products.query[1], products.query_bias[1])
        self._queries = queries.view(N, M, -1, D)
        self._residuals = rep + out_bias
        self._kept = rep.new_empty(2, N, M, D)  # what either attention looks at

    def enter(self, x: Tensor) -> Tensor:
        """(..., (2 + h) D) x (..., D), what is added to after looking, and what looks."""
        query = F.linear(x, self._query, self._query_bias)
        return torch.cat([x, x + self._out_bias, query], dim=-1)

    def step(self, i: int, entered: Tensor) -> Tensor:
        """Position ``i`` alone: (M, D), or the head's (M, K), of what entered of it, (M, (2 + h) D)."""
        block, D = self._block, self._kept.shape[-1]
        x, residual, queries = entered[:, :D], entered[:, D : 2 * D], entered[:, 2 * D :]
        taken = self._look(self._kept[0], i, x, queries.reshape(len(x), -1, D))
        x = block.norm1(torch.addmm(residual, taken, self._out[0]))
        taken = self._look(self._kept[1], i, x, self._queries[i])
        x = block.norm2(torch.addmm(self._residuals[i], taken, self._out[1]))
        y: Tensor = block.norm3(x + block.mlp(x))
        return y if self._head is None else self._head(y)

    @staticmethod
    def _look(kept: Tensor, i: int, x: Tensor, queries: Tensor) -> Tensor:
        """What queries (M, h, D) take, (M, h D), of ``kept`` (N, M, D) up to ``i``, where x (M, D) goes."""
        kept[i] = x
        seen = kept[: i + 1, :, None]
        weights = (seen * queries).sum(dim=-1, keepdim=True).softmax(dim=0)
        return (weights * seen).sum(dim=0).flatten(1)


class _BlockInLoops(_Block):
    def __init__(self, block: DecodeBlock, rep: Tensor, head: nn.Sequential | None = None) -> None:
        super().__init__(block, rep, head)
        self._arrays = [_array(x) for x in (self._kept, self._queries, self._residuals)]
        self._layers: compiled.Block = (
            *(_array(self._out[0]), _norm(block.norm1)),
            *(_array(self._out[1]), _norm(block.norm2)),
            *(_affine(block.mlp[0]), _affine(block.mlp[2]), _norm(block.norm3)),
        )
        if head is not None:
            first, _, norm, last = head
            assert isinstance(last, ActionHead)
            self._last = last
            self._head_layers = (_affine(first), _norm(norm), _affine(last.linear))

    def step(self, i: int, entered: Tensor) -> Tensor:
        kept, queries, residuals = self._arrays
        parts = _array(entered).reshape(len(entered), -1, kept.shape[-1])
        given = (i, parts, kept, queries[i], residuals[i], self._layers)
        if self._head is None:
            return torch.from_numpy(compiled.call(compiled.decode, *given))
        outputs = compiled.call(compiled.decode_to_outputs, *given, self._head_layers)
        return self._last.with_scale(torch.from_numpy(outputs))

    def choose_all(self, table: Tensor, offsets: Tensor) -> Tensor:
        """See :meth:`Decoding.choose_all`; for a decoder that is this block alone."""
        parts = _array(table).reshape(len(table), -1, self._kept.shape[-1])
        kept, queries, residuals = self._arrays
        given = (parts, _array(offsets.transpose(0, 1)), kept, queries, residuals)
        return torch.from_numpy(
            compiled.call(compiled.decode_choices, *given, self._layers, self._head_layers)
        )


def _array(x: Tensor) -> compiled.Array:
    array: compiled.Array = x.detach().contiguous().numpy()
    return array


def _affine(layer: nn.Module) -> compiled.Affine:
    assert isinstance(layer, nn.Linear)
    return _array(layer.weight.t()), _array(layer.bias)


def _norm(layer: nn.Module) -> compiled.Norm:
    assert isinstance(layer, nn.LayerNorm)
    return _array(layer.weight), _array(layer.bias), layer.eps
