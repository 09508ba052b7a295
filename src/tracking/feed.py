"""Carries a run's points from its folder to a sink, on a thread that the run never waits for."""

from __future__ import annotations

import datetime as dt
import logging
import threading
from typing import Any

from sacred.observers.base import RunObserver

from .files import number
from .record import metric_rows
from .sinks.base import About, Point, Sink
from .spool import Cursor, Spool

log = logging.getLogger(__name__)


class Feed(RunObserver):  # type: ignore[misc]
    """Sacred's calls only wake a thread, which reads the spool from where it stopped.

    A sink that raises gets nothing more of this run; one that hangs keeps its thread, which dies with the
    process. Only the end of a run waits for a sink, and not for long.

    Args:
        name: of the sink, for messages.
        sink: what takes the points.
        about: the run.
        spool: the run on disk.
        end_wait: seconds the end of the run waits for the sink to take the rest.
    """

    priority = 20  # below the spool: what a sink is given is on disk already

    def __init__(
        self, name: str, sink: Sink, about: About, spool: Spool, *, end_wait: float = 10.0
    ) -> None:
        self._name, self._sink, self._about, self._spool = name, sink, about, spool
        self._end_wait = end_wait
        self._cursor = Cursor()
        self._wake, self._done = threading.Event(), threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._work, name=f"sink-{name}", daemon=True)

    def started_event(self, _id: Any = None, **event: Any) -> None:
        """Begin."""
        if self._about.resumed and not self._sink.replays:
            _, self._cursor = self._spool.rows_since(Cursor())
        self._thread.start()

    def heartbeat_event(self, **event: Any) -> None:
        """Hand on what is new."""
        self._wake.set()

    def completed_event(self, **event: Any) -> None:
        """Hand on the rest."""
        self._finish()

    def interrupted_event(self, **event: Any) -> None:
        """Hand on the rest."""
        self._finish()

    def failed_event(self, **event: Any) -> None:
        """Hand on the rest."""
        self._finish()

    def _work(self) -> None:
        try:
            self._sink.begin(self._about)
            ending = False
            while not ending:
                self._wake.wait()
                self._wake.clear()
                ending = self._ending
                self._hand_on()
            self._sink.end(self._spool.snapshot().run["status"])
        except (Exception, SystemExit) as error:  # whatever it is, the run's folder has all
            log.warning(
                "sink %s failed (%s: %s) and gets nothing more of this run, which goes on; its folder %s "
                "has all",
                self._name,
                type(error).__name__,
                " ".join(str(error).split())[:200],
                self._spool.directory,
            )
        self._done.set()

    def _hand_on(self) -> None:
        rows, self._cursor = self._spool.rows_since(self._cursor)
        points = [
            Point(row["name"], int(step), float(number(value)), _seconds(time))
            for row in metric_rows(rows)
            for step, value, time in zip(
                row["steps"], row["values"], row["timestamps"], strict=True
            )
        ]
        if points:
            self._sink.write(sorted(points, key=lambda point: point.step))

    def _finish(self) -> None:
        self._ending = True
        self._wake.set()
        if not self._done.wait(self._end_wait):
            log.warning(
                "sink %s did not take the end of this run within %g s; all of it is in %s",
                self._name,
                self._end_wait,
                self._spool.directory,
            )


def _seconds(timestamp: str) -> float:
    """Since 1970, of a time that Sacred took in UTC."""
    return dt.datetime.fromisoformat(timestamp).replace(tzinfo=dt.timezone.utc).timestamp()
