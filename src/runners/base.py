"""What the loop needs of a runner, and what those share that play in environments."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch

from ..data.buffer import Receiver
from ..envs.protocol import Env
from ..modules.behaviours.base import Behaviour
from ..registry import PartConfig
from ..seeding import named_generator
from .rollout import Rollout


class Runner(ABC):
    """Moves a run on: by environment steps, whose episodes it files in the buffer, or by what else counts.

    Attributes:
        plays: it steps environments.
        here: those of this process; else it is given one copy, which tells what they are like.
        unit: what the run's clock counts, environment steps or something else; ``t_max`` and all intervals
            are in it, and every message says it.
        seconds: spent on each activity, since the loop last set them to 0.
    """

    plays: ClassVar[bool]
    here: ClassVar[bool] = True
    unit: ClassVar[str] = "step"

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @abstractmethod
    def collect(self, t_env: int) -> int:
        """Go on from ``t_env``; returns by how much the run's clock moves on."""

    @abstractmethod
    def metrics(self) -> dict[str, float]:
        """What was collected since the last call."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue bit for bit."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state_dict`."""

    def close(self) -> None:  # noqa: B027 (most hold nothing)
        """Free what it holds besides the environments it was given. Safe to call twice."""


class PlayingRunner(Runner):
    """A behaviour playing in a batch of environments; finished episodes go to the buffer."""

    plays: ClassVar[bool] = True

    def __init__(
        self,
        config: PartConfig,
        *,
        env: Env,
        behaviour: Behaviour,
        buffer: Receiver,
        seed: int,
        device: torch.device,
        optional_fields: frozenset[str],
        frames: int = 1,
    ) -> None:
        super().__init__()
        generator = named_generator(seed, "act", device)
        self.rollout = Rollout(
            env, behaviour, generator, device, optional_fields, buffer.takes_pieces, frames
        )
        self.seconds = self.rollout.seconds
        self._buffer = buffer
        self._all = np.ones(env.num_envs, bool)

    def metrics(self) -> dict[str, float]:
        """Means over the episodes that ended since the last call, and how often an environment broke."""
        rollout = self.rollout
        means = rollout.stats.means()
        rollout.stats.clear()
        broken = {"env_restarts": float(rollout.broken_episodes)} if rollout.broken_episodes else {}
        return means | broken

    def state_dict(self) -> dict[str, Any]:
        """Open episodes, counters and generators."""
        return {"rollout": self.rollout.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state_dict`."""
        self.rollout.load_state_dict(state["rollout"])
