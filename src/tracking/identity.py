"""What people call a run, and what makes two runs the same experiment."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

# Config keys that change where or under which name a run is recorded, not what it computes.
BOOKKEEPING = (
    "label",
    "resume",
    "checkpoint_path",
    "mongo_url",
    "mongo_db",
    "local_results_path",
)


def task_name(config: Mapping[str, Any]) -> str:
    """The name people call a run's task by: map, key, game, or the env itself."""
    arguments = config.get("env_args") or {}
    for key in ("map_name", "key", "game"):
        if arguments.get(key):
            return str(arguments[key])
    return str(config.get("env", ""))


def config_digest(config: Mapping[str, Any], *, seed: bool) -> str:
    """The same text for configs that make the same experiment, with the seed or apart from it."""
    ignored = BOOKKEEPING if seed else (*BOOKKEEPING, "seed")
    rest = {key: value for key, value in config.items() if key not in ignored}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()[:16]
