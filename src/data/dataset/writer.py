"""Files episodes as they come: shards are written beside their place and appear whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import DatasetError
from ..compact import refuse_what_float16_loses
from ..store import EpisodeStore
from .description import FILE, Description, ShardEntry
from .shard import CHECKSUMS, HEADER, OFFSETS, OUTCOMES, crc32, field_shape, npy_header, sha256

SHARD_BYTES = 64 * 2**20


class DatasetWriter:
    """Writes one dataset, an episode at a time; memory use does not grow with it.

    A shard is closed when it has ``shard_bytes``, and by :meth:`seal` and :meth:`close`. What a kill leaves
    is a whole dataset without the episodes of the open shard.

    Args:
        folder: where; it must not hold anything yet.
        description: of what will be written, without shards.
        shard_bytes: of a shard when it is closed, about.

    Raises:
        DatasetError: there is something in ``folder``.
        OSError: it cannot be written.
    """

    def __init__(
        self, folder: Path, description: Description, *, shard_bytes: int = SHARD_BYTES
    ) -> None:
        refuse_what_is_there(folder)
        self._begin(folder, description, shard_bytes)
        folder.mkdir(parents=True, exist_ok=True)
        self._describe()

    def _begin(self, folder: Path, description: Description, shard_bytes: int) -> None:
        self.folder, self.description, self._shard_bytes = folder, description, shard_bytes
        self._returns: list[float] = []
        self._lengths: list[int] = []
        self._open: _OpenShard | None = None

    @classmethod
    def reopened(
        cls, folder: Path, shards: int, *, shard_bytes: int = SHARD_BYTES
    ) -> DatasetWriter:
        """Go on with a dataset as it was when it had so many shards; later ones are removed.

        Raises:
            DatasetError: it has fewer, or is damaged.
        """
        from .reader import Dataset

        whole = Dataset.open(folder)
        if len(whole.description.shards) < shards:
            raise DatasetError(
                f"{folder} has {len(whole.description.shards)} shards, but {shards} were written when the "
                "checkpoint was made: some are gone. Record into another folder."
            )
        writer = cls.__new__(cls)
        kept = whole.description.shards[:shards]
        description = Description(
            **{**vars(whole.description), "shards": kept, "returns": {}, "lengths": {}}
        )
        writer._begin(folder, description, shard_bytes)
        episodes = sum(entry.episodes for entry in kept)
        writer._returns = whole.returns[:episodes].tolist()
        writer._lengths = whole.lengths[:episodes].tolist()
        writer._describe()
        for late in whole.description.shards[shards:]:
            shutil.rmtree(folder / late.name, ignore_errors=True)
        return writer

    @property
    def episodes(self) -> int:
        """Written so far, the open shard's too."""
        return len(self._lengths) + (0 if self._open is None else len(self._open.lengths))

    @property
    def steps(self) -> int:
        """Written so far, the open shard's too."""
        return sum(self._lengths) + (0 if self._open is None else sum(self._open.lengths))

    def append(
        self, episode: Mapping[str, NDArray[Any]], outcome: Mapping[str, float] | None = None
    ) -> None:
        """One whole episode.

        Args:
            episode: field -> (T, ...), or (T + 1, ...) where seen before an action; all fields of the
                description.
            outcome: numbers known at its end (``battle_won`` ...).

        Raises:
            DatasetError: a field is missing or has another shape, or a number is too large for float16.
            OSError: the disk is full or not writable.
        """
        arrays = self._checked(episode)
        if self._open is None:
            name = f"shard_{len(self.description.shards):06d}"
            self._open = _OpenShard(self.folder, name, self.description)
        try:
            self._open.append(arrays, dict(outcome or {}))
        except OSError:
            self.discard()  # half an episode is in its files
            raise
        if self._open.nbytes >= self._shard_bytes:
            self.seal()

    def append_row(self, store: EpisodeStore, row: int) -> None:
        """The whole episode in ``row`` of a runner's store."""
        length = int(store.lengths[row])
        episode = {
            name: store.arrays[name][row, : field.steps(length)]
            for name, field in self.description.fields.items()
        }
        self.append(episode, store.outcomes[row])

    def _checked(self, episode: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The episode in the types it is kept in."""
        length = len(episode["reward"]) if "reward" in episode else 0
        if length < 1:
            raise DatasetError("an episode needs the field reward, with a step at least.")
        arrays = {}
        for name, field in self.description.fields.items():
            array = episode.get(name)
            shape = (field.steps(length), *field.shape)
            if array is None or array.shape != shape:
                found = "missing" if array is None else f"of shape {array.shape}"
                raise DatasetError(
                    f"field {name} of an episode of {length} steps is {found}, not {shape}."
                )
            if field.dtype is np.float16 and array.dtype != np.float16:
                refuse_what_float16_loses(name, torch.from_numpy(np.ascontiguousarray(array)))
            arrays[name] = np.ascontiguousarray(array, dtype=field.dtype)
        return arrays

    def seal(self) -> int:
        """Close the open shard, if any; returns how many shards there are then."""
        if self._open is not None:
            shard, self._open = self._open, None
            try:
                entry = shard.close()
            except OSError:
                shard.discard()
                raise
            self.description = self.description.with_shard(entry)
            self._lengths += shard.lengths
            self._returns += shard.returns
            self._describe()
        return len(self.description.shards)

    def close(self) -> None:
        """Close the open shard; nothing more is written."""
        self.seal()

    def discard(self) -> None:
        """Throw the episodes of the open shard away."""
        if self._open is not None:
            self._open.discard()
            self._open = None

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _describe(self) -> None:
        returns = np.array(self._returns, np.float64)
        self.description.write(self.folder, returns, np.array(self._lengths, np.int64))


class _OpenShard:
    """Files that grow under a name nobody reads, until :meth:`close` gives them theirs."""

    def __init__(self, folder: Path, name: str, description: Description) -> None:
        self._final, self._folder = folder / name, folder / f".{name}.writing"
        self._name, self._fields = name, description.fields
        for old in (
            self._final,
            self._folder,
        ):  # of a kill; what is not in dataset.json does not exist
            shutil.rmtree(old, ignore_errors=True)
        self._folder.mkdir()
        self._files: dict[str, IO[bytes]] = {}
        for field in self._fields:
            self._files[field] = (self._folder / f"{field}.npy").open("wb")
            self._files[field].write(bytes(HEADER))
        self._outcomes: list[dict[str, float]] = []
        self._checksums: list[list[int]] = []
        self.lengths: list[int] = []
        self.returns: list[float] = []
        self.nbytes = 0

    def append(self, arrays: Mapping[str, NDArray[Any]], outcome: dict[str, float]) -> None:
        for name, file in self._files.items():
            file.write(arrays[name].data if arrays[name].size else b"")
            self.nbytes += arrays[name].nbytes
        self._checksums.append([crc32(arrays[name]) for name in self._fields])
        self._outcomes.append(outcome)
        self.lengths.append(len(arrays["reward"]))
        self.returns.append(float(arrays["reward"].sum(dtype=np.float64)))

    def close(self) -> ShardEntry:
        steps = sum(self.lengths)
        columns = tuple(dict.fromkeys(name for row in self._outcomes for name in row))
        entry = ShardEntry(self._name, len(self.lengths), steps, columns, {})
        for name, file in self._files.items():
            field = self._fields[name]
            file.seek(0)
            file.write(npy_header(np.dtype(field.dtype), field_shape(field, entry)))
            _settle(file)
        ends = np.cumsum([0, *self.lengths], dtype=np.int64)
        table = [[row.get(name, np.nan) for name in columns] for row in self._outcomes]
        self._write(OFFSETS, ends)
        self._write(CHECKSUMS, np.array(self._checksums, np.uint32))
        self._write(OUTCOMES, np.array(table, np.float64).reshape(len(self.lengths), len(columns)))
        files = {
            file.name: (file.stat().st_size, sha256(file))
            for file in sorted(self._folder.iterdir())
        }
        self._folder.rename(self._final)
        return ShardEntry(self._name, len(self.lengths), steps, columns, files)

    def _write(self, name: str, array: NDArray[Any]) -> None:
        with (self._folder / name).open("wb") as file:
            file.write(npy_header(array.dtype, array.shape) + array.tobytes())
            _settle(file)

    def discard(self) -> None:
        for file in self._files.values():
            file.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _settle(file: IO[bytes]) -> None:
    """On the disk before the shard has its name."""
    file.flush()
    os.fsync(file.fileno())
    file.close()


@contextmanager
def appearing_whole(folder: Path) -> Iterator[Path]:
    """A place beside ``folder`` to write a dataset in; it gets its name when all of it is there.

    Raises:
        DatasetError: there is something at ``folder``.
    """
    refuse_what_is_there(folder)
    beside = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(beside, ignore_errors=True)  # of a kill
    try:
        yield beside
        if folder.is_dir():  # an empty one
            folder.rmdir()
        beside.rename(folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def refuse_what_is_there(folder: Path) -> None:
    """A dataset is never written over anything.

    Raises:
        DatasetError: there is something at ``folder``.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        what = "a dataset" if (folder / FILE).exists() else "something"
        raise DatasetError(
            f"there is {what} at {folder} already, and it is kept. Name another folder, or remove it first."
        )
