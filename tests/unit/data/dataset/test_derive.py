"""Tiers, unions and summaries."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from phalanx.data.dataset.checks import check
from phalanx.data.dataset.derive import join, parse_tiers, split
from phalanx.data.dataset.description import histogram
from phalanx.data.dataset.summary import distinct_state_actions, lines, summary
from phalanx.errors import DatasetError

from .made import SPEC, episode, write


def test_tiers_hold_the_returns_they_say(tmp_path: Path) -> None:
    data = write(tmp_path / "d", [episode(2, s, reward=s) for s in range(20)])
    poor, good = parse_tiers("poor:0-10, good:15-")
    few = split(data, poor, tmp_path / "poor", episodes=4, seed=1)
    assert few is not None
    assert len(few) == 4
    assert ((few.returns >= 0) & (few.returns < 10)).all()
    again = split(data, poor, tmp_path / "again", episodes=4, seed=1)
    other = split(data, poor, tmp_path / "other", episodes=4, seed=2)
    assert again is not None
    assert other is not None
    assert again.returns.tolist() == few.returns.tolist() != other.returns.tolist()
    best = split(data, good, tmp_path / "good", episodes=500, seed=1)
    assert best is not None
    assert np.round(best.returns).tolist() == [15, 16, 17, 18, 19]
    assert best.description.tier is not None
    assert best.description.tier["there"] == 5
    assert best.description.parents[0]["checksum"] == data.description.checksum
    assert best.outcomes["battle_won"].tolist() == [1, 0, 1, 0, 1]
    assert check(tmp_path / "good").faults == []
    none = split(data, parse_tiers("x:30-")[0], tmp_path / "none", episodes=1, seed=0)
    assert none is None


@pytest.mark.parametrize("text", ["poor", "a:5-3", "a:1-2,a:3-4", "a:x-y", ""])
def test_bad_tiers_are_said(text: str) -> None:
    with pytest.raises(DatasetError, match="--tiers"):
        parse_tiers(text)


def test_a_union_keeps_everything_and_its_parents(tmp_path: Path) -> None:
    one = write(tmp_path / "one", seeds=(1,), policies=({"name": "qmix"},))
    two = write(tmp_path / "two", [episode(3, 7)], seeds=(2,), policies=({"name": "mappo"},))
    both = join([one, two], tmp_path / "both")
    assert both.lengths.tolist() == [*one.lengths.tolist(), 3]
    assert both.description.seeds == [1, 2]
    assert [p["name"] for p in both.description.policies] == ["qmix", "mappo"]
    assert [p["name"] for p in both.description.parents] == ["one", "two"]


def test_other_environments_do_not_join(tmp_path: Path) -> None:
    one = write(tmp_path / "one")
    here = {"name": "game", "options": {"map_name": "y"}, "facts": {"engine": "starcraft2"}}
    two = write(tmp_path / "two", environment=here, spec=replace(SPEC, episode_limit=7))
    with pytest.raises(DatasetError, match=r"episode_limit 6 / 7, facts .*map_name 'x' / 'y'"):
        join([one, two], tmp_path / "both")


def test_the_summary_counts(tmp_path: Path) -> None:
    twice = [episode(2, 0, reward=3), episode(2, 0, reward=3), episode(4, 1, reward=5)]
    found = summary(write(tmp_path / "d", twice))
    assert (found["episodes"], found["steps"]) == (3, 8)
    assert found["returns"]["mean"] == pytest.approx(11 / 3)
    assert found["outcomes"]["battle_won"] == pytest.approx(1 / 3)
    assert found["distinct_state_actions"] == pytest.approx(6 / 8)
    told = "\n".join(lines(found))
    assert "win rate     0.333" in told
    assert "engine       embedded" in told


def test_returns_that_are_alike_are_one_bar() -> None:
    found = histogram(np.array([20.0, 20.0 - 1e-6, 20.0 + 1e-6]))
    assert sorted(found["counts"])[-2:] == [0, 3]
    assert found["edges"][-1] - found["edges"][0] == pytest.approx(1, abs=1e-4)


def test_repeated_pairs_count_once(tmp_path: Path) -> None:
    data = write(tmp_path / "d", [episode(3, 5)] * 4)
    assert distinct_state_actions(data) == 0.25
