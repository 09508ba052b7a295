"""The record of a run on local disk: always on, and the truth the database is made from."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import math
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from sacred.observers.base import RunObserver

from .files import AppendFile, FileLock, Row, read_json, read_rows, write_json
from .output import Output
from .plain import plain, plain_scalar
from .record import (
    ARTIFACTS_FILE,
    LOCK_FILE,
    METRICS_FILE,
    OUTPUT_FILE,
    SpooledRun,
    cut_metrics,
    point_summary,
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
        directory: the run's folder, ``<results>/runs/<uid>``.
        output: what the run prints.
        resume_step: the run continues from this env step; later points of its metrics are dropped.
            None for a new run.
        deliver: a later run may deliver this one to its database.
    """

    priority = 50  # above the mirror: what goes over the network is on disk already

    def __init__(
        self,
        directory: Path,
        output: Output,
        resume_step: int | None = None,
        *,
        deliver: bool = True,
    ) -> None:
        self.directory = directory
        self.run: dict[str, Any] = {}
        self.config: dict[str, Any] = {}
        self.info: dict[str, Any] = {}
        self._resume_step = resume_step
        self._output = output
        self._deliver = deliver
        self._lock = threading.RLock()
        self._run_lock = FileLock(directory / LOCK_FILE)
        self._held = False
        self._pending = _Pending()
        self._latest: dict[str, Row] = {}
        self._changed: set[str] = set()
        self._trouble: str | None = None
        self._appenders: dict[str, AppendFile] = {}

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

    def join(self) -> None:
        """The run is over; let others deliver it."""
        if not self._held:
            self._run_lock.release()

    # What the mirror reads

    def hold(self) -> None:
        """Keep others from delivering the run until :meth:`release`: points would come twice."""
        self._held = True

    def release(self) -> None:
        """The mirror has done what it could."""
        self._run_lock.release()

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
            self.config = plain(config)
            self._attempt(self._open)
            self._changed |= {"run", "config"}
            self._flush()

    def _open(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        if not self._run_lock.acquire():
            log.warning("another process records into %s", self.directory)
        if self._resume_step is not None:
            self._take_up(self._resume_step)
        self.run["experiment"]["sources"] = store_sources(
            self.run["experiment"], self.directory.parent / "_sources"
        )

    def _take_up(self, step: int) -> None:
        """Keep what a resumed run has recorded up to its checkpoint."""
        earlier = read_json(self.directory / "run.json", {})
        for key in ("start_time", "resources", "artifacts"):
            if key in earlier:
                self.run[key] = earlier[key]
        resumed = list(earlier.get("meta", {}).get("resumed", []))
        self.run["meta"]["resumed"] = [*resumed, {"step": step, "time": self.run["heartbeat"]}]
        for row in cut_metrics(self.directory, step):
            self._note_latest(row)

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
        info["summary"] = {**own, **point_summary(self._latest)}
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
        self._attempt(self._write)

    def _write(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
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

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
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
            if self._trouble is not None and action == self._write:
                log.warning(
                    "the run's folder %s can be written again; nothing is missing", self.directory
                )
                self._trouble = None


def _number_or_nan(value: Any) -> float:
    try:
        return plain_scalar(value)
    except (TypeError, ValueError):
        return float("nan")
