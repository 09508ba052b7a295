"""Thinning of long metrics."""

import pytest

from phalanx.tracking.record import MAX_POINTS, Metric, stride_for


@pytest.mark.parametrize(
    ("points", "stride"),
    [
        (0, 1),
        (MAX_POINTS, 1),
        (MAX_POINTS + 1, 2),
        (2 * MAX_POINTS, 2),
        (2 * MAX_POINTS + 1, 4),
        (10**7, 1024),
    ],
)
def test_a_database_gets_a_bounded_number_of_points(points, stride):
    assert stride_for(points) == stride
    assert len(range(0, points, stride)) <= MAX_POINTS


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
@pytest.mark.parametrize("cut", [0, 1, 3, 4, 7, 19, 20])
def test_thinned_in_parts_is_thinned_as_a_whole(stride, cut):
    numbers = list(range(20))
    whole = Metric(numbers, numbers, numbers).thinned(stride)
    parts = [Metric(part, part, part) for part in (numbers[:cut], numbers[cut:])]
    assert whole.steps == numbers[::stride]
    ends = parts[0].thinned(stride), parts[1].thinned(stride, first=cut)
    assert ends[0].values + ends[1].values == whole.values
