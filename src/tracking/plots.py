"""Curves of recorded runs as an image."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ..errors import MissingDependencyError, TrackingError
from .queries import RunRecord

DEFAULT_METRICS = ("test_battle_won_mean", "test_return_mean")
# Config keys that do not make a different experiment.
_IGNORED = (
    "seed",
    "label",
    "resume",
    "checkpoint_path",
    "mongo_url",
    "mongo_db",
    "local_results_path",
)


def choose_metric(runs: Sequence[RunRecord], metric: str | None = None) -> str:
    """The metric to draw: the one asked for, else the first usual one that all runs have.

    Raises:
        TrackingError: a run lacks it; lists what there is.
    """
    common = set.intersection(*(set(run.metrics()) for run in runs))
    for name in [metric] if metric else DEFAULT_METRICS:
        if name in common:
            return name
    wanted = repr(metric) if metric else " or ".join(map(repr, DEFAULT_METRICS))
    raise TrackingError(
        f"not every run has the metric {wanted}; all have: {', '.join(sorted(common)) or 'none'}"
    )


def group_by_config(runs: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """Runs that differ in the seed alone, under one label each."""
    groups: dict[str, list[RunRecord]] = {}
    for run in runs:
        rest = {k: v for k, v in run.config.items() if k not in _IGNORED}
        groups.setdefault(json.dumps(rest, sort_keys=True), []).append(run)
    labels: dict[str, list[RunRecord]] = {}
    for members in groups.values():
        label = f"{members[0].name}, {task_name(members[0])}"
        if label in labels:
            label += f" ({members[0].uid})"
        labels[label] = members
    return labels


def task_name(run: RunRecord) -> str:
    """The name people call the run's task by: map, key, game, or the env itself."""
    arguments = run.config.get("env_args") or {}
    for key in ("map_name", "key", "game"):
        if arguments.get(key):
            return str(arguments[key])
    return str(run.config.get("env", ""))


def plot_runs(runs: Sequence[RunRecord], metric: str, out: Path) -> None:
    """Draw one curve per config: the mean over its seeds, and a band from lowest to highest.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise MissingDependencyError(
            "plots need matplotlib; install it: pip install 'phalanx[plot]'"
        ) from None
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colours = matplotlib.color_sequences["tab10"]
    for i, (label, members) in enumerate(group_by_config(runs).items()):
        curves = [run.metrics()[metric] for run in members]
        # Seeds log at slightly different steps; beyond the shortest run there is no mean over all.
        end = min(max(curve.steps) for curve in curves)
        start = max(min(curve.steps) for curve in curves)
        grid = np.unique([s for curve in curves for s in curve.steps if start <= s <= end])
        values = np.stack([np.interp(grid, curve.steps, curve.values) for curve in curves])
        colour = colours[i % len(colours)]
        seeds = f", {len(members)} seeds" if len(members) > 1 else ""
        axes.plot(grid, values.mean(axis=0), color=colour, label=label + seeds)
        if len(members) > 1:
            axes.fill_between(
                grid, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.2, linewidth=0
            )
    axes.set_xlabel("environment steps")
    axes.set_ylabel(metric)
    axes.grid(alpha=0.3)
    axes.legend()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)
