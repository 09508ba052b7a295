"""One copy of a task, as most libraries offer it; :mod:`.adapter` makes batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from .protocol import EnvSpec


class Seen(NamedTuple):
    """What one copy shows after a reset or a step; the caller copies what it keeps."""

    obs: NDArray[np.float32]  # (N, O)
    state: NDArray[np.float32]  # (S,)
    avail_actions: NDArray[np.uint8]  # (N, A)
    reward: float
    terminated: bool
    truncated: bool
    alive: NDArray[np.bool_] | None  # (N,), where spec.has_alive
    visibility: NDArray[np.bool_] | None  # (N, N), where spec.has_visibility
    info: dict[str, float]  # the same keys at the end of every episode


class SingleEnv(Protocol):
    """One team playing one task.

    After ``reset(seed)`` everything that happens depends on ``seed`` and the actions alone; that is
    what makes runs repeatable and checkpoints exact.
    """

    spec: EnvSpec

    def reset(self, seed: int) -> Seen:
        """Start an episode."""
        ...

    def step(self, actions: Sequence[Any]) -> Seen:
        """Take one action per agent (N): a number, or a list of D numbers where continuous."""
        ...

    def describe(self) -> dict[str, Any]:
        """Facts worth recording with the run."""
        ...

    def close(self) -> None:
        """Free what the copy holds."""
        ...


def episode_seed(seed: int, copy: int, episode: int) -> int:
    """Seed of one episode: the same however many copies there are and wherever they run.

    Kept below 2**31, which every library takes.

    >>> episode_seed(0, 0, 0) == episode_seed(0, 0, 0) != episode_seed(0, 0, 1)
    True
    """
    words = np.random.SeedSequence([seed, copy, episode]).generate_state(1, np.uint32)
    return int(words[0]) & 0x7FFFFFFF
