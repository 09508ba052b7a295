"""The layout of a run's folder, and reading it back."""

from __future__ import annotations

import datetime as dt
import json
import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..locks import is_locked
from .files import AppendFile, Row, number, read_json, read_rows
from .output import read_shortened

METRICS_FILE = "metrics.jsonl"
OUTPUT_FILE = "cout.txt"
ARTIFACTS_FILE = "artifacts.jsonl"
MIRROR_FILE = "mirror.json"
LOCK_FILE = "run.lock"
RUNS_FOLDER = "runs"

# So many points of a metric a database gets. Each push rewrites the metric's document, which may not pass
# 16 MB (some 400,000 points); a plot shows a few thousand. The folder has them all.
MAX_POINTS = 10_000

# A run on another machine is believed dead when it has not beaten for this long.
SILENCE_SECONDS = 120.0


@dataclass
class Metric:
    """Points of one metric, in the order they were logged."""

    steps: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    timestamps: list[dt.datetime] = field(default_factory=list)

    def thinned(self, stride: int, first: int = 0) -> Metric:
        """The points whose number is a multiple of ``stride``, where they are numbered from ``first``."""
        kept = slice(-first % stride, None, stride)
        return Metric(self.steps[kept], self.values[kept], self.timestamps[kept])


@dataclass
class SpooledRun:
    """One run as its folder tells it. ``run`` is the content of run.json."""

    directory: Path
    run: dict[str, Any]
    config: dict[str, Any]
    info: dict[str, Any]
    output: str = ""

    @property
    def uid(self) -> str:
        """The run's name for good, also stored as ``meta.uid``."""
        return str(self.run.get("meta", {}).get("uid", self.directory.name))

    @classmethod
    def read(cls, directory: Path, *, with_output: bool = False) -> SpooledRun | None:
        """The run in a folder; None if there is none."""
        run = read_json(directory / "run.json")
        if not isinstance(run, dict) or not _is_whole(run):
            return None
        if "result" in run:
            run["result"] = number(run["result"])
        return cls(
            directory=directory,
            run=run,
            config=_mapping(directory / "config.json"),
            info=_with_numbers(_mapping(directory / "info.json")),
            output=read_output(directory) if with_output else "",
        )


def _is_whole(run: Mapping[str, Any]) -> bool:
    """Whether a run.json has what every reader of it relies on."""
    try:
        dates = [run["start_time"], run["heartbeat"], *filter(None, [run.get("stop_time")])]
        for date in dates:
            dt.datetime.fromisoformat(date)
    except (KeyError, TypeError, ValueError):
        return False
    return isinstance(run.get("status"), str) and all(
        isinstance(run.get(key), dict) for key in ("meta", "experiment", "host")
    )


def read_mark(directory: Path) -> dict[str, Any]:
    """Where the run in a folder was delivered: ``run_id``, ``target``, ``complete``; empty if nowhere."""
    return _mapping(directory / MIRROR_FILE)


def _mapping(path: Path) -> dict[str, Any]:
    content = read_json(path)
    return content if isinstance(content, dict) else {}


def _with_numbers(info: dict[str, Any]) -> dict[str, Any]:
    """The info with the numbers of its summary as numbers, however JSON had to spell them."""
    summary = info.get("summary")
    if isinstance(summary, dict):
        for kind in ("last", "min", "max"):
            if isinstance(summary.get(kind), dict):
                summary[kind] = {name: number(value) for name, value in summary[kind].items()}
    return info


def read_output(directory: Path) -> str:
    """Beginning and end of what the run printed, as much as the database takes."""
    try:
        with open(directory / OUTPUT_FILE, "rb") as f:
            return read_shortened(f)
    except OSError:
        return ""


def point_summary(latest: Mapping[str, Row], config: Mapping[str, Any]) -> dict[str, Any]:
    """Plain numbers about all metrics that tables show and sort by: furthest step, last, min, max.

    Phases have clocks of their own; the step is of the last one, once it has begun.
    """
    earlier = tuple(f"{phase}_" for phase in config.get("phase_configs", ()))
    steps = {name: point["step"] for name, point in latest.items()}
    of_last = [step for name, step in steps.items() if not name.startswith(earlier)]
    return {
        "steps": int(max(of_last or steps.values(), default=0)),
        **{
            kind: {name: point[key] for name, point in latest.items()}
            for kind, key in (("last", "value"), ("min", "min"), ("max", "max"))
        },
    }


