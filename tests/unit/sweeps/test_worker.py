"""Rows are run to their end whatever happens to those who run them, with the numbers of runs alone."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phalanx.cli import run
from phalanx.sweeps.claims import DONE, FAILED, STOPPED, Claims
from phalanx.sweeps.rows import Row
from phalanx.sweeps.status import RUNNING, WAITING, RowState, in_a_line, seconds_left, states
from phalanx.sweeps.table import Table, open_table
from phalanx.sweeps.worker import MOST_DEATHS, Worker, run_row, warm_up
from phalanx.tracking.record import SpooledRun, read_metrics

from ...recorder import trainer
from . import small

FORK: Any = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True, scope="module")
def _warm() -> None:
    warm_up()  # or each forked worker would


def _work(table: Table) -> Any:
    process = FORK.Process(target=lambda: os._exit(Worker(table.directory).run()))
    process.start()
    return process


def _wait(holds: Callable[[], Any]) -> Any:
    while not (found := holds()):
        time.sleep(0.005)
    return found


def _owner(table: Table, number: int) -> int:
    """Process id of who runs a row, once it has a checkpoint."""
    claims = Claims(table.directory, table.stale_after)
    _wait((table.run_folder(table.rows[number]) / "checkpoints" / "latest").exists)
    return int((claims.standing(number).owner or {})["pid"])


def test_kills_and_stops_cost_a_sweep_no_point(tmp_path: Path) -> None:
    table = small.table(tmp_path, "seeds: 4", t_max=400)
    first = _work(table)
    os.kill(_owner(table, 0), signal.SIGKILL)  # the process of a row: its worker goes on with it
    _owner(table, 1)
    os.kill(first.pid, signal.SIGKILL)  # a worker: its row is stopped with a checkpoint
    first.join()
    second = _work(table)
    _owner(table, 2)
    os.kill(second.pid, signal.SIGUSR1)  # a scheduler wants the machine back
    second.join()
    assert second.exitcode == 75
    ended = Claims(table.directory, table.stale_after).standing(2)
    assert (ended.end, ended.free) == (STOPPED, True)
    assert 0 < (ended.said or {})["step"] < 400
    third = _work(table)
    third.join()
    assert third.exitcode == 0
    assert len(list(table.results.glob("runs/*/run.json"))) == 4
    for state in states(table):
        recorded = SpooledRun.read(table.run_folder(state.row))
        assert recorded is not None
        assert (state.phase, recorded.run["status"]) == (DONE, "COMPLETED")
        assert recorded.config["sweep"] == "small"
        config, env, _, *words = state.row.command
        alone, rows = trainer(
            tmp_path / "alone" / str(state.row.number),
            config.partition("=")[2],
            env.partition("=")[2],
            *words,
        )
        alone.run()
        found = read_metrics(recorded.directory)
        assert {name for name, _, _ in rows.rows} == set(found)
        for name, metric in found.items():
            assert list(zip(metric.steps, metric.values, strict=True)) == rows.curve(name)
    pytest.importorskip("matplotlib")
    assert run(["sweep", "report", str(table.directory)]) == 0
    report = table.directory / "report"
    assert "<h1>small</h1><p>small: 4 rows, 4 done</p>" in (report / "report.html").read_text()
    (summary,) = csv.DictReader((report / "summary.csv").open())
    assert summary["seeds"] == "4"
    exported = json.loads((report / "marl_eval.json").read_text())["matrix"]["two_step"]["qmix"]
    assert sorted(exported) == ["seed_0", "seed_1", "seed_2", "seed_3"]
    assert "absolute_metrics" in exported["seed_0"]


def test_a_row_that_fails_says_why_and_holds_nobody_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = small.table(tmp_path, "list: [{checkpoint_path: nowhere}, {t_max: 50}]")
    worker = _work(table)
    worker.join()
    assert worker.exitcode == 0
    failed, done = states(table)
    assert (failed.phase, done.phase) == (FAILED, DONE)
    assert failed.sentence == "no checkpoint at nowhere: there is no such folder"
    assert run(["sweep", "status", str(table.directory)]) == 0
    said = capsys.readouterr().out
    assert "small: 2 rows, 1 done, 1 failed\n" in said
    assert failed.sentence in said
    assert run(["sweep", "status", str(table.directory), "--rerun", "1"]) == 1
    assert "row 1 has not failed" in capsys.readouterr().err
    assert run(["sweep", "status", str(table.directory), "--rerun", "failed"]) == 0
    assert "to be run again: 0" in capsys.readouterr().out
    assert [state.phase for state in states(table)] == [WAITING, DONE]


def _die(table: Table) -> None:
    claims = Claims(table.directory, table.stale_after)
    with claims.take(0, claims.standing(0), 0):  # type: ignore[union-attr]
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_row_that_kills_its_process_every_time_is_given_up(tmp_path: Path) -> None:
    table = small.table(tmp_path)
    for _ in range(MOST_DEATHS):
        process = FORK.Process(target=_die, args=(table,))
        process.start()
        process.join()
    assert run_row(table, 0) == 1
    (state,) = states(table)
    assert state.phase == FAILED
    assert f"its process died {MOST_DEATHS} times at step 0 without a word" in state.sentence


def test_on_another_machine_a_run_leaves_the_embedded_database_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[list[str]] = []
    monkeypatch.setattr(
        "phalanx.session.train_planned", lambda f, c, words, watch: told.append(words)
    )
    monkeypatch.delenv("PHALANX_MONGO_URL", raising=False)
    table = small.table(tmp_path, "seeds: 2", mongo_url="null")
    assert run_row(table, 0) == 0
    stored = json.loads((table.directory / "sweep.json").read_text())
    (table.directory / "sweep.json").write_text(json.dumps(stored | {"machine": "elsewhere x"}))
    assert run_row(open_table(table.directory), 1) == 0
    assert told == [["sweep=small"], ["sweep=small", "mongo_url=none"]]


def _state(phase: str, step: int, rate: float, group: int = 0) -> RowState:
    row = Row(0, "", "", [], "", t_max=1000, group=group, seed=0)
    return RowState(row, phase, step, rate, "", {})


def test_time_left_is_steps_to_go_by_the_rates_there_were(tmp_path: Path) -> None:
    rows = [
        _state(DONE, 1000, 100.0),
        _state(RUNNING, 600, 50.0),  # 8 s to go
        _state(WAITING, 0, 0.0),  # by the median of its group, 75: 13.33 s
        _state(WAITING, 0, 0.0, group=1),  # by that of all: 13.33 s
    ]
    assert seconds_left(rows) == pytest.approx(8 + 2 * 1000 / 75)
    two = [*rows, _state(RUNNING, 990, 10.0, group=1)]
    # Group 1 is known now: 100 s, which two workers cannot share.
    assert seconds_left(two) == pytest.approx(100)
    assert seconds_left([_state(DONE, 1000, 0.0)]) == 0
    assert "about ? left" in in_a_line(small.table(tmp_path), [_state(WAITING, 0, 0.0)])
