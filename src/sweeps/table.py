"""The table of a sweep, in a directory that all its workers see.

``sweep.json`` lists the rows, ``plan/0007.json`` has the composed config of row 7, ``claims/`` says who has
which row (see :mod:`.claims`), ``logs/0007.log`` what its processes printed. The directory lies in a folder
of results, ``results/sweeps/NAME``; its runs are in ``results/runs`` like any other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError, TrackingError
from ..locks import FileLock
from ..tracking.files import read_json, write_json
from ..tracking.record import RUNS_FOLDER, utc_now
from .machine import this_machine
from .plan import Plan, stored_plan
from .rows import Candidate, Row, as_rows

SWEEPS_FOLDER = "sweeps"
TABLE_FILE = "sweep.json"
_FORMAT = 1
_PATIENCE = 60.0


@dataclass(frozen=True)
class Table:
    """A sweep as its directory tells it.

    Attributes:
        directory: where it is.
        name: of the sweep.
        rows: in the order in which they are begun.
        stale_after: seconds without a sign of life after which a row may be taken over.
        machine: where the table was made.
        plan: what the rows come from, or, where settings are tuned, will come from.
    """

    directory: Path
    name: str
    rows: tuple[Row, ...]
    stale_after: float
    machine: str
    plan: Plan

    @property
    def results(self) -> Path:
        """Folder that holds the runs and their database."""
        return self.directory.parent.parent

    def run_folder(self, row: Row) -> Path:
        """Folder of a row's run, which need not have begun."""
        return self.results / RUNS_FOLDER / row.uid

    def config(self, row: Row) -> dict[str, Any]:
        """A row's config, composed and nested.

        Raises:
            TrackingError: its file is gone or damaged.
        """
        path = self.directory / "plan" / f"{row.number:04d}.json"
        stored = read_json(path)
        if not isinstance(stored, dict):
            raise TrackingError(
                f"{path} is missing or damaged; `phalanx sweep FILE` writes it again"
            )
        return stored


def sweep_folder(results: Path, name: str) -> Path:
    """Where the sweep of that name is."""
    return results.absolute() / SWEEPS_FOLDER / name


def open_table(path: Path) -> Table:
    """The sweep in a directory.

    Raises:
        TrackingError: there is none.
    """
    stored = read_json(path / TABLE_FILE)
    if not isinstance(stored, dict) or stored.get("format") != _FORMAT:
        parent = path if path.name == SWEEPS_FOLDER else path.absolute().parent
        there = sorted(found.parent.name for found in parent.glob(f"*/{TABLE_FILE}"))
        beside = f" In {parent} there are: {', '.join(there)}." if there else ""
        raise TrackingError(
            f"{path} is no sweep: it has no {TABLE_FILE} of this version. `phalanx sweep FILE.yaml` makes "
            f"one and prints where.{beside}"
        )
    return Table(
        directory=path.absolute(),
        name=stored["name"],
        rows=tuple(Row(**row) for row in stored["rows"]),
        stale_after=float(stored["stale_after"]),
        machine=stored["machine"],
        plan=stored_plan(stored["plan"]),
    )


def write_table(directory: Path, plan: Plan, found: Sequence[Candidate]) -> tuple[Table, int]:
    """Make a sweep's table, or add to it what it lacks; nothing in it is changed or taken away.

    Returns:
        The table, and how many rows were added.

    Raises:
        ConfigError: there is a sweep of that name that is made otherwise.
        TrackingError: the directory cannot be written.
    """
    try:
        return _write(directory, plan, found)
    except OSError as error:
        raise TrackingError(
            f"the sweep cannot be written to {directory} ({error}): choose another folder with --results DIR"
        ) from error


def _write(directory: Path, plan: Plan, found: Sequence[Candidate]) -> tuple[Table, int]:
    lock = FileLock(directory / "table.lock")
    if not lock.acquire(_PATIENCE):
        raise TrackingError(
            f"another process has been writing {directory / TABLE_FILE} for too long"
        )
    with lock:
        old = open_table(directory) if (directory / TABLE_FILE).exists() else None
        if old is not None and old.plan.tune != plan.tune:
            raise ConfigError(
                f"{directory} is a sweep with another section `tune`: give this one another `name`"
            )
        rows = () if old is None else old.rows
        known = {row.digest: row.group for row in rows}
        added = as_rows(
            [candidate for candidate in found if candidate.digest not in known],
            after=len(rows),
            plan=plan,
            now=utc_now(),
            groups=_groups(found, known),
        )
        for name in ("plan", "claims", "logs"):
            (directory / name).mkdir(exist_ok=True)
        configs = {candidate.digest: candidate.composed.nested() for candidate in found}
        for row in (*rows, *added):
            if row.digest in configs:
                write_json(directory / "plan" / f"{row.number:04d}.json", configs[row.digest])
        write_json(
            directory / TABLE_FILE,
            {
                "format": _FORMAT,
                "name": plan.name,
                "stale_after": plan.stale_after,
                "machine": this_machine() if old is None else old.machine,
                "plan": dataclasses.asdict(plan),
                "rows": [dataclasses.asdict(row) for row in (*rows, *added)],
            },
        )
    return open_table(directory), len(added)


def _groups(found: Sequence[Candidate], known: Mapping[str, int]) -> dict[int, int]:
    """Number in the table of each combination: seeds that are added belong to those that are there."""
    numbers: dict[int, int] = {}
    for candidate in found:
        if candidate.digest in known:
            numbers[candidate.group] = known[candidate.digest]
    following = max(known.values(), default=-1) + 1
    for candidate in found:
        if candidate.group not in numbers:
            numbers[candidate.group] = following
            following += 1
    return numbers
