"""The layout of a run's folder, and reading it back."""

from __future__ import annotations

import datetime as dt
import json
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .files import AppendFile, FileLock, Row, read_json, read_rows
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
        if not isinstance(run, dict) or "status" not in run:
            return None
        return cls(
            directory=directory,
            run=run,
            config=read_json(directory / "config.json", {}),
            info=read_json(directory / "info.json", {}),
            output=read_output(directory) if with_output else "",
        )


def read_output(directory: Path) -> str:
    """Beginning and end of what the run printed, as much as the database takes."""
    try:
        with open(directory / OUTPUT_FILE, "rb") as f:
            return read_shortened(f)
    except OSError:
        return ""


def point_summary(latest: Mapping[str, Row]) -> dict[str, Any]:
    """Plain numbers about all metrics that tables show and sort by: furthest step, last, min, max."""
    return {
        "steps": int(max((point["step"] for point in latest.values()), default=0)),
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


def merge_rows(rows: list[Row]) -> dict[str, Metric]:
    """Metrics by name from rows of the metrics file."""
    metrics: dict[str, Metric] = {}
    for row in rows:
        metric = metrics.setdefault(row["name"], Metric())
        metric.steps += row["steps"]
        metric.values += row["values"]
        metric.timestamps += map(milliseconds, row["timestamps"])
    return metrics


def read_metrics(directory: Path, names: Iterable[str] | None = None) -> dict[str, Metric]:
    """Metrics by name of the run in a folder: all, or those of some names."""
    path = directory / METRICS_FILE
    if names is None:
        return merge_rows(read_rows(path)[0])
    chosen = set(names)
    # Lines are looked through before they are parsed, which is most of the time.
    marks = [json.dumps(name).encode() for name in chosen]
    rows, _ = read_rows(path, wanted=lambda line: any(mark in line for mark in marks))
    return merge_rows([row for row in rows if row["name"] in chosen])


def cut_metrics(directory: Path, step: int) -> list[Row]:
    """Drop all points behind an env step from the metrics file; returns the rows that remain."""
    path = directory / METRICS_FILE
    rows = []
    for row in read_rows(path)[0]:
        keep = [i for i, at in enumerate(row["steps"]) if at <= step]
        if keep:
            lists = {key: [row[key][i] for i in keep] for key in ("steps", "values", "timestamps")}
            rows.append({"name": row["name"], **lists})
    beside = path.with_name(path.name + ".tmp")
    beside.write_bytes(b"")
    AppendFile(beside, lines=True).append_rows(rows)
    beside.replace(path)
    return rows


def is_live(run: SpooledRun) -> bool:
    """Whether the process of a run is still at work."""
    if run.run["status"] != "RUNNING":
        return False
    if run.run.get("host", {}).get("hostname") == socket.gethostname():
        lock = FileLock(run.directory / LOCK_FILE)
        free = lock.acquire()
        lock.release()
        if lock.works:
            return not free
    beat = dt.datetime.fromisoformat(run.run["heartbeat"])
    return (utc_now() - beat).total_seconds() < SILENCE_SECONDS


def milliseconds(text: str) -> dt.datetime:
    """A recorded time as precise as MongoDB keeps it, so that both records give the same answers."""
    time = dt.datetime.fromisoformat(text)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


def utc_now() -> dt.datetime:
    """Now in UTC without a time zone, the form in which Sacred stores times."""
    return dt.datetime.now(dt.timezone.utc).replace(tzinfo=None)
