"""The live copy of a run in MongoDB: Sacred's MongoObserver, made unable to stop or stall a run."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gridfs
from sacred.observers.mongo import MongoObserver, force_bson_encodeable

from . import sync
from .plain import mongo_keys
from .record import Metric, SpooledRun, merge_rows, read_mark, stride_for
from .spool import Cursor, Spool
from .target import Target, reason

log = logging.getLogger(__name__)


class Mirror(MongoObserver):  # type: ignore[misc]
    """Copies what the spool holds to MongoDB, on a thread of its own.

    Sacred's observer uses the network inside Sacred's calls, waits for a minute when the server is
    absent and gives up for the rest of the run after one error. Here Sacred's calls only wake the
    thread. It reads the spool from where it stopped, and after an error it replays the whole spool,
    which also repairs what was written in half. The run waits twice, each time for a bounded while:
    at its start for its number, at its end for the last points.

    Args:
        target: where to record.
        spool: the run on disk.
        start_wait: seconds the start of the run waits for the number.
        end_wait: seconds the end of the run waits for the rest to be delivered.
        retry: seconds between attempts while the server is away.
    """

    def __init__(
        self,
        target: Target,
        spool: Spool,
        *,
        start_wait: float = 10.0,
        end_wait: float = 12.0,
        retry: float = 30.0,
    ) -> None:
        # MongoObserver.__init__ wants the server's address, which for the embedded server is known
        # only once it runs; `_connect` does the rest.
        self.priority = 30
        self.run_entry: Any = None
        self.overwrite = None
        self._target, self._spool = target, spool
        self._start_wait, self._end_wait, self._retry = start_wait, end_wait, retry
        self._db: Any = None
        self._wanted_id: int | None = None
        self._number: int | None = None
        self._refs: dict[str, Any] = {}  # Sacred keeps the ids of metrics in info["metrics"]
        self._cursor = Cursor()
        self._points: dict[str, int] = {}  # how many of each metric the database was told of
        self._replay_first = False
        self._mark: tuple[int, bool] | None = None
        self._trouble: str | None = None
        self._next_try = 0.0
        self._wake, self._started, self._done = (threading.Event() for _ in range(3))
        self._ending = False
        self._took_end = False
        self._leftovers: list[Path] | None = None
        self._thread = threading.Thread(target=self._work, name="mongodb-mirror", daemon=True)

    @property
    def run_id(self) -> int | None:
        """The run's number in the database, once the database has agreed to it."""
        return self._number

    @property
    def took_end(self) -> bool:
        """Whether the database has the run to its end."""
        return self._took_end

    def then(self, action: Callable[[], None]) -> None:
        """Do something once nothing is on its way to the database any more: now, if that is so."""

        def wait() -> None:
            self._thread.join()
            action()

        if self._thread.is_alive() and not self._done.is_set():
            threading.Thread(target=wait, daemon=True).start()
        else:
            action()

    # What Sacred calls

    def queued_event(self, **event: Any) -> Any:
        """Record a run that waits to be started."""
        self._replay_first = True
        self._thread.start()
        self._finish()
        return self.run_id

    def started_event(self, _id: Any = None, **event: Any) -> Any:
        """Give the run its number, if the database answers in time."""
        self._wanted_id = _id
        self._replay_first = "resumed" in self._spool.snapshot().run["meta"]
        self._thread.start()
        self._started.wait(self._start_wait)
        return self.run_id

    def log_metrics(self, metrics_by_name: dict[str, Any], info: dict[str, Any]) -> None:
        """Nothing: the spool has the points, and the heartbeat that follows sends them."""

    def heartbeat_event(self, **event: Any) -> None:
        """Send what is new."""
        self._wake.set()

    def completed_event(self, **event: Any) -> None:
        """Send the rest and the result."""
        self._finish()

    def interrupted_event(self, **event: Any) -> None:
        """Send the rest and the status."""
        self._finish()

    def failed_event(self, **event: Any) -> None:
        """Send the rest and the trace."""
        self._finish()

    def artifact_event(self, **event: Any) -> None:
        """Nothing: files are copied from the spool at the next beat."""

    def resource_event(self, filename: str) -> None:
        """Nothing, as for artifacts."""

    # What MongoObserver does differently here

    def save(self) -> None:
        """Write the run document; unlike Sacred's, lets a lost connection be seen."""
        self.run_entry = force_bson_encodeable(self.run_entry)
        self.runs.update_one({"_id": self.run_entry["_id"]}, {"$set": self.run_entry})

    def final_save(self, attempts: int) -> None:
        """Write the run document once: another attempt is a replay of the spool."""
        self.save()

    def save_sources(self, ex_info: dict[str, Any]) -> list[list[Any]]:
        """Store the sources; Sacred finds known ones by a digest that PyMongo 4 no longer keeps."""
        return sync.put_sources(self.fs, self._spool.snapshot())

    # The thread

    def _work(self) -> None:
        self._wake.set()
        while not self._done.is_set():
            self._wake.wait(timeout=self._retry)
            self._wake.clear()
            ending = self._ending
            if ending or time.monotonic() >= self._next_try:
                try:
                    self._deliver()
                    self._report_success()
                    if not ending:
                        self._deliver_leftover()
                except Exception as error:  # whatever it is, the spool has the run
                    self._report_failure(error)
            self._started.set()
            if ending:
                self._disconnect()
                self._done.set()

    def _deliver(self) -> None:
        """Bring the database up to the spool."""
        if self._db is None:
            self._connect()
        run = self._spool.snapshot()
        if self.run_entry is None and not self._replay_first and self._trouble is None:
            self._insert(run)
        elif self.run_entry is None or self._trouble is not None:
            metrics = self._read_all()
            self.run_entry = sync.replay(self._db, run, metrics)
            self._refs = {"metrics": self.run_entry["info"]["metrics"]}
        else:
            self._push(run)
        self._keep_number(run)

    def _keep_number(self, run: SpooledRun) -> None:
        self._number = int(self.run_entry["_id"])
        self._took_end = run.run["status"] != "RUNNING"
        mark = (self._number, run.run["status"] != "RUNNING")
        if mark != self._mark:
            with contextlib.suppress(OSError):  # trouble with the disk is the spool's to report
                sync.write_mark(run.directory, mark[0], self._target.label, complete=mark[1])
                self._mark = mark

    def _connect(self) -> None:
        self._db = db = self._target.connect()
        sync.ensure_indexes(db)
        self.initialize(db.runs, gridfs.GridFS(db), metrics_collection=db.metrics, priority=30)

    def _disconnect(self) -> None:
        if self._db is not None:
            self._db.client.close()
            self._db = None

    def _insert(self, run: SpooledRun) -> None:
        record = run.run
        super().started_event(
            ex_info=record["experiment"],
            command=record["command"],
            host_info=mongo_keys(record["host"]),
            start_time=dt.datetime.fromisoformat(record["start_time"]),
            config=mongo_keys(run.config),
            meta_info=mongo_keys(record["meta"]),
            _id=self._wanted_id,
        )
        self._warn_of_repeats(run)

    def _push(self, run: SpooledRun) -> None:
        self._push_points()
        sync.sync_files(self.fs, self.run_entry, run)
        record = run.run
        super().heartbeat_event(
            info=mongo_keys({**run.info, **self._refs}),
            captured_out=run.output,
            beat_time=dt.datetime.fromisoformat(record["heartbeat"]),
            result=mongo_keys(record.get("result")),
        )
        if record["status"] in ("RUNNING", "QUEUED"):
            return
        end = dt.datetime.fromisoformat(record["stop_time"])
        if record["status"] == "COMPLETED":
            super().completed_event(stop_time=end, result=mongo_keys(record.get("result")))
        elif record["status"] == "FAILED":
            super().failed_event(fail_time=end, fail_trace=record["fail_trace"])
        else:
            super().interrupted_event(interrupt_time=end, status=record["status"])

    def _push_points(self) -> None:
        rows, cursor = self._spool.rows_since(self._cursor)
        points = {}
        for name, metric in merge_rows(rows).items():
            before = self._points.get(name, 0)
            after = before + len(metric.steps)
            stride = stride_for(after)
            if stride != stride_for(before):
                # What the database has of it must be thinned too, which is rare: at each doubling.
                metrics = self._read_all()
                self._refs["metrics"] = sync.replace_metrics(
                    self._db, int(self.run_entry["_id"]), metrics
                )
                return
            kept = metric.thinned(stride, first=before)
            if kept.steps:
                points[name] = vars(kept)
            self._points[name] = after
        super().log_metrics(points, self._refs)
        self._cursor = cursor

    def _read_all(self) -> dict[str, Metric]:
        """All points so far; those behind them are new from here."""
        rows, self._cursor = self._spool.rows_since(Cursor())
        metrics = merge_rows(rows)
        self._points = {name: len(metric.steps) for name, metric in metrics.items()}
        return metrics

    def _warn_of_repeats(self, run: SpooledRun) -> None:
        wanted = {
            "meta.config_digest": run.run["meta"].get("config_digest"),
            "_id": {"$ne": self.run_entry["_id"]},
        }
        # Those with a folder here were named at the start.
        for other in self._db.runs.find(wanted, {"status": 1, "meta.uid": 1}):
            if not (run.directory.parent / str(other["meta"]["uid"])).is_dir():
                sync.say_repeat(str(other["_id"]), other["status"])

    def _deliver_leftover(self) -> None:
        """Deliver one earlier run that no database has, if there is one."""
        if self._leftovers is None:
            own = self._spool.directory
            others = [d for d in sync.run_directories(own.parent.parent) if d != own]
            self._leftovers = [d for d in others if _is_left(d)]
        if self._leftovers:
            left = self._leftovers.pop()
            known = read_mark(left).get("run_id")
            done = sync.deliver(self._db, left, self._target.label)
            if done.run_id is not None and known is None:
                log.info(
                    "run %s, recorded while there was no database, is now run %s", *_names(done)
                )
            elif done.run_id is not None:
                log.info(
                    "run %s, which ended before the database had all of it, is now complete there: run %s",
                    *_names(done),
                )
            if not self._ending:
                self._wake.set()

    def _report_success(self) -> None:
        if self._trouble is not None:
            self._trouble = None
            log.warning("MongoDB is back; run %s is up to date", self.run_id)

    def _report_failure(self, error: Exception) -> None:
        if self._trouble is None and not self._ending:
            log.warning(
                "MongoDB is away (%s). The run goes on, recorded in %s",
                reason(error),
                self._spool.directory,
            )
        self._trouble = reason(error) or type(error).__name__
        self._next_try = time.monotonic() + self._retry
        self._disconnect()  # the embedded server may come back on another port

    def _finish(self) -> None:
        self._ending = True
        self._wake.set()
        done = self._done.wait(self._end_wait)
        if self._trouble is not None or not done:
            log.warning(
                "MongoDB did not take the end of this run (%s). %s",
                self._trouble or "no answer in time",
                f"Nothing is lost: the whole run is in {self._spool.directory}, and `phalanx sync` or the "
                "next run delivers it."
                if self._spool.trouble is None
                else f"Neither has its folder so far ({self._spool.trouble}).",
            )


def _is_left(directory: Path) -> bool:
    """Whether no database has the run in a folder to its end, though it may be delivered."""
    if read_mark(directory).get("complete"):
        return False
    recorded = SpooledRun.read(directory)
    return recorded is not None and bool(recorded.run.get("deliver", True))


def _names(done: sync.SyncResult) -> tuple[str, int | None]:
    return done.uid, done.run_id
