"""Reads a dataset without loading it: arrays are mapped, pages come from the disk as they are looked at."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import DatasetError
from ..batch import EpisodeBatch
from ..collate import collate
from .description import Description
from .shard import Shard

log = logging.getLogger("phalanx.data")


class Dataset:
    """Recorded episodes, numbered 0 to E - 1.

    Attributes:
        description: where they come from, see :class:`~.description.Description`.
        spec: of their environment.
        lengths: (E,) steps of each.
        returns: (E,) sum of rewards of each.
        shards: where they lie.
    """

    def __init__(self, folder: Path, description: Description, shards: Sequence[Shard]) -> None:
        self.folder, self.description = folder, description
        self.spec, self.fields = description.spec, description.fields
        self._collated = dict(self.fields)
        self.shards = list(shards)
        counts = [shard.entry.episodes for shard in self.shards]
        empty = np.zeros(0, np.int64)
        self.lengths: NDArray[np.int64] = np.concatenate(
            [empty, *(np.diff(shard.offsets) for shard in self.shards)]
        )
        self.returns: NDArray[np.float64] = np.concatenate(
            [np.zeros(0), *map(_returns, self.shards)]
        )
        self._shard = np.repeat(np.arange(len(self.shards)), counts)
        self._place = np.concatenate([empty, *map(np.arange, counts)])  # within the shard
        self._first = np.concatenate([empty, *(shard.offsets[:-1] for shard in self.shards)])

    @classmethod
    def open(cls, folder: str | Path, *, damaged: Literal["refuse", "skip"] = "refuse") -> Dataset:
        """The dataset in ``folder``.

        Args:
            damaged: ``skip`` leaves out shards whose files are missing or cut. Contents are not verified
                here: `phalanx dataset check` does.

        Raises:
            DatasetError: there is none, it is of another format, or a shard is damaged.
        """
        folder = Path(folder)
        description = Description.read(folder)
        shards = []
        for entry in description.shards:
            try:
                shards.append(Shard(folder / entry.name, entry, description.fields))
            except DatasetError as error:
                if damaged == "refuse":
                    raise
                log.warning("%s Its %d episodes are left out.", error, entry.episodes)
        return cls(folder, description, shards)

    def __len__(self) -> int:
        """E, episodes."""
        return len(self.lengths)

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        return (self.episode(row) for row in range(len(self)))

    @property
    def steps(self) -> int:
        """Of all episodes together."""
        return int(self.lengths.sum())

    @property
    def nbytes(self) -> int:
        """On the disk."""
        return sum(size for s in self.shards for size, _ in s.entry.files.values())

    @property
    def outcomes(self) -> dict[str, NDArray[np.float64]]:
        """(E,) each: numbers known at an episode's end (``battle_won`` ...), NaN where it has none."""
        names = dict.fromkeys(name for s in self.shards for name in s.entry.outcomes)
        found = {name: np.full(len(self), np.nan) for name in names}
        at = 0
        for shard in self.shards:
            end = at + shard.entry.episodes
            for k, name in enumerate(shard.entry.outcomes):
                found[name][at:end] = shard.outcomes[:, k]
            at = end
        return found

    def where(self, row: int) -> tuple[Shard, int]:
        """The shard that episode ``row`` lies in, and its place there."""
        return self.shards[int(self._shard[row])], int(self._place[row])

    def episode(self, row: int) -> dict[str, NDArray[Any]]:
        """One episode, field by field as it is kept: (T, ...), or (T + 1, ...) where seen before an action.

        The arrays are views of the files, and read-only.
        """
        shard, place = self.where(range(len(self))[row])
        return shard.episode(place)

    def leave_out(self, names: frozenset[str]) -> None:
        """Batches come without these optional fields from now on."""
        self._collated = {name: f for name, f in self.fields.items() if name not in names}

    def batch(
        self,
        rows: NDArray[np.int64],
        starts: NDArray[np.int64] | None = None,
        steps: int | None = None,
    ) -> EpisodeBatch:
        """See :class:`~..collate.Episodes`."""
        return collate(self.spec, self._collated, self.lengths, rows, self._entries, starts, steps)

    def _entries(self, name: str, row: int, first: int, last: int) -> NDArray[Any]:
        begin = self._first.item(row)
        if self.fields[name].final:
            begin += self._place.item(row)
        kept = self.shards[self._shard.item(row)].arrays[name]
        return kept[begin + first : begin + last]


def _returns(shard: Shard) -> NDArray[np.float64]:
    rewards = shard.arrays["reward"].astype(np.float64)
    return np.add.reduceat(rewards, shard.offsets[:-1]) if len(rewards) else np.zeros(0)
