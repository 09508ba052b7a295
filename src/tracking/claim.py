"""A run's folder in the hands of one process, from before anything in it is read to the very end."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from ..errors import RunBusyError, TrackingError
from ..locks import FileLock
from .record import LOCK_FILE, SpooledRun, beats, utc_now

RECORDING, DELIVERING = "recording", "delivering"
# A look at the lock holds it for a moment; a delivery for as long as the run's files take.
_MOMENT, _DELIVERY = 1.0, 60.0


@dataclass(frozen=True)
class Claim:
    """A run's folder that no other process records into, resumes or delivers.

    Attributes:
        directory: the folder; its name is the run's uid.
        resumed: it holds an earlier part of the run.
        lock: released by :meth:`release`, or by the system when the process ends.
    """

    directory: Path
    resumed: bool
    lock: FileLock

    @property
    def uid(self) -> str:
        """The run's name for good."""
        return self.directory.name

    def release(self) -> None:
        """The run is over; others may have its folder."""
        self.lock.release()


def claim_new(parent: Path) -> Claim:
    """A folder for a new run below ``parent``.

    Raises:
        TrackingError: nothing can be written there.
    """
    return claim_planned(parent / f"{utc_now():%Y%m%d-%H%M%S}-{secrets.token_hex(4)}")


def claim_planned(directory: Path) -> Claim:
    """The folder of a run whose name is settled, whether it has begun or not.

    Raises:
        RunBusyError: another process has it.
        TrackingError: it cannot be written.
    """
    if SpooledRun.read(directory) is not None:
        return claim_run(directory)
    lock = FileLock(directory / LOCK_FILE)
    try:
        free = lock.acquire(_MOMENT, task=RECORDING)
    except OSError as error:
        raise TrackingError(
            f"no run can be recorded in {directory.parent} ({error}). Nothing was started: make room there, "
            "or choose another folder with local_results_path=DIR."
        ) from error
    if not free:
        raise RunBusyError(f"run {directory.name} cannot be begun: {_holder(lock)} has its folder")
    return Claim(directory, resumed=False, lock=lock)


def claim_run(directory: Path) -> Claim:
    """The folder of a recorded run, to continue it.

    Raises:
        RunBusyError: another process has it; nothing in it was changed.
        TrackingError: it cannot be written; nothing in it was changed.
    """
    directory = directory.absolute()
    lock = FileLock(directory / LOCK_FILE)
    why = f"run {directory.name} cannot be resumed"
    try:
        free = lock.acquire(_MOMENT, task=RECORDING)
        if not free and lock.holder().get("task") == DELIVERING:
            free = lock.acquire(_DELIVERY, task=RECORDING)
    except OSError as error:
        raise TrackingError(
            f"{why}: its folder cannot be written ({error}). Nothing was changed; make room, or make "
            f"{directory} writable."
        ) from error
    if not free:
        raise RunBusyError(
            f"{why}: {_holder(lock)} has it. It is still running, or hands its last points to the database. "
            "Wait until that has ended, or end it; nothing was changed."
        )
    recorded = SpooledRun.read(directory)
    if recorded is None:
        lock.release()
        raise TrackingError(
            f"{why}: {directory / 'run.json'} is missing or damaged. `checkpoint_path={directory}` starts a "
            "new run from its checkpoint."
        )
    if not lock.works and recorded.run["status"] == "RUNNING" and beats(recorded):
        raise RunBusyError(
            f"{why}: it has shown a sign of life within the last two minutes, so it is still running "
            "(its disk has no locks to tell for sure). Wait two minutes after it was killed."
        )
    return Claim(directory, resumed=True, lock=lock)


def _holder(lock: FileLock) -> str:
    holder = lock.holder()
    return f"process {holder['pid']} on {holder['host']}" if "pid" in holder else "a process"
