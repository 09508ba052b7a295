"""Curves of recorded runs as an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..errors import MissingDependencyError, TrackingError, did_you_mean
from .identity import config_digest
from .queries import RunRecord
from .record import Metric
from .stats import bootstrap_interval, interquartile_mean, on_common_steps

_BAND_POINTS = 300  # an image shows no more, and each costs thousands of means
DEFAULT_METRICS = ("test_battle_won_mean", "test_return_mean")


def choose_metric(runs: Sequence[RunRecord], metric: str | None = None) -> str:
    """The metric to draw: the one asked for, else the first usual one that all runs have.

    Raises:
        TrackingError: a run lacks it; lists what there is.
    """
    # Runs that other programs recorded have no summary of their metrics.
    common = set.intersection(*(set(run.latest or run.metrics()) for run in runs))
    for name in [metric] if metric else DEFAULT_METRICS:
        if name in common:
            return name
    wanted = repr(metric) if metric else " or ".join(map(repr, DEFAULT_METRICS))
    raise TrackingError(
        f"not every run has the metric {wanted}; all have: {', '.join(sorted(common)) or 'none'}."
        + (did_you_mean(metric, common) if metric else "")
    )


def group_by_config(runs: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """Runs that differ in the seed alone, under one label each."""
    groups: dict[str, list[RunRecord]] = {}
    for run in runs:
        groups.setdefault(config_digest(run.config, seed=False), []).append(run)
    labels: dict[str, list[RunRecord]] = {}
    for members in groups.values():
        label = f"{members[0].name}, {members[0].task}"
        if label in labels:
            label += f" ({run_label(members[0])})"
        labels[label] = members
    return labels


def run_label(run: RunRecord) -> str:
    """What tells a run from others in a legend: its number, else its uid."""
    return run.uid if run.run_id is None else f"run {run.run_id}"


def plot_runs(groups: Mapping[str, Sequence[RunRecord]], metric: str, out: Path) -> None:
    """Draw one curve per group: the interquartile mean over its runs, and its bootstrap interval.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        TrackingError: a run has no points of the metric, or the runs of a group share no steps.
    """
    try:
        import matplotlib
    except ImportError:
        raise MissingDependencyError(
            "plots need matplotlib; install it: pip install 'phalanx[plot]'"
        ) from None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colours = matplotlib.color_sequences["tab10"]
    for i, (label, members) in enumerate(groups.items()):
        steps, values = on_common_steps([curve_of(run, metric) for run in members])
        if not len(steps):
            raise TrackingError(f"the runs of {label!r} have no steps of {metric} in common")
        colour = colours[i % len(colours)]
        several = len(members) > 1
        if several:
            shown = np.unique(np.linspace(0, len(steps) - 1, _BAND_POINTS, dtype=int))
            low, high = bootstrap_interval(values[:, shown])
            axes.fill_between(steps[shown], low, high, color=colour, alpha=0.2, linewidth=0)
            label += f", IQM of {len(members)} seeds, 95 %"
        axes.plot(
            steps,
            interquartile_mean(values),
            color=colour,
            label=label,
            marker="." if len(steps) == 1 else None,
        )
    axes.set_xlabel("environment steps")
    axes.set_ylabel(metric)
    axes.grid(alpha=0.3)
    axes.legend()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)


def curve_of(run: RunRecord, metric: str) -> Metric:
    """The points of one metric.

    Raises:
        TrackingError: the run has none.
    """
    found = run.metrics([metric]).get(metric)
    if found is None or not found.steps:
        raise TrackingError(f"{run_label(run)} has no points of {metric!r}")
    return found
