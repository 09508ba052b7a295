"""Numbers of any size on a scale that networks can tell apart, and bins of it."""

from __future__ import annotations

from torch import Tensor


def symlog(x: Tensor) -> Tensor:
    """``sign(x) ln(1 + |x|)``."""
    return x.sign() * x.abs().log1p()


def symexp(y: Tensor) -> Tensor:
    """Undo :func:`symlog`."""
    return y.sign() * y.abs().expm1()


def bin_of(x: Tensor, bins: int, low: float, high: float) -> Tensor:
    """Which of ``bins`` equal bins of [low, high] numbers lie in; the outer ones take what is beyond."""
    return ((x - low) * (bins / (high - low))).floor().long().clamp(0, bins - 1)


def centre_of(index: Tensor, bins: int, low: float, high: float) -> Tensor:
    """Middle of a bin of :func:`bin_of`."""
    return (index + 0.5) * ((high - low) / bins) + low
