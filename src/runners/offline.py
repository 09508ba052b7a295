"""Learning from what was recorded: nothing is played but tests."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from ..registry import RUNNERS, PartConfig
from .base import Runner


@RUNNERS.register("offline")
class OfflineRunner(Runner):
    """Plays nothing: the run's clock counts gradient updates, and so do t_max and all intervals."""

    class Config(PartConfig):
        batch_size_run: int = Field(
            16, ge=1, le=65_536, description="environments in which tests are played together"
        )

    plays: ClassVar[bool] = False
    unit: ClassVar[str] = "update"

    def __init__(self, config: Config) -> None:
        super().__init__()

    def collect(self, t_env: int) -> int:
        """Nothing; an update passes."""
        return 1

    def metrics(self) -> dict[str, float]:
        """Nothing was played."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Nothing to continue."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to continue."""
