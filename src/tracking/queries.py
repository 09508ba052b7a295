"""Finding recorded runs and reading them back."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import TrackingError
from .files import read_json
from .record import MIRROR_FILE, RUNS_FOLDER, Metric, SpooledRun, is_live, read_metrics
from .sync import run_directories


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
        latest: last value of each metric.
        steps: the furthest environment step of any metric.
        directory: its folder; None if only the database has it.
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
    latest: dict[str, float]
    steps: int
    directory: Path | None
    _load_metrics: Callable[[], dict[str, Metric]] = field(repr=False, compare=False)

    def metrics(self) -> dict[str, Metric]:
        """All metrics by name."""
        return self._load_metrics()


def runs(results_dir: Path) -> list[RunRecord]:
    """All runs recorded below a results folder, oldest first."""
    found = []
    for directory in run_directories(results_dir):
        spooled = SpooledRun.read(directory)
        if spooled is not None:
            found.append(_record(spooled))
    return sorted(found, key=lambda run: (run.start_time, run.uid))


def find_run(results_dir: Path, name: str) -> RunRecord:
    """The run called by its number, its uid, the beginning of its uid, or its folder.

    Raises:
        TrackingError: there is no such run, or several.
    """
    spooled = SpooledRun.read(Path(name)) if Path(name).is_dir() else None
    if spooled is not None:
        return _record(spooled)
    spooled = SpooledRun.read(results_dir / RUNS_FOLDER / name)
    if spooled is not None:
        return _record(spooled)
    known = runs(results_dir)
    if not known:
        raise TrackingError(f"no run {name!r}: there are no runs in {results_dir / RUNS_FOLDER}")
    matches = [run for run in known if str(run.run_id) == name]
    matches = matches or [run for run in known if name and run.uid.startswith(name)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        uids = ", ".join(run.uid for run in matches)
        raise TrackingError(f"{name!r} could be any of the runs {uids}")
    raise TrackingError(
        f"no run {name!r} in {results_dir / RUNS_FOLDER}; `phalanx runs` lists them"
    )


def run_folder(results_dir: Path, name: str) -> Path:
    """Folder of the run called ``name`` as for :func:`find_run`.

    Raises:
        TrackingError: there is no such run, or several.
    """
    directory = find_run(results_dir, name).directory
    assert directory is not None
    return directory


def _record(spooled: SpooledRun) -> RunRecord:
    run, directory = spooled.run, spooled.directory
    stopped = run.get("stop_time")
    number = read_json(directory / MIRROR_FILE, {}).get("run_id")
    latest = run.get("latest", {})
    died = run["status"] == "RUNNING" and not is_live(spooled)
    return RunRecord(
        uid=spooled.uid,
        run_id=number if isinstance(number, int) else None,
        name=str(run.get("experiment", {}).get("name", "")),
        status="DIED" if died else run["status"],
        config=spooled.config,
        start_time=dt.datetime.fromisoformat(run["start_time"]),
        stop_time=dt.datetime.fromisoformat(stopped) if stopped else None,
        result=run.get("result"),
        info=spooled.info,
        latest={name: point["value"] for name, point in latest.items()},
        steps=int(max((point["step"] for point in latest.values()), default=0)),
        directory=directory,
        _load_metrics=lambda: read_metrics(directory),
    )
