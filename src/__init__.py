"""Phalanx: cooperative multi-agent reinforcement learning from registered parts."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import Team, Trained, load, train
    from .data.dataset import Dataset, DatasetWriter
    from .envs.battle import VecBattle
    from .envs.checker import check_env
    from .tracking import points, runs

__version__ = "0.1.0"

__all__ = [
    "Dataset",
    "DatasetWriter",
    "Team",
    "Trained",
    "VecBattle",
    "check_env",
    "load",
    "points",
    "runs",
    "train",
]

# Imported when first asked for: torch takes seconds, and `phalanx --help` needs none of it.
_HOMES = {
    "Dataset": "data.dataset",
    "DatasetWriter": "data.dataset",
    "VecBattle": "envs.battle",
    "check_env": "envs.checker",
    "points": "tracking",
    "runs": "tracking",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOMES.get(name, 'api')}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
