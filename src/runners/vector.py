"""All copies always play: finished ones restart at once, complete episodes go to the buffer."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field

from ..data.buffer import Receiver
from ..envs.protocol import Env
from ..errors import ConfigError
from ..modules.behaviours.base import Behaviour
from ..registry import RUNNERS, PartConfig
from .base import PlayingRunner


def segment(config: VectorRunner.Config, buffer: Receiver) -> int:
    """Steps of every copy after which open episodes are handed over; 0: they never are.

    Raises:
        ConfigError: the buffer wants pieces of episodes and none are made, or the other way round.
    """
    steps = config.episode_length
    if buffer.takes_pieces != (steps > 0):
        raise ConfigError(
            "a buffer that takes pieces of episodes needs episode_length, the steps of every copy between "
            "updates (e.g. episode_length=100); or use runner=episode."
            if buffer.takes_pieces
            else f"episode_length={steps} cuts episodes into pieces, but this run's buffer keeps whole ones: "
            "set episode_length=0, or use buffer=on_policy."
        )
    return steps


@RUNNERS.register("vector")
class VectorRunner(PlayingRunner):
    """One step of every environment at a time; no environment waits for another.

    Where the buffer takes pieces of episodes it plays ``episode_length`` steps of every copy and hands over
    all of them; an episode that is not over then goes on after the update, as another row that starts within
    it.
    """

    class Config(PartConfig):
        batch_size_run: int = Field(
            16, ge=1, le=65_536, description="environments stepped together"
        )
        episode_length: int = Field(
            0,
            ge=0,
            description="steps of every copy between updates where the buffer takes pieces; else 0",
        )

    def __init__(
        self,
        config: Config,
        *,
        env: Env,
        behaviour: Behaviour,
        buffer: Receiver,
        seed: int,
        device: torch.device,
        optional_fields: frozenset[str],
        frames: int = 1,
    ) -> None:
        super().__init__(
            config,
            env=env,
            behaviour=behaviour,
            buffer=buffer,
            seed=seed,
            device=device,
            optional_fields=optional_fields,
            frames=frames,
        )
        self._segment = segment(config, buffer)

    def collect(self, t_env: int) -> int:
        """One step in every copy, or ``episode_length`` of them; then open episodes are handed over too."""
        for _ in range(max(self._segment, 1)):
            self.step(t_env)
        if self._segment:
            self.hand_over()
        return len(self._all) * max(self._segment, 1)

    def hand_over(self) -> None:
        """Give the buffer what there is of open episodes, which go on in new rows."""
        rows = np.flatnonzero(self.rollout.store.lengths > 0)
        self._buffer.insert(self.rollout.store, rows)
        self.rollout.cut(rows)

    def step(self, t_env: int) -> None:
        """One step in every copy; complete episodes go to the buffer and new ones begin."""
        if not self.rollout.started:
            self.rollout.restart(self._all)
        done = self.rollout.step(self._all, t_env, test_mode=False)
        if done.any():
            complete = np.flatnonzero(done & (self.rollout.store.lengths > 0))
            self._buffer.insert(self.rollout.store, complete)
            self.rollout.restart(done)
