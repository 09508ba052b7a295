"""Experience that is learnt from once, by the policy that made it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..envs.protocol import EnvSpec
from ..registry import BUFFERS, PartConfig
from .batch import EpisodeBatch
from .store import EpisodeStore


@BUFFERS.register("on_policy")
class OnPolicyBuffer:
    """All that was collected since the last update, given to one update and forgotten."""

    class Config(PartConfig):
        pass

    on_policy = True
    takes_pieces = True
    gives_state = True
    fed = True

    def __init__(self, config: Config, spec: EnvSpec, *, optional_fields: frozenset[str]) -> None:
        self._spec, self._optional = spec, optional_fields
        self._store: EpisodeStore | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def insert(self, source: EpisodeStore, rows: NDArray[np.int64]) -> None:
        """Copy episodes, or pieces of them, out of a runner's store; room grows with need."""
        if not len(rows):
            return
        needed = self._count + len(rows)
        if self._store is None or needed > self._store.capacity:
            self._grow(source, needed)
        assert self._store is not None
        self._store.copy_rows(source, rows, np.arange(self._count, needed))
        self._count = needed

    def _grow(self, source: EpisodeStore, needed: int) -> None:
        old = self._store
        self._store = EpisodeStore(
            max(2 * needed, 64), self._spec, optional=self._optional, carry=source.carry
        )
        if old is not None:
            kept = np.arange(self._count)
            self._store.copy_rows(old, kept, kept)

    def batches(self, t_env: int) -> Iterator[EpisodeBatch]:
        """All of it once there is anything; the buffer is empty afterwards."""
        if self._store is not None and self._count:
            waiting, self._count = self._count, 0
            yield self._store.batch(np.arange(waiting))

    def metrics(self) -> dict[str, float]:
        """How much waits."""
        return {"episodes_in_buffer": float(self._count)}

    def state_dict(self, contents: bool = True) -> dict[str, Any]:
        """What waits here; nothing between updates."""
        if self._store is None or not self._count or not contents:
            return {"count": 0}
        return {"count": self._count, "episodes": self._store.pack(np.arange(self._count))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state_dict`."""
        self._count = state["count"]
        if self._count:
            episodes = state["episodes"]
            self._store = EpisodeStore(
                2 * self._count,
                self._spec,
                optional=self._optional,
                carry=EpisodeStore.packed_carry(episodes) or None,
            )
            self._store.unpack(np.arange(self._count), episodes)
