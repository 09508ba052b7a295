"""When observations and states may be kept in half the room."""

from __future__ import annotations

import numpy as np
import torch

from ..envs.protocol import EnvSpec
from ..errors import EnvError

FLOAT16_EXACT = 2048.0
"""Up to here float16 keeps whole numbers; beyond it loses units, and from 65,520 on everything."""


def float_type(wanted: str, spec: EnvSpec) -> tuple[type[np.floating], str]:
    """The type observations and states are kept in, and why.

    Args:
        wanted: ``float16``, ``float32``, or ``auto`` for float16 where the environment declares numbers
            that fit.
    """
    if wanted != "auto":
        return (np.float16 if wanted == "float16" else np.float32), f"obs_dtype={wanted}"
    if spec.obs_bound is None:
        return np.float32, "the environment declares no bounds"
    fits = spec.obs_bound <= FLOAT16_EXACT
    return (np.float16 if fits else np.float32), f"declared within {spec.obs_bound:g}"


def refuse_what_float16_loses(name: str, values: torch.Tensor) -> None:
    """Raise where ``values`` of the field ``name`` are too large for float16.

    Raises:
        EnvError: a number is beyond :data:`FLOAT16_EXACT`, or not a number.
    """
    low, high = (float(bound) for bound in values.aminmax()) if values.numel() else (0.0, 0.0)
    largest = max(-low, high)
    if not largest <= FLOAT16_EXACT:
        raise EnvError(
            f"{name} holds {largest:g}, and float16, in which it is kept, loses whole units above "
            f"{FLOAT16_EXACT:g}. Set obs_dtype=float32, or declare the environment's bounds as they are."
        )
