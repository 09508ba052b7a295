"""What the user sees while a run is on."""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from collections.abc import Mapping, Sequence

from rich.console import Console as RichConsole
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .output import unwrapped

_LOGGER = __name__.split(".")[0]
_REDRAW_SECONDS = 0.25
# Label and name of what is worth a place on the line, in this order, where the run has it.
_SHOWN = (
    ("win", "test_battle_won_mean"),
    ("test return", "test_return_mean"),
    ("return", "return_mean"),
    ("eps", "epsilon"),
    ("loss", "loss"),
)


class Console:
    """One live line on a terminal, and plain lines of at most 80 columns per report everywhere.

    The live line goes to the terminal itself, past the capture of output. Reports go through
    ``sys.stdout``, so they are part of the run's record.
    """

    def __init__(self) -> None:
        self._stderr = unwrapped(sys.stderr)
        self._live: Live | None = None
        self._lock = threading.RLock()
        self._handler: _LogHandler | None = None
        self._title = ""
        self._t_max, self._unit = 0, "step"
        self._latest: dict[str, float] = {}
        self._first: tuple[float, int, int] | None = None
        self._now = (0, 0)
        self._mark = (0.0, 0, 0)  # time, steps and updates at the last report
        self._drawn = 0.0

    def start(self, t_max: int, title: str, unit: str = "step") -> None:
        """Begin to show progress towards ``t_max`` environment steps, or whatever else ``unit`` says."""
        self._t_max, self._title, self._unit = t_max, title, unit
        self._first = None
        if self._stderr.isatty() and unwrapped(sys.stdout).isatty():
            self._live = Live(
                console=RichConsole(file=self._stderr),
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
        self._handler = _LogHandler(self)
        logger = logging.getLogger(_LOGGER)
        logger.addHandler(self._handler)
        # A message written past us would land in the middle of the live line.
        logger.propagate = False
        print(title, flush=True)
        with self._lock:
            if self._live is not None:
                self._live.start()

    def update(self, t_env: int, n_updates: int = 0) -> None:
        """Say how far the run is. Cheap enough for every iteration."""
        now = time.monotonic()
        if self._first is None:
            self._first = self._mark = (now, t_env, n_updates)
        if n_updates and not self._first[2]:
            # Speed is counted from here: what came before is set-up, or play with too little to learn from.
            self._first = (now, t_env, n_updates)
        self._now = (t_env, n_updates)
        if self._live is not None and now - self._drawn >= _REDRAW_SECONDS:
            self._drawn = now
            with self._lock:
                if self._live is not None:
                    self._live.update(self._line(now), refresh=True)

    def report(self, t_env: int, latest: Mapping[str, float], split: Mapping[str, float]) -> None:
        """Print one entry: steps, speed, latest numbers, and where the time went (shares of 1)."""
        now = time.monotonic()
        self._latest = dict(latest)
        self._now = (t_env, max(self._now[1], int(latest.get("n_updates", 0))))
        then, steps, updates = self._mark if self._first is not None else (now, t_env, 0)
        seconds = max(now - then, 1e-9)
        parts = [f"{t_env:,}/{self._t_max:,}" + self._of_its_own()]
        if t_env > steps:
            parts += self._speeds(t_env - steps, self._now[1] - updates, seconds)
        parts += [f"left {duration(self._seconds_left(now))}"]
        parts += [f"{label} {_number(latest[name])}" for label, name in _SHOWN if name in latest]
        if split:
            parts.append(" ".join(f"{name} {share:.0%}" for name, share in split.items()))
        self._mark = (now, *self._now)
        self._print(packed(parts), error=False)

    def message(self, text: str) -> None:
        """Print a line of text above the live line."""
        self._print(text, error=False)

    def warning(self, text: str) -> None:
        """Like :meth:`message`, on stderr."""
        self._print(text, error=True)

    def close(self) -> None:
        """Remove the live line and give the log back. Safe to call twice."""
        with self._lock:
            if self._live is not None:
                self._live.stop()
                self._live = None
        if self._handler is not None:
            logger = logging.getLogger(_LOGGER)
            logger.removeHandler(self._handler)
            logger.propagate = True
            self._handler = None

    def _print(self, text: str, *, error: bool) -> None:
        with self._lock:
            if self._live is not None:
                self._live.stop()
            print(text, file=sys.stderr if error else sys.stdout, flush=True)
            if self._live is not None:
                self._live.start(refresh=True)

    def _seconds_left(self, now: float) -> float:
        if self._first is None or not self._first[2] or self._now[0] <= self._first[1]:
            return math.nan  # it has not learnt yet, which is what takes the time
        then, steps, _ = self._first
        return (now - then) / (self._now[0] - steps) * max(self._t_max - self._now[0], 0)

    def _of_its_own(self) -> str:
        """The unit, where it is not the usual one."""
        return "" if self._unit == "step" else f" {self._unit}s"

    def _speeds(self, steps: int, updates: int, seconds: float) -> list[str]:
        clock = [] if self._unit == "update" else [f"{steps / seconds:,.0f} {self._unit}s/s"]
        return [*clock, f"{updates / seconds:.1f} updates/s"]

    def _line(self, now: float) -> Table:
        t_env, n_updates = self._now
        assert self._first is not None
        then, steps, updates = self._first
        seconds = max(now - then, 1e-9)
        facts = [
            f"{t_env / max(self._t_max, 1):.1%}",
            *self._speeds(t_env - steps, n_updates - updates, seconds),
            f"left {duration(self._seconds_left(now))}",
        ]
        latest = self._latest
        facts += [f"{label} {_number(latest[name])}" for label, name in _SHOWN if name in latest]
        line = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=max(self._t_max, 1), completed=t_env, width=24)
        line.add_row(bar, Text("  ".join(facts), no_wrap=True, overflow="ellipsis"))
        return line


class _LogHandler(logging.Handler):
    """Shows log records without breaking the live line."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._console.warning(self.format(record))
        except Exception:  # as logging itself does: a message is not worth a run
            self.handleError(record)


def packed(parts: Sequence[str], width: int = 80) -> str:
    """Parts side by side, on as many lines of at most ``width`` columns as that takes.

    >>> print(packed(["1,000/5,000", "win 0.5", "loss 0.1"], width=24))
    1,000/5,000 | win 0.5
      loss 0.1
    """
    lines = [parts[0]]
    for part in parts[1:]:
        longer = f"{lines[-1]} | {part}"
        if len(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(f"  {part}")
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def duration(seconds: float) -> str:
    """A time as people say it: ``1h05m``, ``2m10s``, ``9s``; ``?`` where it is not known."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
