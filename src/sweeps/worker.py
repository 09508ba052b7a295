"""A worker: takes the rows of a sweep that nobody has, one after the other, until all have ended."""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..checkpoint import find_checkpoint, read_meta
from ..errors import CheckpointError, RunBusyError, in_words, unforeseen
from ..interrupt import TRY_AGAIN, Preempted
from ..registry import load_builtin_parts
from ..tracking.record import utc_now
from ..tracking.target import NO_DATABASE, URL_VARIABLE
from .claims import DONE, FAILED, FINAL, LOST_CLAIM, PRUNED, STOPPED, Claims, Hold, Standing
from .machine import host_of, this_machine
from .rows import Row
from .stopping import Stop, exit_status, on_stop, start, stop_with_parent
from .table import Table, open_table
from .tuning import PrunedError, advance, prune_others, watcher

POLL_SECONDS = 1.0
FORKS = sys.platform == "linux"
"""Elsewhere forking a process that has imported much is not safe."""
MOST_DEATHS = 5
"""So often in a row a process may die at the same step before its row counts as failed."""


class Worker:
    """Runs rows in processes of their own, so that what one of them breaks is gone with it.

    The process that computes a row also holds its claim. It is forked where that is safe, from this one,
    which has imported everything and computed nothing.

    Args:
        directory: of the sweep.
        wait: stay while others are at work, whose rows may become free again.
        say: takes a line on what happens.
    """

    def __init__(self, directory: Path, *, wait: bool = True, say: Callable[[str], None] = print):
        self._directory, self._wait, self._say = directory, wait, say
        self._child: Any = None

    def run(self) -> int:
        """Work until nothing is left; returns the exit status.

        It is 0, 75 when a scheduler asked for the machine, 130 after Ctrl-C.
        """
        with on_stop(self._pass_on) as asked:
            while not asked:
                table = open_table(self._directory)
                row, unfinished = next_free(table)
                if row is None and table.plan.tune is not None:
                    table, unfinished = advance(table)
                    row, at_work = next_free(table)
                    unfinished |= at_work
                if row is not None:
                    self._run_in_process(row, asked)
                elif not unfinished or not self._wait:
                    return 0
                else:
                    time.sleep(POLL_SECONDS)
        return exit_status(asked)

    def _run_in_process(self, row: Row, asked: list[int]) -> None:
        context: Any = multiprocessing.get_context("fork" if FORKS else "spawn")
        if FORKS:
            warm_up()
        arguments = (self._directory, row.number, os.getpid())
        self._child = context.Process(target=_in_child, args=arguments)
        start(self._child)
        if asked:  # in between
            self._pass_on(asked[0])
        while self._child.exitcode is None:
            self._child.join(0.2)
        status, self._child = self._child.exitcode, None
        table = open_table(self._directory)
        end = Claims(table.directory, table.stale_after).standing(row.number)
        if told := _told(status, end):
            self._say(f"row {row.number} ({row.label}): {told}")
        if status == TRY_AGAIN and not asked:
            asked.append(signal.SIGTERM)  # whoever asked the child meant all of us

    def _pass_on(self, number: int) -> None:
        """What ends the worker ends its run first, with a checkpoint."""
        if self._child is not None and self._child.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child.pid, number)


def warm_up() -> None:
    """Import what a run needs, once for all processes that are forked from this one."""
    importlib.import_module("..session", __package__)
    load_builtin_parts()


def next_free(table: Table) -> tuple[Row | None, bool]:
    """The first row that can be taken, and whether any has not ended."""
    standings = Claims(table.directory, table.stale_after).standings()
    unfinished = False
    for row in table.rows:
        standing = standings.get(row.number, Standing())
        if standing.free:
            return row, True
        unfinished |= standing.alive
    return None, unfinished


