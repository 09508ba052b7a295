"""Optuna is asked for settings, told medians over seeds, and its best is tested on other seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from phalanx.cli import run
from phalanx.errors import ConfigError
from phalanx.sweeps.claims import DONE, PRUNED
from phalanx.sweeps.status import states
from phalanx.sweeps.table import Table, open_table
from phalanx.sweeps.tuning import advance, is_test, trials, tune_of
from phalanx.sweeps.worker import next_free, run_row
from phalanx.tracking.claim import claim_planned
from phalanx.tracking.experiment import run_experiment

from . import small

pytest.importorskip("optuna")

TUNE = """\
seeds: 3
tune:
  space: {lr: [0.1, 0.2, 0.3, 0.4], gamma: {low: 0.5, high: 0.9}}
  trials: 6
  startup_trials: 2
  warmup_tests: 1
  test_seeds: 2
"""
TESTS = 6


def _height(config: Mapping[str, Any]) -> float:
    """What a run comes to: its learning rate, more or less by its seed."""
    return float(config["learner_args"]["lr"]) + (-0.01, 0.0, 0.05, 0.0, 0.0)[config["seed"]]


def _pretend(
    folder: Path,
    config: Mapping[str, Any],
    words: list[str],
    watch: Callable[[int, Mapping[str, float]], None] | None,
) -> None:
    """A run whose tests lie on a line up to its height."""

    def body(handle: Any) -> None:
        for i in range(TESTS):
            value = _height(config) * (i + 1) / TESTS
            handle.log_scalar("test_return_mean", value, i * config["test_interval"])
            handle.flush()
            if watch is not None:
                watch(i * config["test_interval"], {"return_mean": value})

    claim = claim_planned(folder)
    run_experiment(
        body,
        name="qmix",
        config=config,
        results_dir=folder.parent.parent,
        mongo_url="none",
        claim=claim,
    )


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """A tuned sweep, made and worked off."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("phalanx.session.train_planned", _pretend)
        return _worked_off(tmp_path_factory.mktemp("tuned"))


def _worked_off(folder: Path) -> Table:
    path = small.write(folder, TUNE)
    assert run(["sweep", str(path), "--results", str(folder / "results")]) == 0
    directory = folder / "results" / "sweeps" / "small"
    more = True
    while more:
        row, _ = next_free(open_table(directory))
        if row is None:
            table, more = advance(open_table(directory))
            row, _ = next_free(table)
            more |= row is not None
        if row is not None:
            assert run_row(open_table(directory), row.number) == 0
    return open_table(directory)


def test_the_best_median_is_tested_on_seeds_it_was_not_tuned_on(tuned: Table) -> None:
    found = trials(tuned)
    assert len(found) == 6
    complete = [trial for trial in found if trial["state"] == "complete"]
    for trial in complete:
        # Of seeds 0, 1, 2 the median is that of seed 1; the mean of the last five of six tests.
        assert trial["score"] == pytest.approx(trial["lr"] * (2 + 3 + 4 + 5 + 6) / 5 / 6)
    assert complete[0]["score"] == max(trial["score"] for trial in complete)
    tests = [state for state in states(tuned) if is_test(tuned, state.row)]
    assert [state.row.seed for state in tests] == [3, 4]
    for state in tests:
        assert state.phase == DONE
        assert state.row.params == {key: complete[0][key] for key in ("lr", "gamma")}
    assert len({state.row.group for state in tests}) == 1


def test_a_trial_without_prospect_is_pruned_with_all_its_seeds(tuned: Table) -> None:
    pruned = [trial for trial in trials(tuned) if trial["state"] == PRUNED]
    assert pruned, "seed 0 of this test is chosen so that some is"
    for trial in pruned:
        rows = [
            state
            for state in states(tuned)
            if state.row.params == {key: trial[key] for key in ("lr", "gamma")}
        ]
        assert [state.phase for state in rows] == [PRUNED] * 3
        begun = [tuned.run_folder(state.row).exists() for state in rows]
        assert begun == [True, False, False], "its first seed decided for the others"


def test_the_report_is_about_the_tests_and_lists_the_trials(tuned: Table) -> None:
    pytest.importorskip("matplotlib")
    assert run(["sweep", "report", str(tuned.directory)]) == 0
    page = (tuned.directory / "report" / "report.html").read_text()
    assert "test_return_mean, 2 runs" in page
    assert page.count("<td>complete</td>") + page.count("<td>pruned</td>") == 6


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tune: {trials: 3}", "key 'tune.space' is missing"),
        ("tune: {trials: 3, space: {lr: [0.1]}, trails: 3}", "Did you mean 'trials'?"),
        (
            "tune: {trials: 3, space: {lr: 0.1}}",
            "expected a list of choices, or {low: .., high: ..}",
        ),
        (
            "tune: {trials: 3, space: {lr: {low: 2, high: 1}}}",
            "tune.space.lr={'low': 2, 'high': 1}: expected",
        ),
        ("tune: {trials: 3, space: {lr: [0.1]}, test_seeds: [0, 7]}", "the tuning seeds [0]"),
        ("grid: {gamma: [0.1, 0.2]}\ntune: {trials: 3, space: {lr: [0.1]}}", "no `grid` or `list`"),
        ("tune: {trials: 3, space: {lr: {low: -1.0, high: 1.0}}}", "learner_args.lr=-1.0"),
        ("tune: {trials: 3, space: {lrr: [0.1]}}", "unknown key 'lrr'"),
    ],
)
def test_what_cannot_be_tuned_is_said_before_anything_is_made(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = small.write(tmp_path, text)
    assert run(["sweep", str(path), "--results", str(tmp_path / "results")]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_ends_of_a_space_are_numbers_of_its_kind(tmp_path: Path) -> None:
    text = "tune: {trials: 3, space: {batch_size: {low: 2, high: 8, step: 2}}}"
    assert tune_of(small.plan(tmp_path, text)).trials == 3
    with pytest.raises(ConfigError, match="log: true"):
        tune_of(small.plan(tmp_path, "tune: {trials: 3, space: {lr: {low: 1, hihg: 2}}}"))
