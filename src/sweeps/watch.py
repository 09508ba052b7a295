"""A sweep's status, live on the terminal."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.live import Live

from .status import RUNNING, WAITING, in_a_line, picture, states
from .table import Table, open_table

_SECONDS = 2.0


class Watch:
    """Shows a sweep while the context is open, where there is a terminal; else it does nothing."""

    def __init__(self, table: Table) -> None:
        self._directory = table.directory
        self._live: Live | None = None
        self._drawn = 0.0

    @staticmethod
    def live() -> bool:
        """Whether there is a terminal to show it on."""
        return sys.stdout.isatty()

    def __enter__(self) -> Watch:
        if self.live():
            self._live = Live(console=Console(markup=False, highlight=False), auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, *raised: object) -> None:
        if self._live is not None:
            self.refresh(now=True)
            self._live.stop()

    def refresh(self, *, now: bool = False) -> None:
        """Draw it anew, unless that was done a moment ago."""
        if self._live is None or (time.monotonic() - self._drawn < _SECONDS and not now):
            return
        self._drawn = time.monotonic()
        table = open_table(self._directory)
        self._live.update(picture(table, states(table)), refresh=True)


def watch_to_the_end(table: Table) -> None:
    """Show a sweep until every row has ended; without a terminal, its line whenever that changes."""
    told = ""
    with Watch(table) as watch:
        while True:
            now = open_table(table.directory)
            rows = states(now)
            if not watch.live() and (line := in_a_line(now, rows)) != told:
                told = line
                print(line, flush=True)
            if not any(state.phase in (RUNNING, WAITING) for state in rows):
                return
            watch.refresh()
            time.sleep(_SECONDS)
