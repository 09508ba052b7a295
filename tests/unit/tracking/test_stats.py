"""Statistics over seeds against hand-computed values."""

import numpy as np
import pytest

from phalanx.tracking.record import Metric
from phalanx.tracking.stats import (
    area_under,
    bootstrap_interval,
    interquartile_mean,
    on_common_steps,
    performance_profile,
    pooled_iqm,
    probability_of_improvement,
    steps_to_reach,
    stratified_interval,
)


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        ([3.0], 3.0),
        ([0.0, 1.0, 5.0], 2.0),
        ([100.0, 0.0, 1.0, 3.0], 2.0),
        ([9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -9.0], 3.5),
    ],
)
def test_the_interquartile_mean_is_the_mean_of_the_middle_half(values, mean):
    assert interquartile_mean(np.array(values)) == mean
    both = interquartile_mean(np.array([values, values]).T)
    assert both.tolist() == [mean, mean]


def test_the_interval_of_two_seeds_is_known():
    # Of two seeds a resample holds the lower one twice in a quarter of all cases, and the upper one likewise.
    low, high = bootstrap_interval(np.array([[0.0, 5.0], [1.0, 5.0]]))
    assert low.tolist() == [0.0, 5.0]
    assert high.tolist() == [1.0, 5.0]


def test_the_interval_covers_the_true_mean_as_often_as_it_says():
    draws = np.random.default_rng(1).normal(size=(20, 600))
    low, high = bootstrap_interval(draws, resamples=500)
    assert 0.88 < np.mean((low <= 0) & (high >= 0)) < 0.98


def test_curves_are_compared_where_all_of_them_are():
    time = []
    steps, values = on_common_steps(
        [Metric([0, 10, 20], [0.0, 1.0, 2.0], time), Metric([5, 15, 40], [1.0, 3.0, 8.0], time)]
    )
    assert steps.tolist() == [5, 10, 15, 20]
    assert values.tolist() == [[0.5, 1.0, 1.5, 2.0], [1.0, 2.0, 3.0, 4.0]]
    apart = on_common_steps([Metric([0], [1.0], time), Metric([9], [1.0], time)])
    assert apart[0].size == 0


# Five runs of one algorithm and six of another on three tasks, (runs, tasks).
X = np.array([[((7 * i + 3 * j * j + 2) % 11) / 10 for j in range(3)] for i in range(5)])
Y = np.array([[((5 * i + 4 * j + 1) % 9) / 10 for j in range(3)] for i in range(6)])
X_TASKS, Y_TASKS = list(X.T), list(Y.T)


def test_several_tasks_are_summed_up_as_rliable_does():
    """Figures of rliable 1.2.0.

    ``metrics.aggregate_iqm(X)``, ``metrics.probability_of_improvement(X, Y)``,
    ``library.create_performance_profile({"x": X}, [0, 0.25, 0.5, 0.8])``.
    """
    assert pooled_iqm(X_TASKS) == pytest.approx(0.47777777777777786, abs=1e-15)
    assert pooled_iqm(Y_TASKS) == pytest.approx(0.4, abs=1e-15)
    assert probability_of_improvement(X_TASKS, Y_TASKS) == pytest.approx(0.5722222222222223)
    assert probability_of_improvement(Y_TASKS, X_TASKS) == pytest.approx(0.42777777777777776)
    levels = np.array([0.0, 0.25, 0.5, 0.8])
    assert performance_profile(X_TASKS, levels) == pytest.approx([14 / 15, 10 / 15, 6 / 15, 3 / 15])
    assert performance_profile(Y_TASKS, levels) == pytest.approx([17 / 18, 11 / 18, 7 / 18, 0])


def test_intervals_over_tasks_are_those_of_rliable():
    """Of 50,000 resamples there; 2,000 here leave the ends uncertain by some hundredths.

    ``library.get_interval_estimates({"x": X}, lambda s: [metrics.aggregate_iqm(s)], reps=50000)`` and
    ``({"x,y": (X, Y)}, metrics.probability_of_improvement, reps=20000)``.
    """
    assert stratified_interval(pooled_iqm, X_TASKS) == pytest.approx((0.2667, 0.7), abs=0.025)
    assert stratified_interval(pooled_iqm, Y_TASKS) == pytest.approx((0.23, 0.57), abs=0.025)
    both = stratified_interval(
        lambda tasks: probability_of_improvement(tasks[:3], tasks[3:]), [*X_TASKS, *Y_TASKS]
    )
    assert both == pytest.approx((0.3722, 0.7722), abs=0.025)


def test_a_stratified_interval_draws_within_tasks_only():
    # Each task has one value only: there is nothing to draw, however far apart tasks are.
    low, high = stratified_interval(pooled_iqm, [np.full(3, 0.0), np.full(3, 8.0)])
    assert (low, high) == (4.0, 4.0)


def test_how_soon_a_curve_rises():
    steps, values = np.array([0.0, 10.0, 30.0]), np.array([0.0, 0.5, 0.4])
    assert steps_to_reach(steps, values, 0.5) == 10
    assert steps_to_reach(steps, values, 0.6) == np.inf
    assert area_under(steps, values) == pytest.approx((10 * 0.25 + 20 * 0.45) / 30)
    assert area_under(steps[:1], values[1:2]) == 0.5
