"""The record of a run on local disk: always on, and the truth the database is made from."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import math
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from sacred.observers.base import RunObserver

from ..errors import TrackingError
from .files import AppendFile, Row, number, read_json, read_rows, write_json
from .output import Output
from .plain import plain, plain_scalar
from .record import (
    ARTIFACTS_FILE,
    METRICS_FILE,
    MIRROR_FILE,
    OUTPUT_FILE,
    MetricsCut,
    Position,
    SpooledRun,
    metric_rows,
    point_summary,
    read_mark,
    utc_now,
)
from .sources import digest, store_sources

log = logging.getLogger(__name__)


class Cursor(NamedTuple):
    """How far a reader has come: bytes of the metrics file, and rows waiting in memory behind."""

    offset: int = 0
    ahead: int = 0


@dataclass
class _Pending:
    """What the disk has not taken yet."""

    rows: list[Row] = field(default_factory=list)
    output: str = ""
    artifacts: list[Row] = field(default_factory=list)


class Spool(RunObserver):  # type: ignore[misc]
    """Sacred observer that writes a run into a folder of its own.

    Sacred calls it from the heartbeat thread and from the run's own thread, and drops an observer for
    good after one exception. So every event is locked, changes the state in memory first and then
    tries to bring the disk up to it; what fails is kept and tried again at the next event.

    Args:
        directory: the run's folder, ``<results>/runs/<uid>``, which is this process's alone.
        output: what the run prints.
        deliver: a later run may deliver this one to its database.
    """

    priority = 50  # above the mirror: what goes over the network is on disk already

    def __init__(
        self,
        directory: Path,
        output: Output,
        *,
        deliver: bool = True,
    ) -> None:
        self.directory = directory
        self.run: dict[str, Any] = {}
        self.config: dict[str, Any] = {}
        self.info: dict[str, Any] = {}
        self._output = output
        self._deliver = deliver
        self._lock = threading.RLock()
        self._earlier: dict[str, Any] = {}  # what a resumed run keeps of its run.json
        self._opened = False
        self._pending = _Pending()
        self._latest: dict[str, Row] = {}
        self._changed: set[str] = set()
        self._trouble: str | None = None
        self._appenders: dict[str, AppendFile] = {}

    def take_up(self, position: Position) -> None:
        """Go on with the run in the folder: keep what it had recorded when its checkpoint was made.

        Raises:
            TrackingError: the folder cannot be written; it is as it was.
        """
        record = read_json(self.directory / "run.json", {})
        now = utc_now().isoformat()
        going = {
            key: value
            for key, value in record.items()
            if key not in ("stop_time", "result", "fail_trace")
        } | {"status": "RUNNING", "heartbeat": now}
        try:
            cut = MetricsCut(self.directory, position)
            # In this order a kill in between leaves a run that is known to be unfinished, not an ended one
            # that lacks points.
            write_json(self.directory / "run.json", going)
            mark = read_mark(self.directory)
            if mark.get("complete"):
                write_json(self.directory / MIRROR_FILE, mark | {"complete": False})
            cut.make()
        except OSError as error:
            raise TrackingError(
                f"run {self.directory.name} cannot be resumed: its folder {self.directory} cannot be written "
                f"({error}). No point was touched; make room and try again."
            ) from error
        self._earlier = {
            key: record[key] for key in ("start_time", "resources", "artifacts") if key in record
        }
        resumed = list(record.get("meta", {}).get("resumed", []))
        self._earlier["resumed"] = [*resumed, {"step": position.step, "time": now}]
        for row in metric_rows(read_rows(self.directory / METRICS_FILE)[0]):
            self._note_latest(row | {"values": [number(value) for value in row["values"]]})

    # What Sacred calls

    def queued_event(self, queue_time: dt.datetime, **event: Any) -> None:
        """Record a run that waits to be started."""
        self._begin(queue_time, "QUEUED", **event)

    def started_event(self, start_time: dt.datetime, _id: Any, **event: Any) -> Any:
        """Record the start of a run. The id is left to the database."""
        self._begin(start_time, "RUNNING", **event)
        return _id

    def log_metrics(self, metrics_by_name: dict[str, Any], info: dict[str, Any]) -> None:
        """Add points; the cost does not grow with the run."""
        with self._lock:
            for name, points in metrics_by_name.items():
                row = {
                    "name": str(name),
                    "steps": [plain_scalar(step) for step in points["steps"]],
                    "values": [_number_or_nan(value) for value in points["values"]],
                    "timestamps": [time.isoformat() for time in points["timestamps"]],
                }
                self._pending.rows.append(row)
                self._note_latest(row)
            self._flush()

    def heartbeat_event(
        self, info: dict[str, Any], captured_out: str, beat_time: dt.datetime, result: Any
    ) -> None:
        """Bring everything on disk up to date."""
        with self._lock:
            # The run may change it in the middle of the copy; then the next beat gets it.
            with contextlib.suppress(RuntimeError):
                self._update_info(plain(info))
            self.run["heartbeat"] = beat_time.isoformat()
            if result is not None:
                self.run["result"] = plain(result)
            self._changed.add("run")
            self._flush()

    def completed_event(self, stop_time: dt.datetime, result: Any) -> None:
        """Record the end of a run."""
        self._end(stop_time, "COMPLETED", result=plain(result))

    def interrupted_event(self, interrupt_time: dt.datetime, status: str) -> None:
        """Record that the user stopped the run."""
        self._end(interrupt_time, status)

    def failed_event(self, fail_time: dt.datetime, fail_trace: list[str]) -> None:
        """Record an error that ended the run."""
        self._end(fail_time, "FAILED", fail_trace=plain(fail_trace))

    def resource_event(self, filename: str) -> None:
        """Record that the run read a file: its name and digest, not its content."""
        with self._lock:
            try:
                entry = [str(filename), digest(Path(filename))]
            except OSError as error:
                log.warning("resource %s cannot be recorded: %s", filename, error)
                return
            if entry not in self.run["resources"]:
                self.run["resources"].append(entry)
            self._changed.add("run")
            self._flush()

    def artifact_event(
        self, name: str, filename: str, metadata: Any = None, content_type: str | None = None
    ) -> None:
        """Copy a file made by the run; a later one of the same name replaces it."""
        root = (self.directory / "artifacts").resolve()
        target = (root / name).resolve()
        if root not in target.parents:
            log.warning("artifact %r is not recorded: the name leads out of the run's folder", name)
            return
        with self._lock:
            self._pending.artifacts.append(
                {
                    "name": str(target.relative_to(root).as_posix()),
                    "file": str(filename),
                    "metadata": plain(metadata),
                    "content_type": content_type,
                }
            )
            self._flush()

    # How far the disk has come

    def recorded(self) -> int | None:
        """Bytes of the metrics file that hold all points logged so far; None if some wait for the disk."""
        with self._lock:
            return None if self._pending.rows else self._appender(METRICS_FILE).size

    @property
    def trouble(self) -> str | None:
        """Why the folder lags behind the run; None if it does not."""
        return self._trouble

    def missing(self) -> str:
        """What the folder lacks, in words."""
        with self._lock:
            points = sum(len(row["steps"]) for row in self._pending.rows)
        return f"{points:,} points and how it ended" if points else "how it ended"

    def close(self, patience: float) -> bool:
        """Give a disk that is full or late ``patience`` seconds to take the rest; whether it did."""
        end = time.monotonic() + patience
        with self._lock:
            self._flush()
        if self._trouble is not None and patience > 0:
            log.warning("waiting up to %g s for %s to take the rest", patience, self.directory)
        while self._trouble is not None and time.monotonic() < end:
            time.sleep(0.2)
            with self._lock:
                self._flush()
        return self._trouble is None

    # What the mirror reads

    def snapshot(self) -> SpooledRun:
        """The run as recorded so far, metrics aside."""
        with self._lock:
            return SpooledRun(
                directory=self.directory,
                run=plain(self.run),
                config=self.config,
                info=self.info,
                output=self._output.text(),
            )

    def rows_since(self, cursor: Cursor) -> tuple[list[Row], Cursor]:
        """Rows of metrics behind ``cursor``, on disk or waiting for it, and the new cursor."""
        with self._lock:
            # What a failed append left behind it is still pending, and must not be read twice.
            end = self._appender(METRICS_FILE).size
            rows, offset = read_rows(self.directory / METRICS_FILE, cursor.offset, end)
            rows = (rows + self._pending.rows)[cursor.ahead :]
            return rows, Cursor(offset, len(self._pending.rows))

    # How it gets to disk

    def _begin(
        self,
        time: dt.datetime,
        status: str,
        ex_info: dict[str, Any],
        command: str,
        host_info: dict[str, Any],
        config: dict[str, Any],
        meta_info: dict[str, Any],
        _id: Any = None,
    ) -> None:
        with self._lock:
            self.run = {
                "start_time": time.isoformat(),
                "resources": [],
                "artifacts": [],
                "experiment": plain(ex_info),
                "command": command,
                "host": plain(host_info),
                "meta": plain(meta_info),
                "status": status,
                "heartbeat": time.isoformat(),
                "deliver": self._deliver,
            }
            self.run["meta"] |= {k: v for k, v in self._earlier.items() if k == "resumed"}
            self.run |= {k: v for k, v in self._earlier.items() if k != "resumed"}
            self.config = plain(config)
            self._changed |= {"run", "config"}
            self._flush()

    def _open(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.run["experiment"]["sources"] = store_sources(
            self.run["experiment"], self.directory.parent / "_sources"
        )
        self._opened = True

    def _note_latest(self, row: Row) -> None:
        """Keep last, lowest and highest value of each metric for those who list runs."""
        known = self._latest.get(row["name"], {})
        finite = [value for value in row["values"] if math.isfinite(value)]
        if "min" in known and math.isfinite(known["min"]):
            finite += [known["min"], known["max"]]
        self._latest[row["name"]] = {
            "step": row["steps"][-1],
            "value": row["values"][-1],
            "min": min(finite, default=math.nan),
            "max": max(finite, default=math.nan),
        }

    def _update_info(self, info: dict[str, Any]) -> None:
        own = info.get("summary")
        own = own if isinstance(own, dict) else {}
        info["summary"] = {**own, **point_summary(self._latest, self.config)}
        if info != self.info:
            self.info = info
            self._changed.add("info")

    def _end(self, time: dt.datetime, status: str, **entries: Any) -> None:
        with self._lock:
            entries = {key: value for key, value in entries.items() if value is not None}
            self.run.update(stop_time=time.isoformat(), status=status, **entries)
            self._changed.add("run")
            self._flush()

    def _flush(self) -> None:
        self._pending.output += self._output.take()
        self._attempt()

    def _write(self) -> None:
        if not self._opened:
            self._open()
        if self._pending.rows:
            self._appender(METRICS_FILE).append_rows(self._pending.rows)
            self._pending.rows = []
        if self._pending.output:
            text = self._pending.output.encode("utf-8", "replace")
            self._appender(OUTPUT_FILE, lines=False).append(text)
            self._pending.output = ""
        while self._pending.artifacts:
            self._store_artifact(self._pending.artifacts[0])
            del self._pending.artifacts[0]
        for name in sorted(self._changed):
            write_json(self.directory / f"{name}.json", getattr(self, name))
            self._changed.discard(name)

    def _appender(self, name: str, *, lines: bool = True) -> AppendFile:
        if name not in self._appenders:
            self._appenders[name] = AppendFile(self.directory / name, lines=lines)
        return self._appenders[name]

    def _store_artifact(self, artifact: Row) -> None:
        name, source = artifact["name"], Path(artifact["file"])
        if not source.exists():
            log.warning("artifact %r is not recorded: %s does not exist", name, source)
            return
        target = self.directory / "artifacts" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(target.name + ".tmp")
        shutil.copyfile(source, beside)
        beside.replace(target)
        details = {key: artifact[key] for key in ("name", "metadata", "content_type")}
        self._appender(ARTIFACTS_FILE).append_rows([details])
        if name not in self.run["artifacts"]:
            self.run["artifacts"].append(name)
        self._changed.add("run")

    def _attempt(self) -> None:
        try:
            self._write()
        except Exception as error:  # nothing that happens to the record may end the run
            if self._trouble is None:
                log.warning(
                    "the run's folder %s cannot be written (%s). The run goes on; what is missing "
                    "there is kept in memory and written as soon as that works again.",
                    self.directory,
                    error,
                )
            self._trouble = str(error)
        else:
            if self._trouble is not None:
                log.warning(
                    "the run's folder %s can be written again; all that was kept in memory is there now",
                    self.directory,
                )
                self._trouble = None


def _number_or_nan(value: Any) -> float:
    try:
        return plain_scalar(value)
    except (TypeError, ValueError):
        return float("nan")
