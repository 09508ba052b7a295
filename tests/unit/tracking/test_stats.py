"""Statistics over seeds against hand-computed values."""

import numpy as np
import pytest

from phalanx.tracking.record import Metric
from phalanx.tracking.stats import bootstrap_interval, interquartile_mean, on_common_steps


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
