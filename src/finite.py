"""Finding numbers that are no numbers in nested state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def first_not_finite(state: Any, name: str = "") -> str | None:
    """Dotted name of the first tensor of floats that holds a NaN or an infinity; None if all are finite.

    >>> first_not_finite({"mixer": {"w": torch.tensor([0.0, float("inf")])}, "n": 3})
    'mixer.w'

    Args:
        state: tensors of any shape in nested mappings and sequences; what else is in there is passed over.
        name: of ``state`` itself.
    """
    if isinstance(state, torch.Tensor):
        return None if not state.is_floating_point() or bool(state.isfinite().all()) else name
    if isinstance(state, Mapping):
        items = [(str(key), value) for key, value in state.items()]
    elif isinstance(state, (list, tuple)):
        items = [(str(i), value) for i, value in enumerate(state)]
    else:
        return None
    prefix = f"{name}." if name else ""
    return next(
        (found for key, value in items if (found := first_not_finite(value, prefix + key))), None
    )
