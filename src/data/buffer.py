"""What runners and the training loop need of the place where experience waits."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .batch import EpisodeBatch
from .store import EpisodeStore


class Buffer(Protocol):
    """Takes episodes from a runner, says when an update is due, and gives the batch for it.

    Attributes:
        on_policy: each step is learnt from once, by the policy that took it. Runners then hand over all
            they have when they stop, unfinished episodes too, and the policy's memory with them.
    """

    on_policy: bool

    def __len__(self) -> int:
        """Episodes, or pieces of them, that wait here."""
        ...

    def insert(self, source: EpisodeStore, rows: NDArray[np.int64]) -> None:
        """Copy ``rows`` out of a runner's store."""
        ...

    def due(self, t_env: int) -> bool:
        """Whether another update is due after ``t_env`` environment steps."""
        ...

    def next_batch(self) -> EpisodeBatch:
        """The batch of the update that is due."""
        ...

    def state_dict(self, contents: bool = True) -> dict[str, Any]:
        """Everything needed to continue bit for bit, the episodes only if ``contents``."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state_dict`."""
        ...
