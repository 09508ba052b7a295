"""Run by itself, as a process with next to no rights: makes arrays of torch files that hold lists of numbers.

A pickle is a program. This one's answers to what it may ask for are written here: lists, numbers, and arrays
and scalars of numpy, which are put together from their bytes by code of our own. Whatever else it names is
refused before anything of that name exists, and behind that the process may open no file, start no other, and
use little memory and time.

It knows nothing of the package that it lies in, and is not imported by it. Through its standard input come
files, each as its length in 8 bytes and its bytes; for each goes out a byte, 0 or 1, a length, and the arrays
one after the other as ``.npy``, or a sentence that says why there are none.
"""

from __future__ import annotations

import io
import pickle
import re
import resource
import struct
import sys
import time
import zipfile
from typing import Any, NoReturn

import numpy as np

MEMORY = 4 * 2**30  # bytes of addresses
SECONDS = 60  # of one file
DEEPEST = 8  # lists within lists
_MAGIC = 0x1950A86A20F9469CFC6C  # torch.save began with it before it wrote archives
_NUMBERS = re.compile(r"[?]|[biuf]\d{1,2}")


class RefusedError(Exception):
    """Something that is not admitted; says what."""


class Type:
    """In place of ``numpy.dtype``: of plain numbers only."""

    def __init__(self, name: str, align: object = False, copy: object = False) -> None:
        if not isinstance(name, str) or not _NUMBERS.fullmatch(name):
            raise RefusedError(f"holds numpy data of type {name!r}")
        self.numpy = np.dtype(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, order, *rest = state
        if any(part is not None for part in rest[:3]) or order not in ("<", ">", "=", "|"):
            raise RefusedError("holds numpy data that are no plain numbers")
        self.numpy = self.numpy.newbyteorder(order)


class Array:
    """In place of ``numpy.ndarray``."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, content = state
        if not isinstance(kind, Type) or not isinstance(content, bytes):
            raise RefusedError("holds numpy data that are no plain numbers")
        flat = np.frombuffer(content, kind.numpy)
        self.numpy = flat.reshape(shape, order="F" if fortran else "C")


def _array(kind: object, shape: object, code: object) -> Array:
    """In place of ``numpy.core.multiarray._reconstruct``."""
    return Array()


def _scalar(kind: Type, content: bytes) -> object:
    """In place of ``numpy.core.multiarray.scalar``."""
    return np.frombuffer(content, kind.numpy, 1)[0].item()


def _bytes(text: str, encoding: str) -> bytes:
    """In place of ``_codecs.encode``, as which bytes are written by older protocols."""
    if encoding != "latin1":
        raise RefusedError(f"holds text in {encoding!r}")
    return text.encode("latin1")


_ADMITTED = {
    ("numpy", "dtype"): Type,
    ("numpy", "ndarray"): Array,
    ("numpy.core.multiarray", "_reconstruct"): _array,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("_codecs", "encode"): _bytes,
}


class Unpickler(pickle.Unpickler):
    """Of lists and numbers."""

    def find_class(self, module: str, name: str) -> Any:
        """What stands here for ``module.name``; nothing is imported."""
        known = module.replace("numpy._core", "numpy.core")  # numpy 2
        if (known, name) not in _ADMITTED:
            raise RefusedError(f"asks for {module}.{name}, and only lists and numbers are admitted")
        return _ADMITTED[known, name]

    def persistent_load(self, pid: object) -> NoReturn:
        """Storages of tensors lie outside the pickle."""
        raise RefusedError("holds tensors, and only lists and numbers are admitted")


def unpickled(content: bytes) -> object:
    """What a file that ``torch.save`` wrote holds, with stand-ins for numpy's."""
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = [x for x in archive.namelist() if x.rpartition("/")[2] == "data.pkl"]
            if len(names) != 1:
                raise RefusedError("is an archive, but none that torch.save wrote")
            return Unpickler(io.BytesIO(archive.read(names[0]))).load()
    stream = io.BytesIO(content)
    first = Unpickler(stream).load()
    if first != _MAGIC:
        return first
    for _ in range(2):  # torch's protocol, and what machine wrote it
        Unpickler(stream).load()
    return Unpickler(stream).load()


def plain(value: object, depth: int = 0) -> Any:
    """The value as lists, numbers and arrays of numpy."""
    if isinstance(value, int | float):
        return value
    if isinstance(value, Array) and hasattr(value, "numpy"):
        return value.numpy
    if not isinstance(value, list | tuple):
        raise RefusedError(
            f"holds a {type(value).__name__}, and only lists and numbers are admitted"
        )
    if depth == DEEPEST:
        raise RefusedError(f"holds lists in more than {DEEPEST} lists")
    return [plain(part, depth + 1) for part in value]


def columns(episode: object) -> list[np.ndarray[Any, Any]]:
    """Of ``episode[agent][step] = [first, second, ...]`` an array (agents, steps, ...) per element."""
    agents = plain(episode)
    try:
        count = len(agents[0][0])
        if {len(step) for agent in agents for step in agent} != {count}:
            raise RefusedError("has steps of unequal numbers of elements")
    except (TypeError, IndexError):
        raise RefusedError("is no list of agents, each a list of steps, each a list") from None
    found = []
    for c in range(count):
        try:
            column = np.array([[step[c] for step in agent] for agent in agents])
        except ValueError:
            raise RefusedError(f"has agents or elements {c} of unequal lengths") from None
        if column.dtype.kind not in "biuf":
            raise RefusedError(f"has elements {c} that are no numbers")
        found.append(column)
    return found


def answer(content: bytes) -> tuple[int, bytes]:
    """0 and arrays, or 1 and why not."""
    try:
        out = io.BytesIO()
        for column in columns(unpickled(content)):
            np.lib.format.write_array(out, column, allow_pickle=False)
    except RefusedError as refusal:
        return 1, str(refusal).encode()
    except (MemoryError, RecursionError):
        return 1, b"is larger than what is admitted"
    except Exception as error:  # a pickle may raise whatever it likes
        return 1, f"cannot be read ({type(error).__name__}: {error})".encode()
    return 0, out.getvalue()


def lock() -> None:
    """Give all rights away but to count, and to speak through the pipes that are open."""
    for limit, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 0),
    ):
        resource.setrlimit(limit, (most, most))


def main() -> None:
    """Answer until there is no more file."""
    source, out = sys.stdin.buffer, sys.stdout.buffer
    lock()
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    while length := source.read(8):
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + SECONDS, most))
        status, content = answer(source.read(*struct.unpack("<Q", length)))
        out.write(struct.pack("<BQ", status, len(content)) + content)
        out.flush()


if __name__ == "__main__":
    main()
