"""Statistics over seeds, as recommended for few runs by Agarwal et al. (2021)."""

from __future__ import annotations

from collections.abc import Sequence

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
