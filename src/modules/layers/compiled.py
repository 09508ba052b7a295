"""Decoding one position on a CPU in one compiled call.

A position is some forty operations on small arrays, each of which costs more to start than to do; here they
are loops. Axes: M moments, N positions, D embedding, h heads. All arrays are float32 and contiguous.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

log = logging.getLogger("phalanx.modules")

Array = NDArray[np.float32]
F = TypeVar("F", bound=Callable[..., Any])

# Sums in any order, so that they become vector instructions; what is not a number stays so.
_OPTIONS: dict[str, Any] = {
    "fastmath": {"reassoc", "contract", "nsz"},
    "error_model": "numpy",
    "nogil": True,
    "cache": True,
}


def _jit(function: F) -> F:
    return cast(F, numba.njit(**_OPTIONS)(function))


def call(kernel: Any, *args: Any) -> Any:
    """A kernel's answer. Its first one on a machine takes long, which is said before."""
    if not kernel.overloads and not kernel._cache._cache_file._load_index():
        _announce()
    return kernel(*args)


@functools.cache
def _announce() -> None:
    log.info("decoding on the CPU: compiling, once on this machine, for up to a minute ...")


# Plain tuples: a call looks longer at named ones than it takes to normalise.
Norm = tuple[Array, Array, float]
"""A layer norm: scale (D,), shift (D,), eps."""
Affine = tuple[Array, Array]
"""A linear layer: weight (inputs, outputs), bias (outputs,)."""
Block = tuple[Array, Norm, Array, Norm, Affine, Affine, Norm]
"""Of a decoding block: for each attention what is taken (h D, D) goes through, and a norm; the feed-forward
layer's two, and a norm."""
Head = tuple[Affine, Norm, Affine]
"""``Linear -> GELU -> LN -> Linear``."""


@_jit
def decode(
    i: int, entered: Array, kept: Array, queries: Array, residuals: Array, block: Block
) -> Array:
    """Position ``i`` alone, (M, D).

    Args:
        entered: (M, 2 + h, D) x, its residual and its queries.
        kept: (2, N, M, D) what both attentions look at; written at ``i``.
        queries: (M, h, D) of the second one.
        residuals: (M, D) what its outcome is added to.
    """
    out1, norm1, out2, norm2, forth, back, norm3 = block
    M, h, D = queries.shape
    x, taken = np.empty((M, D), np.float32), np.empty((M, h, D), np.float32)
    kept[0, i] = entered[:, 0]
    x[:] = entered[:, 1]
    _look(kept[0, : i + 1], entered, 2, taken)
    _add_product(taken.reshape(M, h * D), out1, x)
    _normalise(x, norm1)
    kept[1, i] = x
    _look(kept[1, : i + 1], queries, 0, taken)
    x[:] = residuals
    _add_product(taken.reshape(M, h * D), out2, x)
    _normalise(x, norm2)
    hidden = _hidden(x, forth)
    x += back[1]
    _add_product(hidden, back[0], x)
    _normalise(x, norm3)
    return x


@_jit
def decode_to_outputs(
    i: int,
    entered: Array,
    kept: Array,
    queries: Array,
    residuals: Array,
    block: Block,
    head: Head,
) -> Array:
    """The same with a head on it, (M, K)."""
    first, norm, (weight, bias) = head
    x = decode(i, entered, kept, queries, residuals, block)
    hidden = _hidden(x, first)
    _normalise(hidden, norm)
    outputs = np.empty((x.shape[0], bias.shape[0]), np.float32)
    outputs[:] = bias
    _add_product(hidden, weight, outputs)
    return outputs


@_jit
def decode_choices(
    table: Array,
    offsets: Array,
    kept: Array,
    queries: Array,
    residuals: Array,
    block: Block,
    head: Head,
) -> NDArray[np.int64]:
    """Choices (M, N) of all positions in turn, of a decoder that is one block.

    Args:
        table: (K + 1, 2 + h, D) what enters of each token: the start, then each choice.
        offsets: (N, M, K) added to outputs before the largest is taken.
        queries: (N, M, h, D). residuals: (N, M, D). Others as :func:`decode` has them.
    """
    N, M, K = offsets.shape
    choices = np.empty((M, N), np.int64)
    entered = np.empty((M, *table.shape[1:]), np.float32)
    for i in range(N):
        for m in range(M):
            entered[m] = table[choices[m, i - 1] + 1 if i > 0 else 0]
        outputs = decode_to_outputs(i, entered, kept, queries[i], residuals[i], block, head)
        for m in range(M):
            best = 0
            for k in range(1, K):
                if outputs[m, k] + offsets[i, m, k] > outputs[m, best] + offsets[i, m, best]:
                    best = k
            choices[m, i] = best
    return choices