def whole_output(directory: Path) -> str:
    """All that the run printed."""
    try:
        return (directory / OUTPUT_FILE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def stride_for(points: int) -> int:
    """Of a metric of that length a database gets each how manieth point: 1, 2, 4, ..."""
    stride = 1
    while points > stride * MAX_POINTS:
        stride *= 2
    return stride


def merge_rows(rows: Iterable[Row]) -> dict[str, Metric]:
    """Metrics by name from rows of the metrics file."""
    metrics: dict[str, Metric] = {}
    for row in rows:
        metric = metrics.setdefault(row["name"], Metric())
        metric.steps += row["steps"]
        metric.values += map(number, row["values"])
        metric.timestamps += map(milliseconds, row["timestamps"])
    return metrics


def read_metrics(directory: Path, names: Iterable[str] | None = None) -> dict[str, Metric]:
    """Metrics by name of the run in a folder: all, or those of some names."""
    path = directory / METRICS_FILE
    if names is None:
        return merge_rows(metric_rows(read_rows(path)[0]))
    chosen = set(names)
    # Lines are looked through before they are parsed, which is most of the time.
    marks = [json.dumps(name).encode() for name in chosen]
    rows, _ = read_rows(path, wanted=lambda line: any(mark in line for mark in marks))
    return merge_rows(row for row in metric_rows(rows) if row["name"] in chosen)


def metric_rows(rows: Iterable[Row]) -> list[Row]:
    """Those rows that hold points: a file that others have written to may have anything in it."""
    lists = ("steps", "values", "timestamps")
    return [
        row
        for row in rows
        if isinstance(row.get("name"), str)
        and all(isinstance(row.get(key), list) for key in lists)
        and len({len(row[key]) for key in lists}) == 1
    ]


@dataclass(frozen=True)
class Position:
    """How far the record of a run had come when a checkpoint was made.

    Attributes:
        step: environment steps done.
        recorded: bytes of the metrics file; None where the checkpoint does not say.
    """

    step: int
    recorded: int | None = None


class MetricsCut:
    """The metrics file of a run, to be cut back to what was in it when a checkpoint was made.

    Everything that can fail is done by the constructor, so that a full disk leaves the file as it is.

    Raises:
        OSError: the disk is full or cannot be written.
    """

    def __init__(self, directory: Path, position: Position) -> None:
        self._path = directory / METRICS_FILE
        self._beside: Path | None = None
        self._end = position.recorded
        if self._end is None or not self._ends_a_line(self._end):
            self._end = None
            self._beside = self._path.with_name(METRICS_FILE + ".tmp")
            self._beside.write_bytes(b"")
            AppendFile(self._beside, lines=True).append_rows(_up_to(self._path, position.step))

    def _ends_a_line(self, end: int) -> bool:
        if end == 0:
            return True
        try:
            with open(self._path, "rb") as file:
                file.seek(end - 1)
                return file.read(1) == b"\n"
        except OSError:
            return False

    def make(self) -> None:
        """Cut."""
        if self._beside is not None:
            os.replace(self._beside, self._path)
        elif self._path.exists():
            with open(self._path, "r+b") as file:
                file.truncate(self._end)
                os.fsync(file.fileno())


def _up_to(path: Path, step: int) -> list[Row]:
    """Rows of a metrics file without the points behind an env step."""
    rows = []
    for row in metric_rows(read_rows(path)[0]):
        keep = [i for i, at in enumerate(row["steps"]) if at <= step]
        if keep:
            lists = {key: [row[key][i] for i in keep] for key in ("steps", "values", "timestamps")}
            rows.append({"name": row["name"], **lists})
    return rows


def is_live(run: SpooledRun) -> bool:
    """Whether the process of a run is still at work."""
    if run.run["status"] != "RUNNING":
        return False
    if run.run.get("host", {}).get("hostname") == socket.gethostname():
        held = is_locked(run.directory / LOCK_FILE)
        if held is not None:
            return held
    return beats(run)


def beats(run: SpooledRun) -> bool:
    """Whether a run has shown a sign of life within the last two minutes."""
    beat = dt.datetime.fromisoformat(run.run["heartbeat"])
    return (utc_now() - beat).total_seconds() < SILENCE_SECONDS


def milliseconds(text: str) -> dt.datetime:
    """A recorded time as precise as MongoDB keeps it, so that both records give the same answers."""
    time = dt.datetime.fromisoformat(text)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


def utc_now() -> dt.datetime:
    """Now in UTC without a time zone, the form in which Sacred stores times."""
    return dt.datetime.now(dt.timezone.utc).replace(tzinfo=None)
