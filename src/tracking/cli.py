"""The commands that look at runs: ``runs``, ``plot``, ``sync`` and ``db``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from . import server
from .plots import choose_metric, plot_runs, task_name
from .queries import RunRecord, find_run, runs
from .record import Metric
from .sync import sync
from .target import DEFAULT_DATABASE, require_target

_BARS = "▁▂▃▄▅▆▇█"
_CURVE_WIDTH = 60


def add_subcommands(subparsers: Any) -> None:
    """Add ``runs``, ``plot``, ``sync`` and ``db``; ``func`` of what is parsed runs the chosen one."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--results",
        type=Path,
        default=Path("results"),
        help="folder of the runs (default: results)",
    )
    _add_runs(subparsers, shared)
    _add_plot(subparsers, shared)
    _add_sync(subparsers, shared)
    _add_db(subparsers, shared)


def _add_runs(subparsers: Any, shared: argparse.ArgumentParser) -> None:
    listing = subparsers.add_parser("runs", parents=[shared], help="list runs, or show one")
    listing.set_defaults(func=_list_runs)
    actions = listing.add_subparsers(metavar="ACTION")
    show = actions.add_parser("show", help="config, numbers and curve of one run")
    show.add_argument("run", help="run id, uid, beginning of a uid, or folder")
    # Without a default of its own, so that --results may stand on either side of "show".
    show.add_argument("--results", type=Path, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    show.set_defaults(func=_show_run)


def _add_plot(subparsers: Any, shared: argparse.ArgumentParser) -> None:
    plot = subparsers.add_parser("plot", parents=[shared], help="curves of runs as an image")
    plot.add_argument("runs", nargs="+", metavar="RUN", help="as for `runs show`")
    plot.add_argument("--metric", help="default: test win rate, else test return")
    plot.add_argument("--out", type=Path, help="image file (default: METRIC.png in the first run)")
    plot.set_defaults(func=_plot)


def _add_sync(subparsers: Any, shared: argparse.ArgumentParser) -> None:
    deliver = subparsers.add_parser(
        "sync", parents=[shared], help="deliver runs to MongoDB that were recorded without it"
    )
    deliver.add_argument("--mongo-url", help="default: PHALANX_MONGO_URL, else the embedded server")
    deliver.add_argument("--mongo-db", default=DEFAULT_DATABASE, help="database name")
    deliver.add_argument("--all", action="store_true", help="also runs that were delivered before")
    deliver.set_defaults(func=_sync)


def _add_db(subparsers: Any, shared: argparse.ArgumentParser) -> None:
    database = subparsers.add_parser("db", help="the embedded database server")
    actions = database.add_subparsers(required=True, metavar="ACTION")
    for name, func, doc in (
        ("start", _start_db, "start it, if it does not run"),
        ("stop", _stop_db, "stop it"),
        ("status", _db_status, "say whether it runs, and where"),
    ):
        actions.add_parser(name, parents=[shared], help=doc).set_defaults(func=func)


def _list_runs(arguments: argparse.Namespace) -> int:
    known = runs(arguments.results)
    if not known:
        print(f"no runs in {arguments.results}")
        return 0
    table = Table()
    for column in (
        "id",
        "name",
        "task",
        "seed",
        "status",
        "steps",
        "test win",
        "test return",
        "uid",
    ):
        table.add_column(column, justify="right" if column in ("id", "seed", "steps") else "left")
    for run in known:
        table.add_row(
            "-" if run.run_id is None else str(run.run_id),
            run.name,
            task_name(run),
            str(run.config.get("seed", "")),
            run.status,
            f"{run.steps:,}",
            _last(run, "test_battle_won_mean"),
            _last(run, "test_return_mean"),
            run.uid,
        )
    _console().print(table)
    return 0


def _show_run(arguments: argparse.Namespace) -> int:
    run = find_run(arguments.results, arguments.run)
    console, metrics = _console(), run.metrics()
    number = "not in a database yet" if run.run_id is None else f"id {run.run_id}"
    console.print(
        f"run {run.uid} ({number}): {run.name} on {task_name(run)}, {run.status}", markup=False
    )
    spent = (
        ""
        if run.stop_time is None
        else f", took {str(run.stop_time - run.start_time).split('.')[0]}"
    )
    console.print(f"started {run.start_time:%Y-%m-%d %H:%M:%S} UTC{spent}", markup=False)
    console.print(f"result {run.result}; files in {run.directory}", markup=False)
    for title, content in (("config", run.config), ("info", run.info)):
        card = Table("key", "value", title=title, title_justify="left")
        for key, value in _flat(content):
            card.add_row(key, str(value))
        console.print(card, markup=False)
    numbers = Table("metric", "last", "min", "max", "points", title="metrics", title_justify="left")
    for name, metric in sorted(metrics.items()):
        values = metric.values
        numbers.add_row(
            name, *(f"{v:.4g}" for v in (values[-1], min(values), max(values))), str(len(values))
        )
    console.print(numbers)
    for name in ("test_battle_won_mean", "test_return_mean"):
        if name in metrics:
            console.print(_curve(name, metrics[name]), markup=False)
    return 0


def _plot(arguments: argparse.Namespace) -> int:
    chosen = [find_run(arguments.results, name) for name in arguments.runs]
    metric = choose_metric(chosen, arguments.metric)
    out = arguments.out or _default_image(chosen[0], metric)
    plot_runs(chosen, metric, out)
    print(out)
    return 0


def _default_image(run: RunRecord, metric: str) -> Path:
    if run.directory is None:
        return Path(f"{metric}.png")
    return run.directory / f"{metric}.png"


def _sync(arguments: argparse.Namespace) -> int:
    target = require_target(
        mongo_url=arguments.mongo_url, results_dir=arguments.results, database=arguments.mongo_db
    )
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


def _db_folder(arguments: argparse.Namespace) -> Path:
    results: Path = arguments.results
    return results.absolute() / "db"


def _console() -> Console:
    # Piped output must not be cut to a made-up terminal width.
    console = Console()
    return console if console.is_terminal else Console(width=200)


def _flat(nested: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for key, value in sorted(nested.items()):
        if isinstance(value, dict) and value:
            flat += _flat(value, f"{prefix}{key}.")
        else:
            flat.append((prefix + key, value))
    return flat


def _last(run: RunRecord, name: str) -> str:
    return f"{run.latest[name]:.3f}" if name in run.latest else ""


def _curve(name: str, metric: Metric) -> str:
    values = [v for v in metric.values if v == v and abs(v) != float("inf")]
    if not values:
        return f"{name}: no finite values"
    width = min(_CURVE_WIDTH, len(values))
    buckets = [
        values[i * len(values) // width : (i + 1) * len(values) // width] for i in range(width)
    ]
    means = [sum(bucket) / len(bucket) for bucket in buckets]
    low, high = min(means), max(means)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    bars = "".join(_BARS[round((mean - low) * scale)] for mean in means)
    return f"{name}  {bars}  {low:.3g} to {high:.3g}"