def _told(status: int | None, standing: Standing) -> str:
    if status is not None and status < 0:
        return f"its process was ended by signal {-status}; it will be taken up again"
    if status == LOST_CLAIM:
        return "taken over by another worker while this one slept"
    if standing.end in FINAL or standing.end == STOPPED:
        sentence = str((standing.said or {}).get("sentence", "")).partition("\n")[0]
        return f"{standing.end}{': ' if sentence else ''}{sentence}"
    # With 0 another worker was faster.
    return f"its process ended with status {status}" if status else ""


def _in_child(directory: Path, number: int, parent: int) -> None:
    """Body of the process of one row."""
    stop_with_parent(parent)
    sys.exit(run_row(open_table(directory), number))


def run_row(table: Table, number: int) -> int:
    """Take a row and run it in this process, which is to do nothing else; returns the exit status."""
    row = table.rows[number]
    claims = Claims(table.directory, table.stale_after)
    with Stop() as stop:
        standing = claims.standing(number)
        step = last_step(table.run_folder(row))
        hold = claims.take(number, standing, step) if standing.free else None
        if hold is None:
            return 0
        with hold, _into_log(table.directory / "logs" / f"{number:04d}.log"):
            if standing.at(step) and claims.deaths(number, standing) >= MOST_DEATHS:
                hold.end(FAILED, sentence=_of_deaths(table, number, step), step=step)
                return 1
            return _run(table, row, hold, stop)


def _run(table: Table, row: Row, hold: Hold, stop: Stop) -> int:
    from ..session import train_planned

    began = time.monotonic()
    folder = table.run_folder(row)

    before = last_step(folder)

    def end(how: str, sentence: str = "") -> None:
        step = row.t_max if how == DONE else last_step(folder)
        seconds = round(time.monotonic() - began, 1)
        hold.end(how, sentence=sentence, step=step, steps=step - before, seconds=seconds)

    try:
        config = table.config(row)
        with stop.armed():
            train_planned(folder, config, _words(table, config), watcher(table, row))
    except PrunedError:
        end(PRUNED)
        prune_others(table, row)
        return 0
    except KeyboardInterrupt as stopped:
        end(STOPPED)
        return TRY_AGAIN if isinstance(stopped, Preempted) else 130
    except RunBusyError as error:
        end(STOPPED, str(error))  # its process is about to notice that it has lost the row
        time.sleep(POLL_SECONDS)
        return 0
    except BaseException as error:
        if unforeseen(error):
            traceback.print_exc()
        print(f"error: {in_words(error)}", flush=True)
        end(FAILED, in_words(error))
        return 1
    end(DONE)
    return 0


def _words(table: Table, config: Mapping[str, Any]) -> list[str]:
    """What a run is told beyond its config: whose it is, and to leave another machine's database alone."""
    words = [f"sweep={table.name}"]
    named = config.get("mongo_url") or os.environ.get(URL_VARIABLE)
    if not named and host_of(this_machine()) != host_of(table.machine):
        # The embedded server is one machine's; `phalanx sync` there delivers what others record.
        words.append(f"mongo_url={NO_DATABASE}")
    return words


def last_step(folder: Path) -> int:
    """Environment steps behind the checkpoint from which a run would go on; 0 without one."""
    try:
        return int(read_meta(find_checkpoint(folder))["t_env"])
    except CheckpointError:
        return 0


def _of_deaths(table: Table, number: int, step: int) -> str:
    return (
        f"its process died {MOST_DEATHS} times at step {step} without a word. It may have been killed for "
        f"want of memory, or native code crashed: see the end of {table.directory}/logs/{number:04d}.log"
    )


@contextlib.contextmanager
def _into_log(path: Path) -> Iterator[None]:
    """All that this process prints goes to the end of a file, native crashes included."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with path.open("ab", buffering=0) as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        print(f"--- process {os.getpid()} on {this_machine()}, {utc_now():%Y-%m-%d %H:%M:%S} UTC")
        faulthandler.enable(file)
        try:
            yield
        finally:
            faulthandler.disable()
            sys.stdout.flush()
            sys.stderr.flush()
            for number, old in zip((1, 2), kept, strict=True):
                os.dup2(old, number)
                os.close(old)
