"""Finding recorded runs and reading them back, from the database or from the results folder."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import TrackingError
from .identity import task_name
from .record import (
    RUNS_FOLDER,
    SILENCE_SECONDS,
    Metric,
    SpooledRun,
    is_live,
    milliseconds,
    read_mark,
    read_metrics,
    utc_now,
)
from .sync import run_directories
from .target import Target, reason

log = logging.getLogger(__name__)

# What a run document holds that a record does not need; output and sources are most of it.
_NOT_READ = ("captured_out", "experiment.sources", "host", "resources", "fail_trace", "artifacts")


@dataclass(frozen=True)
class RunRecord:
    """One recorded run.

    Attributes:
        uid: its name for good.
        run_id: its number in the database; None as long as it was in none.
        name: of the experiment.
        status: RUNNING, COMPLETED, FAILED, INTERRUPTED, or DIED when its process is gone.
        config: nested, as composed.
        start_time: UTC.
        stop_time: UTC; None while it runs.
        result: what the run set as its outcome.
        info: facts such as ``engine``, ``versions``, ``git``, ``summary``.
        directory: its folder; None if only the database has it.
        tags: set in Omniboard; the results folder knows of none.
    """

    uid: str
    run_id: int | None
    name: str
    status: str
    config: dict[str, Any]
    start_time: dt.datetime
    stop_time: dt.datetime | None
    result: Any
    info: dict[str, Any]
    directory: Path | None
    tags: tuple[str, ...]
    _load_metrics: Callable[[Iterable[str] | None], dict[str, Metric]] = field(
        repr=False, compare=False
    )

    @property
    def task(self) -> str:
        """The name people call the run's task by."""
        return task_name(self.config)

    @property
    def latest(self) -> dict[str, float]:
        """Last value of each metric."""
        return dict(self.info.get("summary", {}).get("last", {}))

    @property
    def steps(self) -> int:
        """The furthest step of any metric."""
        return int(self.info.get("summary", {}).get("steps", 0))

    @property
    def clock(self) -> str:
        """What its steps count: environment steps, or the updates of a run that plays nothing."""
        counted = self.info.get("clock", "steps")
        return "environment steps" if counted == "steps" else str(counted)

    @property
    def seconds(self) -> float | None:
        """How long the run took; None while it runs."""
        return (
            None if self.stop_time is None else (self.stop_time - self.start_time).total_seconds()
        )

    def metrics(self, names: Iterable[str] | None = None) -> dict[str, Metric]:
        """Metrics by name: all, or those of ``names`` that the run has.

        The folder has every point; the database a thinned copy of very long metrics.
        """
        return self._load_metrics(names)


def clock_of(runs: Iterable[RunRecord]) -> str:
    """What steps of several runs count, in words."""
    return " or ".join(sorted({run.clock for run in runs}))


def runs(results_dir: Path, target: Target | None = None) -> list[RunRecord]:
    """All runs, oldest first: those of a database and those of a results folder it lacks.

    Where both have a run, the database tells, unless the folder's record was not delivered to its
    end. A database that does not answer is passed over with a warning.

    Args:
        results_dir: folder of the runs; need not exist.
        target: the database; None to read the folder only.
    """
    found: dict[str, RunRecord] = {}
    answered = False
    if target is not None:
        try:
            found = {run.uid: run for run in _from_database(target, results_dir)}
            answered = True
        except Exception as error:  # a database that is away must not hide what the folder has
            log.warning(
                "%s cannot be read (%s); these are the runs of %s",
                target.label,
                reason(error),
                results_dir,
            )
    for directory in run_directories(results_dir):
        mark = read_mark(directory)
        delivered = bool(mark.get("complete")) and (
            target is not None and mark.get("target") == target.label
        )
        if answered and delivered:
            continue  # the database has it, or somebody deleted it there
        spooled = SpooledRun.read(directory)
        if spooled is None:
            log.warning("%s is damaged and passed over", directory / "run.json")
        else:
            found[spooled.uid] = _from_folder(spooled, mark)
    return sorted(found.values(), key=lambda run: (run.start_time, run.uid))


