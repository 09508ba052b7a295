"""What people call a run, and what makes two runs the same experiment."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

# Config keys that change where or under which name a run is recorded, not what it computes.
BOOKKEEPING = (
    "label",
    "sweep",
    "resume",
    "checkpoint_path",
    "mongo_url",
    "mongo_db",
    "local_results_path",
    "sinks",
    "sink_project",
    "record",
)

# Keys that change how long a run is, how often it says something, or how fast it is: its curve is another
# sample of the same.
OF_NO_EFFECT = (
    "seed",
    "t_max",
    "log_interval",
    "test_interval",
    "save_model",
    "save_model_interval",
    "save_buffer",
    "keep_models",
    "save_video",
    "video_format",
    "device",
    "torch_threads",
    "plugins",
)
# Of the first of these that an environment has, the values name the task.
_TASK_KEYS = (("map_name",), ("key",), ("game",), ("scenario", "agent_conf"))


def task_name(config: Mapping[str, Any]) -> str:
    """The name people call a run's task by: map, key, game, robot and its division, or the env itself.

    >>> task_name({"env": "mamujoco", "env_args": {"scenario": "Ant", "agent_conf": "4x2"}})
    'Ant-4x2'
    """
    arguments = config.get("env_args") or {}
    for keys in _TASK_KEYS:
        words = [str(arguments[key]) for key in keys if arguments.get(key)]
        if words:
            return "-".join(words)
    return str(config.get("env", ""))


def config_digest(config: Mapping[str, Any]) -> str:
    """The same text for configs with which the same run comes out, wherever it is recorded."""
    rest = {key: value for key, value in config.items() if key not in BOOKKEEPING}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()[:16]
