"""Locks between processes, which the system frees when their holder dies."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import IO, Any


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
            file.write(json.dumps(note).encode())
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            self.release()
            raise

    def holder(self) -> dict[str, Any]:
        """``pid``, ``host`` and ``task`` of who signed last; empty if nobody did."""
        try:
            note = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
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