def find_run(results_dir: Path, name: str, target: Target | None = None) -> RunRecord:
    """The run called by its number, name, label, uid, the beginning of its uid, or its folder.

    Raises:
        TrackingError: there is no such run, or several.
    """
    for directory in (Path(name), results_dir / RUNS_FOLDER / name):
        spooled = SpooledRun.read(directory) if name and directory.is_dir() else None
        if spooled is not None:
            return _from_folder(spooled, read_mark(spooled.directory))
    return pick_run(runs(results_dir, target), name, str(results_dir / RUNS_FOLDER))


def pick_run(known: list[RunRecord], name: str, where: str) -> RunRecord:
    """The one of ``known`` that is called ``name``.

    Raises:
        TrackingError: there is no such run in ``where``, or several.
    """
    if not known:
        raise TrackingError(f"no run {name!r}: there are no runs in {where}")
    matches: list[RunRecord] = []
    for fits in (
        lambda run: str(run.run_id) == name,
        lambda run: name in (run.name, run.config.get("label")),
        lambda run: run.uid.startswith(name),
    ):
        matches = matches or [run for run in known if name and fits(run)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        called = ", ".join(
            run.uid if run.run_id is None else f"{run.run_id} ({run.uid})" for run in matches
        )
        raise TrackingError(f"{name!r} could be any of the runs {called}")
    raise TrackingError(f"no run {name!r} in {where}; `phalanx runs` lists them")


def run_folder(results_dir: Path, name: str) -> Path:
    """Folder of the run called ``name`` as for :func:`find_run`.

    Raises:
        TrackingError: there is no such run, or several.
    """
    directory = find_run(results_dir, name).directory
    assert directory is not None
    return directory.absolute()


def _from_folder(spooled: SpooledRun, mark: Mapping[str, Any]) -> RunRecord:
    run, directory = spooled.run, spooled.directory
    number = mark.get("run_id")
    died = run["status"] == "RUNNING" and not is_live(spooled)
    return RunRecord(
        uid=spooled.uid,
        run_id=number if isinstance(number, int) else None,
        name=str(run.get("experiment", {}).get("name", "")),
        status="DIED" if died else run["status"],
        config=spooled.config,
        start_time=milliseconds(run["start_time"]),
        stop_time=milliseconds(run["stop_time"]) if run.get("stop_time") else None,
        result=run.get("result"),
        info=spooled.info,
        directory=directory,
        tags=(),
        _load_metrics=lambda names: read_metrics(directory, names),
    )


def _from_database(target: Target, results_dir: Path) -> list[RunRecord]:
    db = target.connect()
    found = db.runs.find({}, dict.fromkeys(_NOT_READ, 0))
    return [_from_document(db, document, results_dir) for document in found]


def _from_document(db: Any, document: dict[str, Any], results_dir: Path) -> RunRecord:
    run_id = document["_id"]
    # Runs recorded by others' programs have no uid.
    uid = str(document.get("meta", {}).get("uid", f"database-{run_id}"))
    info = {key: item for key, item in document.get("info", {}).items() if key != "metrics"}
    status = str(document.get("status", ""))
    start = document.get("start_time") or dt.datetime.min
    silent = utc_now() - (document.get("heartbeat") or start)
    directory = results_dir.absolute() / RUNS_FOLDER / uid
    here = Path(uid).name == uid and directory.is_dir()  # no uid leads out of the folder of runs
    board = document.get("omniboard") or {}
    return RunRecord(
        uid=uid,
        run_id=run_id,
        name=str(document.get("experiment", {}).get("name", "")),
        status="DIED"
        if status == "RUNNING" and silent.total_seconds() > SILENCE_SECONDS
        else status,
        config=document.get("config", {}),
        start_time=start,
        stop_time=document.get("stop_time"),
        result=document.get("result"),
        info=info,
        directory=directory if here else None,
        tags=tuple(board.get("tags") or ()),
        _load_metrics=lambda names: (
            read_metrics(directory, names) if here else _metrics_of(db, run_id, names)
        ),
    )


def _metrics_of(db: Any, run_id: int, names: Iterable[str] | None) -> dict[str, Metric]:
    wanted = {"run_id": run_id} | ({} if names is None else {"name": {"$in": list(names)}})
    return {
        str(found["name"]): Metric(found["steps"], found["values"], found["timestamps"])
        for found in db.metrics.find(wanted)
    }
