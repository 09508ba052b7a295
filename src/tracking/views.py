"""Recorded runs as text: the table, the card of one run, and several side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from .filters import flat, value
from .plots import DEFAULT_METRICS, curve_of, run_label
from .queries import RunRecord, clock_of
from .record import Metric

_BARS = "▁▂▃▄▅▆▇█"
_CURVE_WIDTH = 60
_CHART_HEIGHT = 14
_RIGHT = ("id", "seed", "steps")
DEFAULT_COLUMNS = (
    "id",
    "name",
    "task",
    "seed",
    "status",
    "steps",
    "last.test_battle_won_mean",
    "max.test_battle_won_mean",
    "last.test_return_mean",
    "uid",
)
_HEADERS = {
    "last.test_battle_won_mean": "test win",
    "max.test_battle_won_mean": "best win",
    "last.test_return_mean": "test return",
}


def console() -> Console:
    """A console whose width is the terminal's."""
    # Piped output must not be cut to a made-up terminal width.
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=200)


def print_table(runs: Sequence[RunRecord], columns: Sequence[str] | None = None) -> None:
    """One line per run; columns are keys as filters have them.

    Raises:
        TrackingError: no run has a column that was asked for.
    """
    table = Table()
    names = columns or [c for c in DEFAULT_COLUMNS if "." not in c or _known(runs, c)]
    for name in names:
        table.add_column(_HEADERS.get(name, name), justify="right" if name in _RIGHT else "left")
    for run in runs:
        table.add_row(*(_cell(name, value(run, name, runs)) for name in names))
    console().print(table, markup=False)


def print_run(run: RunRecord) -> None:
    """Config, facts, numbers and main curves of one run."""
    out, metrics = console(), run.metrics()
    number = "not in a database yet" if run.run_id is None else f"id {run.run_id}"
    out.print(f"run {run.uid} ({number}): {run.name} on {run.task}, {run.status}", markup=False)
    spent = "" if run.seconds is None else f", took {_duration(run.seconds)}"
    out.print(f"started {run.start_time:%Y-%m-%d %H:%M:%S} UTC{spent}", markup=False)
    out.print(f"result {run.result}; files in {run.directory or 'no folder here'}", markup=False)
    facts = {key: item for key, item in run.info.items() if key != "summary"}
    for title, content in (("config", run.config), ("info", facts)):
        card = Table("key", "value", title=title, title_justify="left")
        for key, item in flat(content).items():
            card.add_row(key, str(item))
        out.print(card, markup=False)
    numbers = Table("metric", "last", "min", "max", "points", title="metrics", title_justify="left")
    for name, metric in sorted(metrics.items()):
        values = metric.values
        numbers.add_row(
            name, *(f"{v:.4g}" for v in (values[-1], *_range(values))), str(len(values))
        )
    out.print(numbers)
    for name in DEFAULT_METRICS:
        if name in metrics:
            out.print(_spark(name, metrics[name]), markup=False)


def print_comparison(runs: Sequence[RunRecord], metric: str) -> None:
    """Where the configs of runs differ, their numbers, and their curves in one chart."""
    out = console()
    letters = [chr(ord("A") + i % 26) for i in range(len(runs))]
    titles = [f"{letter} {run_label(run)}" for letter, run in zip(letters, runs, strict=True)]
    table = Table("", *titles, title="differences", title_justify="left")
    facts = [{**_about(run), **flat(run.config)} for run in runs]
    for key in dict.fromkeys(key for fact in facts for key in fact):
        cells = [_cell(key, fact.get(key)) for fact in facts]
        if len(set(cells)) > 1:
            table.add_row(key, *cells)
    out.print(table, markup=False)
    numbers = Table("metric (last, max)", *titles, title="metrics", title_justify="left")
    for name in sorted(set().union(*(run.latest for run in runs))):
        numbers.add_row(name, *(_last_and_max(run, name) for run in runs))
    out.print(numbers, markup=False)
    curves = {letter: curve_of(run, metric) for letter, run in zip(letters, runs, strict=True)}
    out.print(_chart(metric, curves, clock_of(runs)), markup=False)


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Lowest and highest of those values that are finite."""
    finite = [value for value in values if math.isfinite(value)] or [math.nan]
    return min(finite), max(finite)


def _known(runs: Sequence[RunRecord], column: str) -> bool:
    return any(column.partition(".")[2] in run.latest for run in runs)


def _about(run: RunRecord) -> dict[str, Any]:
    return {
        "status": run.status,
        "steps": run.steps,
        "result": run.result,
        "duration": run.seconds,
        "engine": run.info.get("engine"),
    }


def _last_and_max(run: RunRecord, name: str) -> str:
    if name not in run.latest:
        return ""
    return f"{run.latest[name]:.4g}, {run.info['summary']['max'][name]:.4g}"


def _cell(name: str, item: Any) -> str:
    if item is None:
        return "-" if name == "id" else ""
    if name == "steps":
        return f"{item:,}"
    if name == "duration":
        return _duration(item)
    if isinstance(item, float):
        return f"{item:.3f}" if name.startswith(("last.", "min.", "max.")) else f"{item:.6g}"
    if isinstance(item, list):
        return ", ".join(map(str, item))
    return str(item)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def _spark(name: str, metric: Metric) -> str:
    values = [v for v in metric.values if math.isfinite(v)]
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


def _chart(name: str, curves: dict[str, Metric], clock: str) -> str:
    """Curves drawn over each other, each with its letter; ``*`` where several meet."""
    points = {
        letter: [(s, v) for s, v in zip(curve.steps, curve.values, strict=True) if math.isfinite(v)]
        for letter, curve in curves.items()
    }
    everything = [point for line in points.values() for point in line]
    if not everything:
        return f"{name}: no finite values"
    first, last = min(s for s, _ in everything), max(s for s, _ in everything)
    low, high = min(v for _, v in everything), max(v for _, v in everything)
    grid = [[" "] * _CURVE_WIDTH for _ in range(_CHART_HEIGHT)]
    for letter, line in points.items():
        for step, item in line:
            column = round((step - first) / ((last - first) or 1) * (_CURVE_WIDTH - 1))
            row = round((high - item) / ((high - low) or 1) * (_CHART_HEIGHT - 1))
            taken = grid[row][column]
            grid[row][column] = letter if taken in (" ", letter) else "*"
    labels = [f"{high:.3g}", *[""] * (_CHART_HEIGHT - 2), f"{low:.3g}"]
    rows = [f"{label:>9} │{''.join(row)}" for label, row in zip(labels, grid, strict=True)]
    foot = f"{'':>9} └{'─' * _CURVE_WIDTH}\n{'':>11}{first:,.0f} to {last:,.0f} {clock}"
    return "\n".join([name, *rows, foot])
