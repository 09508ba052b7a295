"""Replay of whole episodes, as PyMARL keeps them, in less than half the memory."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from ..envs.protocol import EnvSpec
from ..errors import BufferMemoryError
from ..registry import BUFFERS, PartConfig
from ..seeding import named_generator
from .batch import EpisodeBatch
from .compact import float_type
from .memory import free_memory, gib
from .store import EpisodeStore

log = logging.getLogger("phalanx.data")


@BUFFERS.register("episode_replay")
class EpisodeReplay:
    """Ring of the latest episodes, sampled uniformly without replacement."""

    class Config(PartConfig):
        buffer_size: int = Field(5000, ge=1, description="episodes kept")
        obs_dtype: Literal["auto", "float16", "float32"] = Field(
            "auto",
            description="type observations and states are kept in; auto takes float16 where the environment "
            "declares numbers that fit, else float32",
        )
        batch_size: int = Field(32, ge=1, description="episodes per gradient update")
        env_steps_per_update: float = Field(
            32.0,
            gt=0,
            description="environment steps per gradient update, whatever the runner or number of envs",
        )

    on_policy = False
    takes_pieces = False
    gives_state = True
    fed = True

    def __init__(
        self, config: Config, spec: EnvSpec, *, seed: int, optional_fields: frozenset[str]
    ) -> None:
        self._float, reason = float_type(config.obs_dtype, spec)
        per_episode = EpisodeStore.episode_bytes(
            spec, float_dtype=self._float, optional=optional_fields
        )
        self.nbytes = per_episode * config.buffer_size
        _refuse_if_too_large(config.buffer_size, per_episode)
        log.info(
            "replay: %d episodes of up to %d steps, at most %s; observations in %s (%s)",
            config.buffer_size,
            spec.episode_limit,
            gib(self.nbytes),
            np.dtype(self._float).name,
            reason,
        )
        self.store = EpisodeStore(
            config.buffer_size, spec, float_dtype=self._float, optional=optional_fields
        )
        self._generator = named_generator(seed, "replay")
        self._next = 0
        self._count = 0
        self._batch_size, self._pace = config.batch_size, config.env_steps_per_update
        self.learning_since: int | None = None
        self._given = 0

    def __len__(self) -> int:
        return self._count

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(E,) steps of each episode there is, in the first rows of :attr:`store`."""
        return self.store.lengths[: self._count]

    def insert(self, source: EpisodeStore, rows: NDArray[np.int64]) -> None:
        """Copy finished episodes out of a runner's store; the oldest make room."""
        slots = (self._next + np.arange(len(rows))) % self.store.capacity
        self.store.copy_rows(source, rows, slots)
        self._next = int((self._next + len(rows)) % self.store.capacity)
        self._count = min(self._count + len(rows), self.store.capacity)

    def batches(self, t_env: int) -> Iterator[EpisodeBatch]:
        """As many samples as the steps taken since there were enough episodes are worth."""
        if not self.can_sample(self._batch_size):
            return
        if self.learning_since is None:
            self.learning_since = t_env
        while self._given < math.floor((t_env - self.learning_since) / self._pace):
            self._given += 1
            yield self.sample(self._batch_size)

    def metrics(self) -> dict[str, float]:
        """How many episodes there are."""
        return {"episodes_in_buffer": float(self._count)}

    def can_sample(self, batch_size: int) -> bool:
        """Whether there are ``batch_size`` different episodes."""
        return self._count >= batch_size

    def sample(self, batch_size: int) -> EpisodeBatch:
        """``batch_size`` different episodes, each equally likely, padded to the longest of them."""
        rows = torch.randperm(self._count, generator=self._generator)[:batch_size]
        return self.store.batch(rows.numpy())

    def state_dict(self, contents: bool = True) -> dict[str, Any]:
        """Positions and generator, and the episodes themselves unless ``contents`` is false."""
        state: dict[str, Any] = {
            "generator": self._generator.get_state(),
            "learning_since": self.learning_since,
            "given": self._given,
        }
        if contents:
            state["next"], state["count"] = self._next, self._count
            state["episodes"] = self.store.pack(np.arange(self._count))
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state_dict`; a checkpoint without episodes leaves the replay empty.

        Learning then waits for a batch of episodes as at the start of a run, and no update is owed for the
        steps until there is one.
        """
        self._generator.set_state(state["generator"])
        if "episodes" in state:
            self.learning_since, self._given = state["learning_since"], state["given"]
            self._next, self._count = state["next"], state["count"]
            self.store.unpack(np.arange(self._count), state["episodes"])


def _refuse_if_too_large(episodes: int, per_episode: int) -> None:
    """Raise before the system kills the process half-way through training."""
    free = free_memory()
    if free is None or episodes * per_episode <= free:
        return
    fits = int(free // per_episode)
    raise BufferMemoryError(
        f"a replay of buffer_size={episodes} episodes needs {gib(episodes * per_episode)}, but only "
        f"{gib(free)} of memory are free. The largest that fits is buffer_size={fits}."
    )
