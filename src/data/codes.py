"""Codes of stored observations, made by a tokenizer when they are first asked for.

Axes: R episodes stored, T steps, N agents, K tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .store import EpisodeStore

PIECE = 4096
"""Entries encoded at a time."""


class StoredCodes:
    """Codes of the observations in a store, kept until the tokenizer changes.

    Args:
        store: whose observations they are of.
        tokens: K.
        vocabulary: codes are below it.
        encode: codes (M, N, K) of observations (M, N, O).
    """

    def __init__(
        self,
        store: EpisodeStore,
        tokens: int,
        vocabulary: int,
        encode: Callable[[Tensor], Tensor],
    ) -> None:
        self._store, self._encode = store, encode
        rows, self._entries, N = store.arrays["obs"].shape[:3]
        dtype = np.int16 if vocabulary <= np.iinfo(np.int16).max else np.int32
        self._codes = torch.from_numpy(np.zeros((rows * self._entries, N, tokens), dtype))
        self._known = np.zeros(rows * self._entries, bool)
        self.encoded = 0

    def forget(self) -> None:
        """Nothing is known: the tokenizer or the episodes are others now."""
        self._known[:] = False

    def at(self, rows: NDArray[np.int64], steps: NDArray[np.int64]) -> Tensor:
        """Codes (..., N, K) int64 of the observations at ``steps`` (...) of ``rows`` (...)."""
        places = rows * self._entries + steps
        missing = np.unique(places[~self._known[places]])
        for first in range(0, len(missing), PIECE):
            some = missing[first : first + PIECE]
            obs = self._store.entries("obs", some // self._entries, some % self._entries)
            self._codes[torch.from_numpy(some)] = self._encode(obs).to(self._codes)
        self._known[missing] = True
        self.encoded += len(missing)
        return self._codes[torch.from_numpy(places)].long()

    def of_windows(
        self, rows: NDArray[np.int64], starts: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> Tensor:
        """Codes (B, T+1, N, K) of windows of ``lengths`` (B,) steps; behind their ends that of the last."""
        along = np.arange(int(lengths.max()) + 1)
        steps = starts[:, None] + np.minimum(along, lengths[:, None])
        return self.at(np.broadcast_to(rows[:, None], steps.shape), steps)
