"""What PyMARL's and EPyMARL's own config files say that is called or done differently here."""

from __future__ import annotations

from typing import Any

RENAMED: dict[str, tuple[str, dict[Any, Any]]] = {
    "mac": ("policy", {"basic_mac": "value"}),
    "use_cuda": ("device", {True: "auto", False: "cpu"}),
}
"""PyMARL key -> (our key, translation of its values)."""

VALUES: dict[tuple[str, Any], Any] = {
    ("runner", "parallel"): "episode",
    ("env", "sc2wrapped"): "sc2",
    ("mixer", None): "none",
    ("world_model", None): "none",
}
"""(key, value) in PyMARL's files -> the value that means the same here."""

DROPPED: dict[str, str] = {
    "use_tensorboard": "metrics always go to the run folder and MongoDB",
    "buffer_cpu_only": "the replay always stays in main memory",
    "runner_log_interval": "log_interval covers it",
    "learner_log_interval": "log_interval covers it",
    "load_step": "checkpoint_path names one checkpoint",
    "evaluate": "use the command `phalanx evaluate CHECKPOINT`",
    "save_replay": "not offered",
    "test_greedy": "tests are always greedy",
    "critic_lr": "no chosen part has a critic",
    "repeat_id": "use label",
}
"""PyMARL keys without a counterpart, and why nothing is lost."""
