"""The commands that look at runs and at the database."""

from __future__ import annotations

import argparse
import io
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import TrackingError
from . import server
from .board import FIRST_PORT, Board, checked_port
from .copying import copy_database
from .export import FORMATS
from .filters import parse_filter, select, sort
from .plots import choose_metric, label_groups, plot_runs, run_label
from .queries import RunRecord, find_run, pick_run, runs
from .record import RUNS_FOLDER
from .sync import sync
from .target import (
    DEFAULT_DATABASE,
    Target,
    named_target,
    reading_target,
    require_target,
)
from .views import print_comparison, print_run, print_table

_CHOICE = "RUN (number, name, label, uid or its beginning, folder) or FILTER"
_FILTER = """\
A FILTER is KEY=VALUE, or another of != < <= > >= ~ (regular expression), in quotes where the shell
needs them. KEY is a column (id uid name task seed status steps result duration started engine tags),
a config key (map_name, config.env_args.map_name), info.KEY, or last.METRIC, min.METRIC, max.METRIC.
VALUE1,VALUE2 means either. Examples:

  phalanx runs map_name=MMM2 status=COMPLETED --sort max.test_battle_won_mean --reverse
  phalanx runs 'last.test_return_mean>=10' name~^vdfd
"""


def add_subcommands(subparsers: Any) -> None:
    """Add the commands; ``func`` of what is parsed runs the chosen one."""
    folder = argparse.ArgumentParser(add_help=False)
    folder.add_argument(
        "--results",
        type=Path,
        default=Path("results"),
        help="folder of the runs (default: results)",
    )
    database = argparse.ArgumentParser(add_help=False, parents=[folder])
    database.add_argument(
        "--mongo-url",
        help="MongoDB to use (default: PHALANX_MONGO_URL, else the embedded server; "
        "none: the results folder alone)",
    )
    database.add_argument("--mongo-db", default=DEFAULT_DATABASE, help="database name")
    _add_runs(subparsers, database)
    _add_compare(subparsers, database)
    _add_plot(subparsers, database)
    _add_export(subparsers, database)
    _add_board(subparsers, database)
    _add_sync(subparsers, database)
    _add_db(subparsers, folder)