@_jit
def _hidden(x: Array, layer: Affine) -> Array:
    weight, bias = layer
    y = np.empty((x.shape[0], bias.shape[0]), np.float32)
    y[:] = bias
    _add_product(x, weight, y)
    flat = y.reshape(-1)
    for j in range(flat.size):
        flat[j] = _gelu(flat[j])
    return y


@_jit
def _look(seen: Array, queries: Array, first: int, taken: Array) -> None:
    """Sums over ``seen`` (P, M, D), weighted by the softmax of its products with queries (M, first + h, D).

    Args:
        taken: (M, h, D), written.
    """
    P, M, D = seen.shape
    weights = np.empty(P, np.float32)
    for m in range(M):
        for h in range(taken.shape[1]):
            query, sums = queries[m, first + h], taken[m, h]
            top = np.float32(-np.inf)
            for p in range(P):
                one, product = seen[p, m], np.float32(0)
                for j in range(D):
                    product += one[j] * query[j]
                weights[p] = product
                top = max(top, product)
            total = np.float32(0)
            for p in range(P):
                weights[p] = np.exp(weights[p] - top)
                total += weights[p]
            sums[:] = np.float32(0)
            for p in range(P):
                one, weight = seen[p, m], weights[p] / total
                for j in range(D):
                    sums[j] += weight * one[j]


@_jit
def _normalise(x: Array, norm: Norm) -> None:
    scale, shift, eps = norm
    M, D = x.shape
    for m in range(M):
        mean = np.float32(0)
        for j in range(D):
            mean += x[m, j]
        mean /= np.float32(D)
        variance = np.float32(0)
        for j in range(D):
            variance += (x[m, j] - mean) * (x[m, j] - mean)
        rate = np.float32(1 / np.sqrt(variance / np.float32(D) + eps))
        for j in range(D):
            x[m, j] = (x[m, j] - mean) * rate * scale[j] + shift[j]


@_jit
def _add_product(x: Array, weight: Array, y: Array) -> None:
    """Add x (M, I) times weight (I, J) to y (M, J): four by four, so that what is loaded is used often."""
    M, I = x.shape
    J = weight.shape[1]
    rows, inputs = M - M % 4, I - I % 4
    for m in range(0, rows, 4):
        for k in range(0, inputs, 4):
            a0, a1, a2, a3 = x[m, k], x[m, k + 1], x[m, k + 2], x[m, k + 3]
            b0, b1, b2, b3 = x[m + 1, k], x[m + 1, k + 1], x[m + 1, k + 2], x[m + 1, k + 3]
            c0, c1, c2, c3 = x[m + 2, k], x[m + 2, k + 1], x[m + 2, k + 2], x[m + 2, k + 3]
            d0, d1, d2, d3 = x[m + 3, k], x[m + 3, k + 1], x[m + 3, k + 2], x[m + 3, k + 3]
            for j in range(J):
                w0, w1, w2, w3 = weight[k, j], weight[k + 1, j], weight[k + 2, j], weight[k + 3, j]
                y[m, j] += a0 * w0 + a1 * w1 + a2 * w2 + a3 * w3
                y[m + 1, j] += b0 * w0 + b1 * w1 + b2 * w2 + b3 * w3
                y[m + 2, j] += c0 * w0 + c1 * w1 + c2 * w2 + c3 * w3
                y[m + 3, j] += d0 * w0 + d1 * w1 + d2 * w2 + d3 * w3
    for m in range(M):
        for k in range(inputs if m < rows else 0, I):
            for j in range(J):
                y[m, j] += x[m, k] * weight[k, j]


@_jit
def _gelu(x: float) -> float:
    """``x / 2 (1 + erf(x / sqrt(2)))``, erf as a quotient of polynomials, within 1e-6."""
    u = x * np.float32(0.70710678)
    u = np.float32(4) if u > np.float32(4) else u
    u = np.float32(-4) if u < np.float32(-4) else u
    z = u * u
    above = np.float32(-2.72614225801306e-10)
    above = above * z + np.float32(2.77068142495902e-08)
    above = above * z + np.float32(-2.10102402082508e-06)
    above = above * z + np.float32(-5.69250639462346e-05)
    above = above * z + np.float32(-7.34990630326855e-04)
    above = above * z + np.float32(-2.95459980854025e-03)
    above = above * z + np.float32(-1.60960333262415e-02)
    below = np.float32(-1.45660718464996e-05)
    below = below * z + np.float32(-2.13374055278905e-04)
    below = below * z + np.float32(-1.68282697438203e-03)
    below = below * z + np.float32(-7.37332916720468e-03)
    below = below * z + np.float32(-1.42647390514189e-02)
    y: float = np.float32(0.5) * x * (np.float32(1) + u * above / below)
    return y
