"""Statistics over seeds, as recommended for few runs by Agarwal et al. (2021)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from .record import Metric

RESAMPLES = 2000
CONFIDENCE = 0.95

Array = NDArray[np.float64]


def interquartile_mean(values: Array) -> Array:
    """Mean of the middle half along the first axis.

    As in `scipy.stats.trim_mean`, a quarter of the values rounded down is cut at either end: with up
    to three seeds it is the mean.

    >>> interquartile_mean(np.array([0.0, 1.0, 3.0, 100.0]))
    np.float64(2.0)

    Args:
        values: (seeds, ...).
    """
    cut = len(values) // 4
    ordered = np.sort(values, axis=0)
    return np.asarray(ordered[cut : len(values) - cut].mean(axis=0))[()]


def bootstrap_interval(values: Array, *, resamples: int = RESAMPLES) -> tuple[Array, Array]:
    """Percentile bootstrap interval (95 %) of the interquartile mean over seeds.

    The same values give the same interval: the resampling has a seed of its own.

    Args:
        values: (seeds, points).
        resamples: how often seeds are drawn with replacement.

    Returns:
        Lower and upper end, (points,) each.
    """
    seeds = len(values)
    drawn = np.random.default_rng(0).integers(seeds, size=(seeds, resamples))
    tail = 50 * (1 - CONFIDENCE)
    ends = np.empty((2, values.shape[1]))
    # In pieces: resamples x seeds x points would not fit into memory for long curves.
    for start in range(0, values.shape[1], 256):
        piece = values[:, start : start + 256]
        means = interquartile_mean(
            piece[drawn]
        )  # (seeds, resamples, points) -> (resamples, points)
        ends[:, start : start + 256] = np.percentile(means, [tail, 100 - tail], axis=0)
    return ends[0], ends[1]


def on_common_steps(curves: Sequence[Metric]) -> tuple[Array, Array]:
    """Curves at the steps where any of them has a point and all have begun and not ended.

    Seeds log at slightly different steps, so values in between are interpolated.

    Returns:
        Steps (points,) and values (curves, points).
    """
    start = max(min(curve.steps) for curve in curves)
    end = min(max(curve.steps) for curve in curves)
    if end < start:
        return np.empty(0), np.empty((len(curves), 0))
    grid = np.unique([step for curve in curves for step in curve.steps if start <= step <= end])
    return grid.astype(float), np.stack(
        [np.interp(grid, curve.steps, curve.values) for curve in curves]
    )


# Several tasks: an array of runs per task, (..., seeds of that task); leading axes may hold resamples.


def pooled_iqm(tasks: Sequence[Array]) -> Array:
    """Interquartile mean over all runs of all tasks.

    Args:
        tasks: (..., seeds) per task.

    Returns:
        (...).
    """
    return interquartile_mean(np.moveaxis(np.concatenate(tasks, axis=-1), -1, 0))


def performance_profile(tasks: Sequence[Array], levels: Array) -> Array:
    """Share of all runs of all tasks that score more than each level (Agarwal et al., 2021, eq. 1).

    >>> performance_profile([np.array([0.1, 0.6]), np.array([0.9])], np.array([0.0, 0.5, 0.6]))
    array([1.        , 0.66666667, 0.33333333])

    Args:
        tasks: (..., seeds) per task.
        levels: (L,).

    Returns:
        (..., L).
    """
    runs = np.concatenate(tasks, axis=-1)
    return np.asarray((runs[..., None] > levels).mean(axis=-2))


def probability_of_improvement(better: Sequence[Array], worse: Sequence[Array]) -> Array:
    """How likely a run of the first does better than one of the second, averaged over tasks.

    Ties count half: the statistic of Mann and Whitney over the number of pairs (Agarwal et al., 2021).

    >>> probability_of_improvement([np.array([1.0, 2.0])], [np.array([1.0, 0.0])])
    np.float64(0.875)

    Args:
        better: (..., seeds) per task.
        worse: likewise for the same tasks, with as many seeds or not.

    Returns:
        (...).
    """
    pairs = [a[..., :, None] - b[..., None, :] for a, b in zip(better, worse, strict=True)]
    shares = [((pair > 0) + 0.5 * (pair == 0)).mean(axis=(-2, -1)) for pair in pairs]
    return np.asarray(np.mean(shares, axis=0))[()]


def stratified_interval(
    statistic: Callable[[list[Array]], Array],
    tasks: Sequence[Array],
    *,
    resamples: int = RESAMPLES,
) -> tuple[Array, Array]:
    """Percentile bootstrap interval (95 %) where seeds are drawn anew within each task.

    Args:
        statistic: from (resamples, seeds) per task to (resamples, ...).
        tasks: (seeds,) per task.
        resamples: how often.

    Returns:
        Lower and upper end, (...) each.
    """
    drawing = np.random.default_rng(0)
    drawn = [task[drawing.integers(len(task), size=(resamples, len(task)))] for task in tasks]
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(statistic(drawn), [tail, 100 - tail], axis=0)
    return low, high


def steps_to_reach(steps: Array, values: Array, level: float) -> float:
    """The first step at which a curve is at ``level`` or above; infinite if it never is.

    Args:
        steps: (points,) in order.
        values: (points,).
    """
    reached = np.flatnonzero(values >= level)
    return float(steps[reached[0]]) if len(reached) else float("inf")


def area_under(steps: Array, values: Array) -> float:
    """Mean height of a curve over its steps, by the trapezoidal rule; a single point's is its value."""
    if len(steps) < 2:
        return float(values.mean())
    heights = (values[1:] + values[:-1]) / 2
    return float((heights * np.diff(steps)).sum() / (steps[-1] - steps[0]))
