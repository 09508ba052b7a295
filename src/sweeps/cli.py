"""``phalanx sweep`` and ``phalanx work``."""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config.routing import Faults, checked
from ..config.sources import read_words
from ..errors import ConfigError, TrackingError, did_you_mean
from ..plugins import load_plugins
from ..registry import LAUNCHERS
from .table import SWEEPS_FOLDER, TABLE_FILE, Table, open_table, sweep_folder

_SUBCOMMANDS = ("start", "status", "report")
_MAKE_USAGE = """\
phalanx sweep FILE.yaml [--results DIR] [--dry-run]
       phalanx sweep start SWEEP [--launcher NAME] [with KEY=VALUE ...]
       phalanx sweep status SWEEP [--watch] [--rerun failed]
       phalanx sweep report SWEEP [--metric NAME] [--out DIR]"""
_ABOUT = """\
FILE.yaml says which runs (docs/sweeps.md); each is composed before anything is made. SWEEP is the folder that
is printed, or its name where the results are in ./results. `phalanx list launcher` shows launchers and keys.
"""


def sweep(arguments: Sequence[str], updates: Sequence[str]) -> int:
    """``phalanx sweep ...``; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="phalanx sweep",
        usage=_MAKE_USAGE,
        description="Many runs from one file.",
        epilog=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if arguments[:1] and arguments[0] in _SUBCOMMANDS:
        parser.add_argument("command")
        parser.add_argument("sweep", metavar="SWEEP", type=Path)
        if arguments[0] == "start":
            parser.add_argument("--launcher", default="local", help="default: local")
        elif arguments[0] == "report":
            parser.add_argument("--metric", help="default: test win rate, else test return")
            parser.add_argument("--out", type=Path, help="folder (default: report in the sweep's)")
        else:
            parser.add_argument("--watch", action="store_true", help="live, until all is done")
            parser.add_argument("--rerun", metavar="failed|ROW,...", help="let these run again")
        given = parser.parse_args(list(arguments))
        if given.command == "start":
            return start(find(given.sweep), given.launcher, updates)
        _no_words(updates)
        if given.command == "report":
            return _report(find(given.sweep), given.out, given.metric)
        return _status(find(given.sweep), given.watch, given.rerun)
    parser.add_argument("file", metavar="FILE.yaml", type=Path)
    parser.add_argument("--results", type=Path, default=Path("results"), help="default: results")
    parser.add_argument("--dry-run", action="store_true", help="only list the runs")
    given = parser.parse_args(list(arguments))
    _no_words(updates)
    return _make(given.file, given.results, given.dry_run)


def work(arguments: Sequence[str], updates: Sequence[str]) -> int:
    """``phalanx work SWEEP``; returns the exit status."""
    from .stopping import stop_with_parent
    from .worker import Worker

    parser = argparse.ArgumentParser(
        prog="phalanx work",
        description="Run the rows of a sweep that nobody has; start it as often and on as many machines "
        "as you like. Exit status 75 after SIGTERM or SIGUSR1: start it again to go on.",
    )
    parser.add_argument("sweep", metavar="SWEEP", type=Path)
    parser.add_argument(
        "--no-wait",
        action="store_true",
        help="end when no row is free, in place of waiting for rows whose workers may die",
    )
    parser.add_argument(
        "--with-parent", action="store_true", help="stop when the program that started it dies"
    )
    given = parser.parse_args(list(arguments))
    _no_words(updates)
    if given.with_parent:
        stop_with_parent(os.getppid())
    say = functools.partial(print, flush=True)
    return Worker(find(given.sweep).directory, wait=not given.no_wait, say=say).run()


def find(path: Path) -> Table:
    """The sweep in a folder, or of a name in ./results.

    Raises:
        TrackingError: there is none.
    """
    named = sweep_folder(Path("results"), str(path))
    if not path.is_dir() and (named / TABLE_FILE).exists():
        return open_table(named)
    if not path.is_dir():
        known = sorted(found.parent.name for found in named.parent.glob(f"*/{TABLE_FILE}"))
        there = f"there are: {', '.join(known)}" if known else "there is none"
        raise TrackingError(
            f"no sweep {str(path)!r}: it is no folder, and in {Path('results') / SWEEPS_FOLDER} "
            f"{there}.{did_you_mean(str(path), known)}"
        )
    return open_table(path)


def start(table: Table, name: str, words: Sequence[str]) -> int:
    """Start workers with a launcher; returns its exit status."""
    launcher = launcher_of(name, words)
    return int(launcher.launch(table.directory, functools.partial(print, flush=True)))


def launcher_of(name: str, words: Sequence[str]) -> Any:
    """The launcher of that name with ``KEY=VALUE`` words as its config.

    Raises:
        RegistryError: there is none of that name.
        ConfigError: a key or value is wrong.
    """
    load_plugins([])  # installed ones may bring launchers
    part: Any = LAUNCHERS.get(name)
    faults = Faults()
    values = {entry.key: entry for entry in read_words(words)}
    keys = list(part.Config.model_fields)
    for key in values:
        if key not in keys:
            faults.append(
                f"launcher {name!r} has no key {key!r}.{did_you_mean(key, keys)} "
                f"Its keys: {', '.join(keys) or 'none'}."
            )
    config = checked(part.Config, "", values, faults)
    faults.raise_if_any()
    return part(config)


def _make(file: Path, results: Path, dry: bool) -> int:
    from .plan import read_plan
    from .rows import candidates
    from .table import write_table
    from .tuning import corners, test_seeds, tune_of

    plan = read_plan(file)
    tune = None if plan.tune is None else tune_of(plan)
    found = candidates(plan) if tune is None else corners(plan, tune)
    if dry:
        for candidate in found:
            print("phalanx", *candidate.command)
        print(
            f"{len(found)} runs{'' if tune is None else ' at the ends of the space'}; nothing was made"
        )
        return 0
    table, added = write_table(sweep_folder(results, plan.name), plan, [] if tune else found)
    had = len(table.rows) - added
    told = f"{added} rows added to the {had} there were" if had else f"{added} rows"
    if tune is not None:
        told = (
            f"{tune.trials} trials with {len(plan.seeds)} seeds each, then the best with "
            f"{len(test_seeds(plan, tune))} others"
        )
    where = table.directory
    print(
        f"{plan.name}: {told}, in {where}\n"
        f"  on this machine:  phalanx sweep start {where}\n"
        f"  one worker more:  phalanx work {where}\n"
        f"  how far it is:    phalanx sweep status {where}\n"
        f"  what came out:    phalanx sweep report {where}\n"
        f"  its runs:         phalanx runs sweep={plan.name}"
    )
    return 0


def _status(table: Table, watch: bool, rerun: str | None) -> int:
    from .status import print_status, rerun_rows
    from .watch import watch_to_the_end

    if rerun is not None:
        rows = rerun_rows(table, rerun)
        told = ", ".join(str(row.number) for row in rows)
        print(f"to be run again: {told}" if rows else "no such row has failed")
    if watch:
        watch_to_the_end(table)
    else:
        print_status(table)
    return 0


def _report(table: Table, out: Path | None, metric: str | None) -> int:
    from .report import write_report

    for path in write_report(table, out or table.directory / "report", metric):
        print(path)
    return 0


def _no_words(updates: Sequence[str]) -> None:
    if updates:
        raise ConfigError(f"{updates[0]!r}: the runs' keys stand in the sweep's file, under `with`")