def _add_runs(subparsers: Any, database: argparse.ArgumentParser) -> None:
    listing = subparsers.add_parser(
        "runs",
        parents=[database],
        help="list runs, or show one",
        usage="phalanx runs [FILTER ...] [options]\n       phalanx runs show RUN [options]",
        epilog=_FILTER,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    listing.add_argument("words", nargs="*", metavar="FILTER", help="conditions; all must hold")
    listing.add_argument("--sort", metavar="KEY", help="order by this key (default: start time)")
    listing.add_argument("--reverse", action="store_true", help="highest, or newest, first")
    listing.add_argument("--limit", type=int, metavar="N", help="the first N only")
    listing.add_argument("--columns", metavar="KEY,...", help="columns to show")
    listing.set_defaults(func=_runs)


def _add_compare(subparsers: Any, database: argparse.ArgumentParser) -> None:
    compare = subparsers.add_parser(
        "compare", parents=[database], help="differences of runs, and their curves in one chart"
    )
    compare.add_argument("runs", nargs="+", metavar="RUN", help=_CHOICE)
    compare.add_argument("--metric", help="default: test win rate, else test return")
    compare.add_argument("--out", type=Path, help="also draw the curves into this image")
    compare.set_defaults(func=_compare)


def _add_plot(subparsers: Any, database: argparse.ArgumentParser) -> None:
    plot = subparsers.add_parser(
        "plot",
        parents=[database],
        help="curves of runs as an image: per config the interquartile mean over seeds "
        "and its 95 %% bootstrap interval",
    )
    plot.add_argument("runs", nargs="+", metavar="RUN", help=_CHOICE)
    plot.add_argument("--metric", help="default: test win rate, else test return")
    plot.add_argument("--out", type=Path, help="image file (default: METRIC.png in the first run)")
    plot.set_defaults(func=_plot)


def _add_export(subparsers: Any, database: argparse.ArgumentParser) -> None:
    export = subparsers.add_parser(
        "export", parents=[database], help="points of runs as tidy CSV or for marl-eval"
    )
    export.add_argument("runs", nargs="*", metavar="RUN", help=f"{_CHOICE} (default: all runs)")
    export.add_argument("--format", choices=sorted(FORMATS), default="csv", help="default: csv")
    export.add_argument(
        "--metric", action="append", metavar="NAME", help="this metric only; may be repeated"
    )
    export.add_argument("--out", type=Path, help="file to write (default: standard output)")
    export.set_defaults(func=_export)


def _add_board(subparsers: Any, database: argparse.ArgumentParser) -> None:
    board = subparsers.add_parser(
        "board",
        parents=[database],
        help="Omniboard on this machine: runs, plots, files and notes in a web browser "
        "(needs Node.js; installed by npm on first use)",
    )
    board.add_argument(
        "--port", type=int, default=FIRST_PORT, help="or the next free one (default: %(default)s)"
    )
    board.set_defaults(func=_board)


def _add_sync(subparsers: Any, database: argparse.ArgumentParser) -> None:
    deliver = subparsers.add_parser(
        "sync", parents=[database], help="deliver runs to MongoDB that were recorded without it"
    )
    deliver.add_argument("--all", action="store_true", help="also runs that were delivered before")
    deliver.set_defaults(func=_sync)


def _add_db(subparsers: Any, folder: argparse.ArgumentParser) -> None:
    database = subparsers.add_parser("db", help="the embedded database server; copies of databases")
    actions = database.add_subparsers(required=True, metavar="ACTION")
    for name, func, doc in (
        ("start", _start_db, "start it, if it does not run"),
        ("stop", _stop_db, "stop it"),
        ("status", _db_status, "say whether it runs, and where"),
    ):
        actions.add_parser(name, parents=[folder], help=doc).set_defaults(func=func)
    copy = actions.add_parser(
        "copy", parents=[folder], help="copy all runs of one database into another, ids kept"
    )
    where = "embedded, an address without a password, or env:VARIABLE that holds the address"
    copy.add_argument("source", metavar="SRC", help=where)
    copy.add_argument("destination", metavar="DST", help="likewise")
    copy.add_argument("--mongo-db", default=DEFAULT_DATABASE, help="database name on both sides")
    copy.set_defaults(func=_copy_db)


def _runs(arguments: argparse.Namespace) -> int:
    if arguments.words[:1] == ["show"]:
        return _show_run(arguments, arguments.words[1:])
    conditions = []
    for word in arguments.words:
        condition = parse_filter(word)
        if condition is None:
            raise TrackingError(f"{word!r} is no filter: expected KEY=VALUE, or `runs show RUN`")
        conditions.append(condition)
    known = runs(arguments.results, _target(arguments))
    chosen = select(known, conditions)
    if not chosen:
        print(f"no runs in {arguments.results}" if not known else "no run meets these conditions")
        return 0
    if arguments.sort:
        chosen = sort(chosen, arguments.sort, reverse=arguments.reverse)
    elif arguments.reverse:
        chosen.reverse()
    columns = arguments.columns.split(",") if arguments.columns else None
    print_table(chosen[: arguments.limit], columns)
    return 0


def _show_run(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    if len(words) != 1:
        raise TrackingError("`phalanx runs show` takes one RUN")
    print_run(find_run(arguments.results, words[0], _target(arguments)))
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    chosen, metric = _with_metric(arguments)
    print_comparison(chosen, metric)
    if arguments.out is not None:
        labels = [f"{run_label(run)}: {run.name}, {run.task}" for run in chosen]
        plot_runs(
            {label: [run] for label, run in zip(labels, chosen, strict=True)}, metric, arguments.out
        )
        print(arguments.out)
    return 0


def _plot(arguments: argparse.Namespace) -> int:
    chosen, metric = _with_metric(arguments)
    out = arguments.out or (chosen[0].directory or Path()) / f"{metric}.png"
    plot_runs(label_groups(chosen), metric, out)
    print(out)
    return 0


def _with_metric(arguments: argparse.Namespace) -> tuple[list[RunRecord], str]:
    """The chosen runs that have numbers of the metric, and the metric; the others are named."""
    chosen = _chosen(arguments)
    metric, having = choose_metric(chosen, arguments.metric)
    left_out = [run_label(run) for run in chosen if run not in having]
    if left_out:
        print(f"left out, without numbers of {metric}: {', '.join(left_out)}", file=sys.stderr)
    return having, metric


def _export(arguments: argparse.Namespace) -> int:
    chosen = _chosen(arguments)
    write = FORMATS[arguments.format]
    text = io.StringIO(newline="")
    written = write(chosen, text, arguments.metric)
    if not written:
        raise TrackingError(
            f"none of {len(chosen)} runs has points of {', '.join(arguments.metric or ['any metric'])}; "
            "`phalanx runs show RUN` lists those of a run"
        )
    if arguments.out is None:
        sys.stdout.write(text.getvalue())
        return 0
    try:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text.getvalue(), encoding="utf-8", newline="")
    except OSError as error:
        raise TrackingError(f"{arguments.out} cannot be written ({error})") from error
    print(f"{written} runs in {arguments.out}", file=sys.stderr)
    return 0


def _chosen(arguments: argparse.Namespace) -> list[RunRecord]:
    """The runs that were named, and those that meet all filters; all of them without any word.

    Raises:
        TrackingError: a name fits no run, or no run meets the filters.
    """
    folders, names, conditions = [], [], []
    for word in arguments.runs:
        if Path(word).is_dir():
            folders.append(find_run(arguments.results, word))
        elif (condition := parse_filter(word)) is not None:
            conditions.append(condition)
        else:
            names.append(word)
    if folders and not names and not conditions:
        return folders
    known = runs(arguments.results, _target(arguments))
    where = str(arguments.results / RUNS_FOLDER)
    chosen = folders + [pick_run(known, name, where) for name in names]
    if conditions or not arguments.runs:
        chosen += select(known, conditions)
    if not chosen:
        raise TrackingError(f"no run in {where} meets these conditions; `phalanx runs` lists them")
    return list({run.uid: run for run in chosen}.values())


def _target(arguments: argparse.Namespace) -> Target | None:
    return reading_target(
        mongo_url=arguments.mongo_url, results_dir=arguments.results, database=arguments.mongo_db
    )


def _board(arguments: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    port = checked_port(arguments.port)  # before a database is started for it
    board = Board(_required_target(arguments), arguments.results, port)
    print(f"Omniboard shows the runs at {board.url} (Ctrl-C ends it)", flush=True)
    try:
        status = board.process.wait()
    except KeyboardInterrupt:
        board.close()
        return 0
    raise TrackingError(f"Omniboard ended by itself (status {status}): see {board.log}")


def _required_target(arguments: argparse.Namespace) -> Target:
    return require_target(
        mongo_url=arguments.mongo_url, results_dir=arguments.results, database=arguments.mongo_db
    )


def _sync(arguments: argparse.Namespace) -> int:
    target = _required_target(arguments)
    delivered = failed = 0
    for done in sync(arguments.results, target, everything=arguments.all):
        delivered += done.run_id is not None
        failed += done.note.startswith("failed")
        print(f"{done.uid}: {done.note}" + (f" as run {done.run_id}" if done.run_id else ""))
    print(f"{delivered} delivered to {target.label}")
    return 1 if failed else 0


def _start_db(arguments: argparse.Namespace) -> int:
    running = server.start(_db_folder(arguments))
    print(f"{running.url} (process {running.pid})")
    return 0


def _stop_db(arguments: argparse.Namespace) -> int:
    print("stopped" if server.stop(_db_folder(arguments)) else "not running")
    return 0


def _db_status(arguments: argparse.Namespace) -> int:
    running = server.status(_db_folder(arguments))
    print("not running" if running is None else f"{running.url} (process {running.pid})")
    return 0 if running else 3


def _copy_db(arguments: argparse.Namespace) -> int:
    source, destination = (
        named_target(name, arguments.results, arguments.mongo_db)
        for name in (arguments.source, arguments.destination)
    )
    copied = copy_database(source, destination, lambda name, n: print(f"{name}: {n}"))
    print(f"{copied.get('runs', 0)} runs copied to {destination.label}")
    return 0


def _db_folder(arguments: argparse.Namespace) -> Path:
    results: Path = arguments.results
    return results.absolute() / "db"
