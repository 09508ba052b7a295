"""What must hold of every dataset, check by check; what fails is named with its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...envs.protocol import Box, Discrete
from ...errors import DatasetError
from .description import Description
from .reader import Dataset
from .shard import HEADER, Shard, crc32, sha256

CHECKS = ("files", "checksums", "shapes", "finite", "ends", "masks")
"""Names of the checks, in the order in which they are made."""


@dataclass(frozen=True)
class Fault:
    """Something that is wrong.

    Attributes:
        check: which of :data:`CHECKS` found it.
        shard: where.
        episode: of the shard; None where the whole shard cannot be read.
        message: which file, which bytes or steps, and what is wrong there.
    """

    check: str
    shard: str
    episode: int | None
    message: str

    def __str__(self) -> str:
        where = self.shard if self.episode is None else f"{self.shard}, episode {self.episode}"
        return f"{where}: {self.message}"


@dataclass
class Report:
    """What the checks found.

    Attributes:
        dataset: what could be opened of it.
        faults: in the order of shards.
        whole: (E,) bool, episodes of ``dataset`` without a fault.
    """

    dataset: Dataset
    faults: list[Fault] = field(default_factory=list)
    whole: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))


def check(folder: Path) -> Report:
    """All checks on the dataset in ``folder``.

    Raises:
        DatasetError: ``dataset.json`` itself cannot be read.
    """
    description = Description.read(folder)
    shards: list[Shard] = []
    faults: list[Fault] = []
    whole: list[NDArray[np.bool_]] = [np.zeros(0, bool)]
    for entry in description.shards:
        try:
            shard = Shard(folder / entry.name, entry, description.fields)
            shard.checksums  # noqa: B018 - its file must be there as well
        except DatasetError as error:
            faults.append(Fault("files", entry.name, None, str(error)))
            continue
        found = [*_checksums(shard), *_contents(shard, description)]
        good = np.ones(entry.episodes, bool)
        good[[f.episode for f in found if f.episode is not None]] = False
        shards.append(shard)
        whole.append(good)
        faults += found
    return Report(Dataset(folder, description, shards), faults, np.concatenate(whole))


def _checksums(shard: Shard) -> Iterator[Fault]:
    """Files that are not what was written, and in which episode."""
    for name, (_, digest) in shard.entry.files.items():
        if sha256(shard.folder / name) == digest:
            continue
        places = list(_changed_episodes(shard, name.removesuffix(".npy")))
        if not places:
            text = f"{shard.folder / name} is not what was written (checksum)"
            yield Fault("checksums", shard.entry.name, None, text)
        for episode, text in places:
            yield Fault("checksums", shard.entry.name, episode, text)


def _changed_episodes(shard: Shard, name: str) -> Iterator[tuple[int, str]]:
    if name not in shard.arrays:
        return
    column = list(shard.fields).index(name)
    array = shard.arrays[name]
    width = array.itemsize * int(np.prod(array.shape[1:]))
    for episode, told in enumerate(shard.checksums[:, column].tolist()):
        first, last = shard.bounds(name, episode)
        if crc32(array[first:last]) != told:
            yield (
                episode,
                f"{shard.folder / name}.npy is not what was written in bytes "
                f"{HEADER + first * width} to {HEADER + last * width - 1} (entries {first} to {last - 1})",
            )


def _contents(shard: Shard, description: Description) -> Iterator[Fault]:
    """What the numbers themselves say, episode by episode."""
    tests: dict[str, Callable[[dict[str, NDArray[Any]], Description], Iterator[str]]] = {
        "shapes": _shapes,
        "finite": _finite,
        "ends": _ends,
        "masks": _masks,
    }
    for episode, arrays in enumerate(shard):
        for name, test in tests.items():
            for text in test(arrays, description):
                yield Fault(name, shard.entry.name, episode, text)


def _shapes(episode: dict[str, NDArray[Any]], description: Description) -> Iterator[str]:
    length, limit = len(episode["reward"]), description.spec.episode_limit
    if length > limit:
        yield f"{length} steps, but the environment's episodes have {limit} at most"


def _finite(episode: dict[str, NDArray[Any]], description: Description) -> Iterator[str]:
    for name, array in episode.items():
        if array.dtype.kind != "f":
            continue
        bad = ~np.isfinite(array)
        if bad.any():
            at = np.unravel_index(int(bad.argmax()), bad.shape)
            yield f"{name} is {array[at]} at step {at[0]}"


def _ends(episode: dict[str, NDArray[Any]], description: Description) -> Iterator[str]:
    over = episode["terminated"] | episode["truncated"]
    if over[:-1].any():
        yield f"it ends at step {int(over.argmax())} and goes on to step {len(over) - 1}"
    if not over[-1]:
        yield f"it is neither terminated nor truncated at its last step, {len(over) - 1}"


def _masks(episode: dict[str, NDArray[Any]], description: Description) -> Iterator[str]:
    """Whatever was done could be done, and there was something to do."""
    action, mask, taken = description.spec.action, episode["avail_actions"], episode["actions"]
    if not isinstance(action, Discrete):
        yield from _within(action if isinstance(action, Box) else action.vector, taken)
        return
    stuck = ~mask.any(axis=-1)
    if stuck.any():
        t, agent = np.unravel_index(int(stuck.argmax()), stuck.shape)
        yield f"agent {agent} has no available action at step {t}"
    legal = (taken >= 0) & (taken < action.n)
    known = np.where(legal, taken, 0).astype(np.int64)
    legal &= np.take_along_axis(mask[:-1], known[..., None], axis=-1)[..., 0]
    if not legal.all():
        t, agent = np.unravel_index(int((~legal).argmax()), legal.shape)
        yield f"agent {agent} takes action {taken[t, agent]} at step {t}, which its mask rules out"


def _within(box: Box, taken: NDArray[Any]) -> Iterator[str]:
    """Vectors (T, N, ..., D) inside their bounds; a choice before them is not looked at."""
    vector = taken[..., -len(box.low) :]
    low, high = np.array(box.low, np.float32), np.array(box.high, np.float32)
    outside = (vector < low) | (vector > high)
    if outside.any():
        t, agent, d = np.unravel_index(int(outside.argmax()), outside.shape)
        yield f"agent {agent}'s action at step {t} is {vector[t, agent, d]:g} in dimension {d}, out of bounds"
