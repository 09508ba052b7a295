"""Who has which row of a sweep, decided by files that only one process can create.

A row has numbered claims, ``claims/0007.0``, ``0007.1`` and so on; the highest counts. Whoever creates the
next one has the row, until a file ``0007.1.end`` says how it ended. Its owner holds a lock on it, which the
system frees at its death, and touches it every few seconds for those who cannot see locks of another
machine. Nothing is ever taken out of a claim or renamed, so two who want the same row at once cannot both
get it: the number they want is there or it is not.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..locks import FileLock, is_locked
from ..tracking.files import read_json, to_json, write_json
from .machine import this_machine

DONE, FAILED, PRUNED = "done", "failed", "pruned"
STOPPED = "stopped"
FREED = "freed"
FINAL = (DONE, FAILED, PRUNED)
"""Ends after which nobody takes a row up again; STOPPED and FREED are not among them."""

CLAIMS_FOLDER = "claims"
_NAME = re.compile(r"(\d{4,})\.(\d+)(\.end)?$")
_BEATS = 6  # signs of life within the time after which a claim is stale
LOST_CLAIM = 76
"""Exit status of a process whose row was taken over while it slept: nothing more may come from it."""


@dataclass(frozen=True)
class Standing:
    """What the newest claim on a row says.

    Attributes:
        number: of the claim; -1 without any.
        end: how it ended; empty as long as its owner is at work, or died.
        said: what is on record about the end: ``sentence``, ``step``, ``seconds``.
        owner: ``machine``, ``pid`` of who made it, the ``step`` it began at and, by the clock of the disk,
            when it ``began``.
        alive: its owner is at work.
    """

    number: int = -1
    end: str = ""
    said: Mapping[str, Any] | None = None
    owner: Mapping[str, Any] | None = None
    alive: bool = False

    @property
    def free(self) -> bool:
        """Whether a worker may take the row."""
        return self.end not in FINAL and not self.alive

    def at(self, step: int) -> bool:
        """Whether its owner died without a word where it had begun, at this step."""
        return not self.end and self.owner is not None and self.owner.get("step") == step


class Claims:
    """The claims on the rows of one sweep.

    Args:
        directory: of the sweep.
        stale_after: seconds without a sign of life after which a claim is given up.
    """

    def __init__(self, directory: Path, stale_after: float) -> None:
        self.folder = directory / CLAIMS_FOLDER
        self._stale_after = stale_after
        self._said: dict[tuple[int, int], Mapping[str, Any]] = {}

    def standings(self) -> dict[int, Standing]:
        """Every row that somebody has claimed."""
        newest: dict[int, int] = {}
        ended: set[tuple[int, int]] = set()
        for name in os.listdir(self.folder):
            if match := _NAME.match(name):
                row, number = int(match[1]), int(match[2])
                newest[row] = max(number, newest.get(row, -1))
                if match[3]:
                    ended.add((row, number))
        now = self.time() if len(newest) > len(ended) else 0.0
        return {
            row: self._standing(row, number, (row, number) in ended, now)
            for row, number in newest.items()
        }

    def standing(self, row: int) -> Standing:
        """What is so of one row."""
        return self.standings().get(row, Standing())

    def take(self, row: int, standing: Standing, step: int) -> Hold | None:
        """Claim a row that was free; None if somebody else was faster.

        Args:
            row: which.
            standing: of the row, which must be :attr:`Standing.free`.
            step: environment steps that are behind it.
        """
        number = standing.number + 1
        path = self._path(row, number)
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            return None
        lock = FileLock(path)
        lock.acquire(5.0)  # who looks at it holds it for a moment
        owner = {
            "machine": this_machine(),
            "pid": os.getpid(),
            "step": step,
            "began": path.stat().st_mtime,
        }
        path.write_text(to_json(owner), encoding="utf-8")
        return Hold(self, row, number, lock, beat=self._stale_after / _BEATS)

    def free(self, row: int, standing: Standing) -> bool:
        """Let a row that has ended be taken up again; False if somebody was faster."""
        number = standing.number + 1
        try:
            os.close(os.open(self._path(row, number), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            return False
        self.write_end(row, number, FREED, {})
        return True

    def write_end(self, row: int, number: int, end: str, said: Mapping[str, Any]) -> None:
        """Put on record how a claim ended."""
        write_json(Path(f"{self._path(row, number)}.end"), {"end": end, **said})

    def deaths(self, row: int, standing: Standing) -> int:
        """How many claims up to the newest ended without a word, one after the other at the same step."""
        step = (standing.owner or {}).get("step")
        found = 0
        for number in range(standing.number, -1, -1):
            owner = read_json(self._path(row, number), {})
            silent = not Path(f"{self._path(row, number)}.end").exists()
            if not silent or owner.get("step") != step:
                break
            found += 1
        return found

    def overtaken(self, row: int, number: int) -> bool:
        """Whether somebody has made a later claim."""
        return self._path(row, number + 1).exists()

    def touch(self, row: int, number: int) -> None:
        """Show a sign of life."""
        os.utime(self._path(row, number))

    def _path(self, row: int, number: int) -> Path:
        return self.folder / f"{row:04d}.{number}"

    def _standing(self, row: int, number: int, ended: bool, now: float) -> Standing:
        if ended:
            said = self._said.get((row, number)) or self._read_end(row, number)
            return Standing(number, said.get("end", STOPPED), said)
        path = self._path(row, number)
        owner = read_json(path)
        return Standing(number, owner=owner, alive=self._alive(path, owner, now))

    def _read_end(self, row: int, number: int) -> Mapping[str, Any]:
        said = read_json(Path(f"{self._path(row, number)}.end"))
        if not isinstance(said, dict):
            return {}
        self._said[row, number] = said  # it never changes
        return said

    def _alive(self, path: Path, owner: Any, now: float) -> bool:
        if isinstance(owner, dict) and owner.get("machine") == this_machine():
            held = is_locked(path)
            if held is not None:
                return held
        # Of another machine, on a disk without locks, or made a moment ago.
        with contextlib.suppress(OSError):
            return now - path.stat().st_mtime < self._stale_after
        return True

    def time(self) -> float:
        """Now, by the clock of the disk, which dates the claims: machines' own clocks may differ."""
        path = self.folder / f".clock.{os.getpid()}.{secrets.token_hex(4)}"
        path.touch()
        try:
            return path.stat().st_mtime
        finally:
            path.unlink(missing_ok=True)


class Hold:
    """A row that is this process's, with a thread that shows signs of life.

    Used as a context; whoever leaves it without :meth:`end` gives the row back as if it had died.

    Attributes:
        row: number of the row.
        number: of the claim.
    """

    def __init__(self, claims: Claims, row: int, number: int, lock: FileLock, beat: float) -> None:
        self.row, self.number = row, number
        self._claims, self._lock, self._beat = claims, lock, beat
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True, name="claim")
        self.when_lost: Callable[[], None] = _vanish
        """Called on the thread when somebody else has the row: its owner must not write another byte."""

    def end(self, end: str, **said: Any) -> None:
        """Put on record how it ended: one of FINAL, or STOPPED for others to go on with."""
        self._claims.write_end(self.row, self.number, end, said)

    def __enter__(self) -> Hold:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._over.set()
        self._thread.join()
        self._lock.release()

    def _live(self) -> None:
        while not self._over.wait(self._beat):
            with contextlib.suppress(OSError):  # a file server that is away for a moment
                if self._claims.overtaken(self.row, self.number):
                    self.when_lost()
                    return
                self._claims.touch(self.row, self.number)


def _vanish() -> None:
    os._exit(LOST_CLAIM)
