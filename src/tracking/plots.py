"""Curves of recorded runs as an image."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import MissingDependencyError, TrackingError, did_you_mean
from .grouping import group_by_config
from .queries import RunRecord, clock_of
from .record import Metric
from .stats import bootstrap_interval, interquartile_mean, on_common_steps

log = logging.getLogger(__name__)

_BAND_POINTS = 300  # an image shows no more, and each costs thousands of means
DEFAULT_METRICS = ("test_battle_won_mean", "test_return_mean")


def choose_metric(
    runs: Sequence[RunRecord], metric: str | None = None
) -> tuple[str, list[RunRecord]]:
    """The metric to draw, and the runs that have numbers of it.

    It is the one asked for, else the first usual one that all runs have that have any, else the one that
    most have.

    Raises:
        TrackingError: no run has it; lists what there is.
    """
    # Runs that other programs recorded have no summary of their metrics.
    known = {run.uid: set(run.latest or run.metrics()) for run in runs}
    with_numbers = [run for run in runs if known[run.uid]]
    counts = {
        name: sum(name in known[run.uid] for run in runs)
        for name in ([metric] if metric else DEFAULT_METRICS)
    }
    chosen = max(counts, key=lambda name: counts[name])  # the first of equals
    if counts[chosen] == 0:
        wanted = repr(metric) if metric else " or ".join(map(repr, DEFAULT_METRICS))
        there = set[str]().union(*known.values())
        raise TrackingError(
            f"no run has the metric {wanted}; there are: {', '.join(sorted(there)) or 'none'}."
            + (did_you_mean(metric, there) if metric else "")
        )
    having = [run for run in with_numbers if chosen in known[run.uid] and _finite(run, chosen)]
    if not having:
        raise TrackingError(f"no run has a finite value of {chosen!r}")
    return chosen, having


def _finite(run: RunRecord, metric: str) -> bool:
    return any(map(math.isfinite, run.metrics([metric])[metric].values))


def run_label(run: RunRecord) -> str:
    """What tells a run from others in a legend: its number, else its uid."""
    return run.uid if run.run_id is None else f"run {run.run_id}"


def label_groups(runs: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """Seeds of one experiment under one label each, which says in what it differs from the others."""
    return {f"{group.name}, {group.task}": list(group.runs) for group in group_by_config(runs)}


def plot_runs(groups: Mapping[str, Sequence[RunRecord]], metric: str, out: Path) -> None:
    """Draw one curve per group into an image, see :func:`draw_curves`.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        TrackingError: a run has no points of the metric, or the image cannot be written.
    """
    figure, axes = new_figure()
    draw_curves(axes, groups, metric)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, dpi=150)
    except OSError as error:
        raise TrackingError(
            f"{out} cannot be written ({error}); name another file with --out"
        ) from error


def new_figure(width: float = 7.0, height: float = 4.5) -> tuple[Any, Any]:
    """An empty figure (inches) and its axes.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        import matplotlib.figure
    except ImportError:
        raise MissingDependencyError(
            "plots need matplotlib; install it: pip install -e '.[plot]'"
        ) from None
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = matplotlib.figure.Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def colour_of(number: int) -> Any:
    """The colour of the curve of that number."""
    import matplotlib

    colours = matplotlib.color_sequences["tab10"]
    return colours[number % len(colours)]


def draw_curves(
    axes: Any,
    groups: Mapping[str, Sequence[RunRecord]],
    metric: str,
    *,
    colours: Sequence[str] | None = None,
) -> None:
    """One curve per group: the interquartile mean over its runs, and its bootstrap interval.

    Args:
        axes: to draw on.
        groups: runs by label.
        metric: to draw.
        colours: labels in the order of their colours, where other figures have some of them too.

    Raises:
        TrackingError: a run has no points of the metric.
    """
    order = list(groups if colours is None else colours)
    for label, members in groups.items():
        curves = [curve_of(run, metric) for run in members]
        steps, values = on_common_steps(curves)
        if not len(steps):
            log.warning("%s: left out, its runs have no steps of %s in common", label, metric)
            continue
        ends = [max(curve.steps) for curve in curves]
        if max(ends) > min(ends):
            log.warning(
                "%s: drawn up to step %s, where the shortest of its runs ends",
                label,
                f"{min(ends):,}",
            )
        colour = colour_of(order.index(label))
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
    axes.set_xlabel(clock_of([run for members in groups.values() for run in members]))
    axes.set_ylabel(metric)
    axes.grid(alpha=0.3)
    axes.legend()


def curve_of(run: RunRecord, metric: str) -> Metric:
    """The points of one metric that can be drawn, those that are finite.

    Raises:
        TrackingError: the run has none.
    """
    found = run.metrics([metric]).get(metric, Metric())
    kept = [i for i, value in enumerate(found.values) if math.isfinite(value)]
    if not kept:
        raise TrackingError(f"{run_label(run)} has no finite points of {metric!r}")
    return Metric(
        [found.steps[i] for i in kept],
        [found.values[i] for i in kept],
        [found.timestamps[i] for i in kept],
    )
