"""Conditions on runs."""

import datetime as dt

import pytest

from phalanx.errors import TrackingError
from phalanx.tracking.filters import Filter, parse_filter, select, sort, value
from phalanx.tracking.queries import RunRecord


def run(number, config=(), summary=(), **fields):
    start = dt.datetime(2026, 1, 1) + dt.timedelta(hours=number)
    about = {
        "uid": f"uid-{number}",
        "run_id": number,
        "name": "qmix",
        "status": "COMPLETED",
        "config": {"seed": number, "env": "sc2", "env_args": {"map_name": "3m"}, **dict(config)},
        "start_time": start,
        "stop_time": start + dt.timedelta(seconds=number),
        "result": None,
        "info": {"engine": "embedded", "summary": dict(summary)},
        "directory": None,
        "tags": (),
        "_load_metrics": dict,
    }
    return RunRecord(**{**about, **fields})


RUNS = [
    run(1, {"env_args": {"map_name": "MMM2"}}, {"last": {"a.b": 0.5}}, result=0.25),
    run(2, {"mixer": None, "double_q": True}, status="FAILED", tags=("best", "old")),
    run(10, {"learner_args": {"lr": 0.001}}, {"last": {"a.b": float("nan")}}, result=1),
]


@pytest.mark.parametrize(
    ("word", "numbers"),
    [
        ("config.env_args.map_name=MMM2", [1]),
        ("map_name=MMM2", [1]),
        ("map_name=mmm2,3m", [1, 2, 10]),
        ("map_name!=MMM2", [2, 10]),
        ("seed>=2", [2, 10]),  # as numbers: "10" comes before "2" as text
        ("seed<2.5", [1, 2]),
        ("lr=1e-3", [10]),
        ("lr!=1e-3", [1, 2]),
        ("mixer=none", [2]),
        ("double_q=true", [2]),
        ("status~^COMP", [1, 10]),
        ("info.engine=embedded", [1, 2, 10]),
        ("last.a.b>0", [1]),
        ("result>0", [1, 10]),
        ("duration<=2", [1, 2]),
        ("started>2026-01-01 02", [2, 10]),
        ("tags=best", [2]),
        ("id=10", [10]),
    ],
)
def test_a_condition_chooses_runs(word, numbers):
    assert [found.run_id for found in select(RUNS, [parse_filter(word)])] == numbers


def test_conditions_add_up():
    conditions = [Filter("seed", ">", "1"), Filter("status", "=", "COMPLETED")]
    assert [found.run_id for found in select(RUNS, conditions)] == [10]


def test_runs_without_the_key_come_last_in_any_order():
    assert [r.run_id for r in sort(RUNS, "result")] == [1, 10, 2]
    assert [r.run_id for r in sort(RUNS, "result", reverse=True)] == [10, 1, 2]
    assert next(r.run_id for r in sort(RUNS, "last.a.b")) == 1


def test_a_word_without_an_operator_is_no_condition():
    assert parse_filter("20260101-abc") is None
    assert parse_filter("a>=b=c") == Filter("a", ">=", "b=c")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("map_nme=3m", "no run has 'map_nme'. Did you mean 'map_name'"),
        ("status~(", "not a regular expression"),
    ],
)
def test_wrong_conditions_are_explained(word, message):
    with pytest.raises(TrackingError) as error:
        select(RUNS, [parse_filter(word)])
    assert message in str(error.value)


def test_a_short_key_that_fits_two_is_refused():
    twice = [run(1, {"agent_args": {"dim": 1}, "mixer_args": {"dim": 2}})]
    with pytest.raises(TrackingError, match=r"config.agent_args.dim, config.mixer_args.dim"):
        select(twice, [parse_filter("dim=1")])
    assert value(twice[0], "mixer_args.dim", twice) == 2
