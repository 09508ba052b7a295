"""The numbers of a report, computed by hand, and a page that needs nothing beside it."""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
from collections.abc import Sequence

import numpy as np
import pytest

from phalanx.sweeps.report import SUMMARY_COLUMNS, page_of, summary
from phalanx.sweeps.scores import Scores, scores_of
from phalanx.tracking.grouping import differing, group_by_config
from phalanx.tracking.queries import RunRecord
from phalanx.tracking.record import Metric

WON, RETURN = "test_battle_won_mean", "test_return_mean"


def run(name: str, task: str, seed: int, values: Sequence[float], metric: str = WON) -> RunRecord:
    """A run with a test every 10 steps."""
    points = Metric(
        [10.0 * i for i in range(len(values))], list(values), [dt.datetime.min] * len(values)
    )
    return RunRecord(
        uid=f"{name}-{task}-{seed}",
        run_id=None,
        name=name,
        status="COMPLETED",
        config={
            "name": name,
            "seed": seed,
            "env": "sc2",
            "mixer": name,
            "env_args": {"map_name": task},
        },
        start_time=dt.datetime.min,
        stop_time=None,
        result=None,
        info={"summary": {"steps": points.steps[-1], "last": {metric: values[-1]}}},
        directory=None,
        tags=(),
        _load_metrics=lambda names: {metric: points},
    )


RUNS = [
    # six tests: the first is not among the last five
    run("qmix", "3m", 0, [0.0, 0.5, 0.5, 0.5, 0.5, 0.5]),
    run("qmix", "3m", 1, [0.0, 0.9, 0.9, 0.9, 0.9, 0.9]),
    run("qmix", "8m", 0, [0.0, 0.0, 0.0, 0.0, 0.0, 1.0]),
    run("qmix", "8m", 1, [0.0, 0.0, 0.0, 0.0, 0.0, 0.5]),
    run("vdn", "3m", 0, [0.0, 0.7, 0.7, 0.7, 0.7, 0.7]),
    run("vdn", "3m", 1, [0.0, 0.3, 0.3, 0.3, 0.3, 0.3]),
    run("vdn", "8m", 0, [0.0, 0.2, 0.2, 0.2, 0.2, 0.2]),
    run("vdn", "8m", 1, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
]


@pytest.fixture
def scores() -> Scores:
    return scores_of(group_by_config(RUNS), WON, bounded=True)


def test_a_score_is_the_mean_of_the_last_five_tests(scores: Scores) -> None:
    assert scores.cells["qmix", "3m"].final == pytest.approx([0.5, 0.9])
    assert scores.cells["qmix", "8m"].scores == pytest.approx([0.2, 0.1])
    # Four runs over both tasks, the middle two of 0.1, 0.2, 0.5, 0.9 and of 0, 0.2, 0.3, 0.7.
    assert scores.overall("qmix").value == pytest.approx(0.35)
    assert scores.overall("vdn").value == pytest.approx(0.25)
    # Areas of qmix: 0.45 and 0.81 on 3m, 0.1 and 0.05 on 8m.
    assert scores.overall_area("qmix").value == pytest.approx((0.1 + 0.45) / 2)


def test_improvement_is_over_pairs_within_tasks(scores: Scores) -> None:
    # 3m: 0.5 and 0.9 beat 0.7 and 0.3 in 3 of 4 pairs; 8m: 0.2 and 0.1 tie with 0.2 once and win 2.
    found = scores.improvement("qmix", "vdn")
    assert found is not None
    assert found.value == pytest.approx((0.75 + 2.5 / 4) / 2)
    assert found.low <= found.value <= found.high
    other = scores_of(group_by_config([*RUNS[:2], *RUNS[6:]]), WON, bounded=True)
    assert other.improvement("qmix", "vdn") is None, "they share no task"


def test_steps_to_a_share_of_the_best(scores: Scores) -> None:
    cell = scores.cells["qmix", "3m"]
    assert cell.steps_to(0.5).tolist() == [10, 10]
    assert cell.steps_to(0.8).tolist() == [np.inf, 10]


def test_returns_are_told_as_shares_between_the_least_and_the_greatest_of_their_task() -> None:
    runs = [run("qmix", "3m", 0, [-10.0, 30.0], RETURN), run("vdn", "3m", 0, [0.0, 10.0], RETURN)]
    scores = scores_of(group_by_config(runs), RETURN, bounded=False)
    assert scores.cells["qmix", "3m"].final == pytest.approx([10.0])
    assert scores.cells["qmix", "3m"].scores == pytest.approx([0.5])
    assert scores.cells["vdn", "3m"].scores == pytest.approx([15 / 40])
    flat = [run("qmix", "3m", 0, [2.0, 2.0], RETURN)]
    assert scores_of(group_by_config(flat), RETURN, bounded=False).cells["qmix", "3m"].scores == [1]


def test_a_profile_falls_from_all_runs_to_none(scores: Scores) -> None:
    share, low, high = scores.profile("vdn")
    assert [share[0], share[25], share[70], share[100]] == [0.75, 0.5, 0.0, 0.0]
    assert (low <= share).all()
    assert (share <= high).all()


def test_what_differs_is_what_has_an_effect() -> None:
    groups = group_by_config(RUNS)
    assert differing(groups) == {
        "env_args.map_name": ["3m", "8m", "3m", "8m"],
        "mixer": ["qmix", "qmix", "vdn", "vdn"],
    }


def test_the_summary_has_a_row_per_algorithm_and_task(scores: Scores) -> None:
    text = io.StringIO()
    summary(text, scores)
    rows = list(csv.DictReader(io.StringIO(text.getvalue())))
    assert tuple(rows[0]) == SUMMARY_COLUMNS
    first = rows[0]
    assert (first["task"], first["algorithm"], first["seeds"]) == ("3m", "qmix", "2")
    assert float(first["final_iqm"]) == pytest.approx(0.7)
    assert (first["steps_to_0.8"], first["seeds_that_reached_0.8"]) == ("", "1")
    assert len(rows) == 4


def test_the_page_needs_nothing_beside_it_and_is_the_same_each_time(scores: Scores) -> None:
    pytest.importorskip("matplotlib")
    groups = group_by_config(RUNS)
    page = page_of("a <sweep>", ["8 rows"], groups, scores)
    assert "<h1>a &lt;sweep&gt;</h1>" in page
    assert not re.findall(r'(?:src|href)="(?!#)', page.replace("xlink:href", ""))
    assert "<script" not in page
    assert page.count("<svg") == 3
    assert "qmix" in page
    assert "0.350 [" in page
    assert page.count('<tr class="best">') == 1
    assert page == page_of("a <sweep>", ["8 rows"], groups, scores)
