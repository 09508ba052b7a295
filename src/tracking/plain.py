"""Conversion of anything a user may log to plain Python values."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_MAX_INT = 2**63 - 1


def plain_scalar(value: Any) -> float:
    """``float`` or ``int`` of a Python, NumPy or torch number; NaN and infinities are kept.

    Sacred stores a NumPy scalar in ``info`` as a nested object, which breaks sorting, and one 0-d
    array in a metric ends recording for good; so every number is converted before it gets there.

    Raises:
        TypeError: the value is not a single number.
    """
    item = getattr(value, "item", None)
    if item is not None:
        try:
            value = item()
        except (ValueError, RuntimeError) as error:
            raise TypeError(f"expected one number, got {type(value).__name__}: {error}") from error
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value if abs(value) <= _MAX_INT else float(value)
    return float(value)


def plain(value: Any) -> Any:
    """Nested dicts and lists of ``str``, ``int``, ``float``, ``bool``, ``None`` and nothing else.

    >>> plain({1: (2, 3)})
    {'1': [2, 3]}
    """
    if value is None or isinstance(value, (bool, str, float)):
        return value
    if isinstance(value, int):
        return value if abs(value) <= _MAX_INT else str(value)
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in list(value.items())}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # NumPy and torch, scalars and arrays alike
        return plain(value.tolist())
    return str(value)


def mongo_keys(value: Any) -> Any:
    """The same value with keys every MongoDB accepts, changed as Sacred changes them."""
    if isinstance(value, dict):
        return {
            ("@" + k[1:] if k.startswith("$") else k).replace(".", ","): mongo_keys(v)
            for k, v in value.items()
        }
    if isinstance(value, list):
        return [mongo_keys(v) for v in value]
    return value
