"""Files that survive a kill at any moment: whole JSON files, append-only files, and locks."""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

Row = dict[str, Any]

_SPELLED = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def to_json(value: Any, **layout: Any) -> str:
    """JSON text of a value. Numbers that JSON has no word for become strings that ``float()`` reads.

    >>> to_json([1.5, float("nan"), float("-inf")])
    '[1.5, "NaN", "-Infinity"]'
    """
    try:
        return json.dumps(value, allow_nan=False, **layout)
    except ValueError:
        return json.dumps(_spelled(value), allow_nan=False, **layout)


def number(value: Any) -> Any:
    """Undo what :func:`to_json` did to one number; other values pass.

    >>> number("-Infinity"), number(2), number("x")
    (-inf, 2, 'x')
    """
    return _SPELLED.get(value, value) if isinstance(value, str) else value


def _spelled(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _spelled(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_spelled(item) for item in value]
    return value


def write_json(path: Path, value: Any) -> None:
    """Replace the file in one step, so that a reader or a kill never meets half of it."""
    beside = path.with_name(path.name + ".tmp")
    with open(beside, "w", encoding="utf-8") as f:
        f.write(to_json(value, sort_keys=True, indent=2))
        f.flush()
        os.fsync(f.fileno())
    os.replace(beside, path)


def read_json(path: Path, default: Any = None) -> Any:
    """Content of a JSON file, or ``default`` when it is missing or unreadable."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return default


def read_rows(
    path: Path,
    offset: int = 0,
    end: int | None = None,
    *,
    wanted: Callable[[bytes], bool] = bool,
) -> tuple[list[Row], int]:
    """Complete lines of a JSON-lines file between two byte offsets, and the offset behind them.

    A line cut short by a kill is left out; so is one that is no JSON object, or not ``wanted``.
    """
    try:
        with open(path, "rb") as f:
            f.seek(offset)
            data = f.read() if end is None else f.read(end - offset)
    except OSError:
        return [], offset
    complete = data[: data.rfind(b"\n") + 1]
    rows = []
    for line in filter(wanted, complete.splitlines()):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows, offset + len(complete)


class AppendFile:
    """A file that only grows, each append whole or not at all.

    Args:
        path: the file; made at the first append.
        lines: the file holds lines; a last one cut short by a kill is removed.
    """

    def __init__(self, path: Path, *, lines: bool) -> None:
        self.path = path
        self.size = path.stat().st_size if path.exists() else 0
        if lines and self.size:
            self.size = path.read_bytes().rfind(b"\n") + 1

    def append(self, data: bytes) -> None:
        """Write at the end and wait until the disk has it.

        Raises:
            OSError: nothing was appended; what a failed write left behind is cut off the next time.
        """
        if not data:
            return
        with open(self.path, "ab") as f:
            if f.tell() != self.size:
                f.truncate(self.size)
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        self.size += len(data)

    def append_rows(self, rows: list[Row]) -> None:
        """Append one JSON object per line."""
        self.append("".join(to_json(row) + "\n" for row in rows).encode())


def _try_lock(file: IO[bytes], *, shared: bool = False) -> bool | None:
    """Whether the lock was free; None on a file system that has no locks."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True


def is_locked(path: Path) -> bool | None:
    """Whether a process has the lock, by a look that makes no file; None if that cannot be told."""
    try:
        with open(path, "rb") as file:
            free = _try_lock(file, shared=True)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    return None if free is None else not free


class FileLock:
    """A lock between processes that the system frees when its holder dies.

    The file says who has it, for the messages of those who wait.

    Attributes:
        works: False once the file system turned out to have no locks; then nobody is locked out.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.works = True
        self._file: IO[bytes] | None = None

    def acquire(self, timeout: float = 0.0, *, task: str = "") -> bool:
        """Take the lock, waiting up to ``timeout`` seconds; False if somebody else kept it.

        Args:
            timeout: seconds to wait.
            task: what it is taken for, see :meth:`holder`.

        Raises:
            OSError: the file cannot be made.
        """
        end = time.monotonic() + timeout
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = open(self.path, "ab")  # noqa: SIM115 - the open file is the lock
        while (free := _try_lock(file)) is False:
            if time.monotonic() >= end:
                file.close()
                return False
            time.sleep(0.05)
        self.works = free is not None
        self._file = file
        if task:
            self._sign(file, task)
        return True

    def _sign(self, file: IO[bytes], task: str) -> None:
        note = {"pid": os.getpid(), "host": socket.gethostname(), "task": task}
        try:
            file.truncate(0)
            file.write(to_json(note).encode())
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            self.release()
            raise

    def holder(self) -> dict[str, Any]:
        """``pid``, ``host`` and ``task`` of who signed last; empty if nobody did."""
        note = read_json(self.path)
        return note if isinstance(note, dict) else {}

    def release(self) -> None:
        """Give the lock back; harmless without one."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # what a full disk did not take
                self._file.close()
            self._file = None

    def __enter__(self) -> FileLock:
        return self

    def __exit__(self, *raised: object) -> None:
        self.release()
