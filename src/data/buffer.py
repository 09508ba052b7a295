"""What runners and the training loop need of the place where experience waits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .batch import EpisodeBatch
from .store import EpisodeStore


class Receiver(Protocol):
    """What a runner needs of a buffer, and no more.

    Attributes:
        takes_pieces: what it takes: all that runners have when they stop, unfinished episodes too, and the
            policy's memory with them; else whole episodes.
    """

    takes_pieces: bool

    def insert(self, source: EpisodeStore, rows: NDArray[np.int64]) -> None:
        """Copy ``rows`` out of a runner's store."""
        ...


class Buffer(Receiver, Protocol):
    """Takes episodes from a runner and gives the learner its batches.

    Where these come from is its own affair: what a runner collected, a file, or what it has trained a model
    to imagine.

    Attributes:
        on_policy: what it gives: batches of what the policy as it is has just done, each step once. None:
            such batches, and as many as a learner that learns from any likes.
        gives_state: its batches have the environment's states; else these are not a number.
        fed: it takes anything at all; else its batches come from elsewhere, and its runner plays nothing.
    """

    on_policy: bool | None
    gives_state: bool
    fed: bool

    def batches(self, t_env: int) -> Iterator[EpisodeBatch]:
        """A batch for each update that is due after ``t_env`` environment steps, made as it is asked for.

        What a round takes besides (training what the batches are made with) happens in between.
        """
        ...

    def metrics(self) -> dict[str, float]:
        """What it reports of itself since the last call."""
        ...

    def state_dict(self, contents: bool = True) -> dict[str, Any]:
        """Everything needed to continue bit for bit, the episodes only if ``contents``."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state_dict`."""
        ...
