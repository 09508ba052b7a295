"""One shard: a folder of ``.npy`` files, one per field, episodes laid end to end.

Episode e of a shard has its steps ``offsets[e] .. offsets[e + 1]`` in the fields of an action. The fields
seen before an action have one more entry per episode, so there it begins at ``offsets[e] + e``.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import DatasetError
from ..batch import Field
from .description import ShardEntry

HEADER = 128
"""Bytes before the data of each file: room enough that the shape can be filled in at the end."""

OFFSETS, CHECKSUMS, OUTCOMES = "offsets.npy", "crc32.npy", "outcomes.npy"


def npy_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """The first :data:`HEADER` bytes of a ``.npy`` file (format 1.0)."""
    told = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": shape,
    }
    room = HEADER - 10
    text = repr(told).encode("latin1")
    assert len(text) < room, f"{told} is too long for a header of {HEADER} bytes"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", room) + text.ljust(room - 1) + b"\n"


def field_shape(field: Field, entry: ShardEntry) -> tuple[int, ...]:
    """Shape of the whole file of one field."""
    return (entry.steps + (entry.episodes if field.final else 0), *field.shape)


def crc32(array: NDArray[Any]) -> int:
    """Checksum of one field of one episode."""
    return zlib.crc32(np.ascontiguousarray(array).tobytes())


class Shard:
    """The arrays of one shard, mapped from its files.

    Attributes:
        folder: where it lies.
        entry: what ``dataset.json`` says of it.
        offsets: (E + 1,) first step of each episode, and the end of the last.
        arrays: field -> all episodes' entries; not to be written to.
        outcomes: (E, K) numbers at the end of each episode, columns as in ``entry.outcomes``.
    """

    def __init__(self, folder: Path, entry: ShardEntry, fields: Mapping[str, Field]) -> None:
        """Map the files.

        Raises:
            DatasetError: one is missing, of another size, or does not begin as it should; contents are not
                looked at.
        """
        self.folder, self.entry, self.fields = folder, entry, fields
        self.arrays: dict[str, NDArray[Any]] = {}
        for name, field in fields.items():
            file = f"{name}.npy"
            array = self._mapped(file, np.dtype(field.dtype), field_shape(field, entry))
            array.flags.writeable = False
            self.arrays[name] = array
        E, K = entry.episodes, len(entry.outcomes)
        self.offsets = self._mapped(OFFSETS, np.dtype(np.int64), (E + 1,)).copy()
        self.outcomes = self._mapped(OUTCOMES, np.dtype(np.float64), (E, K))
        lengths = np.diff(self.offsets)
        if self.offsets[0] != 0 or self.offsets[-1] != entry.steps or (lengths < 1).any():
            raise DatasetError(
                f"{folder / OFFSETS} is damaged: episodes must follow each other from 0 to {entry.steps}, "
                f"with a step each at least.{_HOW_TO_FIND_OUT}"
            )

    @property
    def checksums(self) -> NDArray[np.uint32]:
        """(E, F) of each field of each episode, in the fields' order."""
        shape = (self.entry.episodes, len(self.fields))
        return self._mapped(CHECKSUMS, np.dtype(np.uint32), shape)

    def bounds(self, name: str, episode: int) -> tuple[int, int]:
        """First entry and the one behind the last of ``episode`` in the file of field ``name``."""
        extra = int(self.fields[name].final)
        first = int(self.offsets[episode]) + extra * episode
        return first, int(self.offsets[episode + 1]) + extra * (episode + 1)

    def episode(self, episode: int) -> dict[str, NDArray[Any]]:
        """All fields of one episode, as they are kept."""
        found = {}
        for name, array in self.arrays.items():
            first, last = self.bounds(name, episode)
            found[name] = array[first:last]
        return found

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        return (self.episode(e) for e in range(self.entry.episodes))

    def _mapped(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """A file's array, read from the disk where it is looked at.

        ``np.load`` would keep a file open for each; a dataset may have thousands.
        """
        file = self.folder / name
        size = HEADER + int(np.prod(shape)) * dtype.itemsize
        try:
            found = file.stat().st_size
            with file.open("rb") as content:
                header = content.read(HEADER)
        except OSError as error:
            raise DatasetError(
                f"{file} cannot be read ({error.strerror}).{_HOW_TO_FIND_OUT}"
            ) from error
        if found != size:
            raise DatasetError(
                f"{file} has {found} bytes, not {size}: it was cut or replaced.{_HOW_TO_FIND_OUT}"
            )
        if header != npy_header(dtype, shape):
            raise DatasetError(
                f"{file} does not begin as an array {dtype.name}{list(shape)} does.{_HOW_TO_FIND_OUT}"
            )
        mapped = torch.from_file(str(file), shared=False, size=size, dtype=torch.uint8)
        array: NDArray[Any] = mapped.numpy()[HEADER:].view(dtype).reshape(shape)
        return array


_HOW_TO_FIND_OUT = " `phalanx dataset check` says what is whole and can copy it."


def sha256(file: Path) -> str:
    """Checksum of a whole file."""
    found = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(1 << 20):
            found.update(block)
    return found.hexdigest()
