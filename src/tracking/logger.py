"""What the training loop logs with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .plain import plain_scalar


class Logger:
    """Sends every scalar to Sacred once and remembers the latest of each name for the console.

    Args:
        log_scalar: takes name, value and step, as Sacred's ``_run.log_scalar``; None in a dry run.
    """

    def __init__(self, log_scalar: Callable[[str, float, int], None] | None = None) -> None:
        self._log_scalar = log_scalar
        self._latest: dict[str, float] = {}

    def log(self, name: str, value: Any, t_env: int) -> None:
        """Record one number (Python, NumPy or torch; NaN and infinities too) at an env step."""
        number = plain_scalar(value)
        self._latest[name] = number
        if self._log_scalar is not None:
            self._log_scalar(name, number, int(t_env))

    def log_many(self, metrics: Mapping[str, Any], t_env: int, prefix: str = "") -> None:
        """Record several numbers at one env step, each name preceded by ``prefix``."""
        for name, value in metrics.items():
            self.log(prefix + name, value, t_env)

    def latest(self) -> dict[str, float]:
        """The last value of every name logged so far."""
        return dict(self._latest)
