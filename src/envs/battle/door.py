"""What callers hand in, checked before a kernel sees it: kernels trust shapes, types and numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...errors import EnvError


def whole(name: str, value: Any, least: int) -> int:
    """A whole number of at least ``least``.

    Raises:
        EnvError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise EnvError(f"{name} must be a whole number of at least {least}, got {value!r}.")
    return int(value)


def flag(name: str, value: Any) -> bool:
    """True or false, and nothing that merely counts as such.

    Raises:
        EnvError: it is neither.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise EnvError(f"{name} must be true or false, got {value!r}.")
    return bool(value)


def numbers(name: str, values: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Finite numbers of one shape.

    Raises:
        EnvError: another shape, something else than numbers, or infinite ones.
    """
    wanted = f"{name} must be finite numbers of shape {shape}"
    array = _array(wanted, values)
    if array.dtype.kind not in "biuf":
        raise EnvError(f"{wanted}, got {array.dtype}.")
    if array.shape != shape:
        raise EnvError(f"{wanted}, got shape {array.shape}.")
    if not np.isfinite(array).all():
        raise EnvError(f"{wanted}, got some that are not finite.")
    return np.asarray(array, np.float64)


def integers(name: str, values: ArrayLike, shape: tuple[int, ...], axes: str) -> NDArray[np.int64]:
    """Integers of one shape; those beyond 64 bits become the largest there are.

    Raises:
        EnvError: another shape or type.
    """
    wanted = f"{name} must be integers of shape {shape} ({axes})"
    array = _array(wanted, values)
    if array.shape != shape or array.dtype.kind not in "iu":
        raise EnvError(f"{wanted}, got {array.dtype} of shape {array.shape}.")
    if array.dtype == np.uint64:
        array = np.minimum(array, np.uint64(np.iinfo(np.int64).max))
    return np.ascontiguousarray(array, dtype=np.int64)


def _array(wanted: str, values: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except (ValueError, TypeError) as error:  # rows of unequal length
        raise EnvError(f"{wanted}, got something uneven ({error}).") from None
