"""What the training loop needs of a runner."""

from __future__ import annotations

from typing import Any, Protocol

from .rollout import Rollout


class Runner(Protocol):
    """Collects experience and files finished episodes in the buffer."""

    rollout: Rollout

    def collect(self, t_env: int) -> int:
        """Play on from environment step ``t_env``; returns how many steps (over all copies) were taken."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue bit for bit."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state_dict`."""
        ...
