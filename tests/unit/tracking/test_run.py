"""Runs without a database: what is on disk, and how they end."""

import datetime as dt
import json
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from phalanx.errors import ConfigError, EnvError, TrackingError
from phalanx.tracking import experiment
from phalanx.tracking.claim import claim_run
from phalanx.tracking.experiment import run_experiment
from phalanx.tracking.output import Output
from phalanx.tracking.queries import find_run, runs
from phalanx.tracking.record import Position, read_metrics
from phalanx.tracking.spool import Cursor, Spool

from ...patience import HANGS

CONFIG = {"name": "qmix", "seed": 7, "env": "sc2", "env_args": {"map_name": "3m"}, "layers": [1, 2]}
START = dt.datetime(2026, 1, 2, 3, 4, 5)
RUN_JSON = {
    "status": "RUNNING",
    "start_time": START.isoformat(),
    "heartbeat": START.isoformat(),
    "experiment": {},
    "host": {},
}


def record(body, results, **options):
    options = {"mongo_url": "none", "config": CONFIG, **options}
    return run_experiment(body, name="qmix", results_dir=results, **options)


def test_a_run_is_on_disk_with_config_metrics_files_and_result(tmp_path, caplog):
    def body(handle):
        assert handle.run_id == handle.uid == handle.directory.name
        handle.info["engine"] = "embedded"
        handle.info["summary"] = {"won": np.float32(0.5)}
        for t_env in (0, 10):
            handle.log_scalar("loss", torch.tensor(1.5), t_env)
        note = tmp_path / "note.txt"
        note.write_text("first")
        handle.add_artifact(note, "config.json")
        note.write_text("second")
        handle.add_artifact(note, "config.json")
        handle.set_result(np.float32(0.25))
        print("a line")
        return {"anything": 1}

    assert record(body, tmp_path) == {"anything": 1}
    assert caplog.records == []
    (run,) = runs(tmp_path)
    assert (run.status, run.name, run.config, run.result) == ("COMPLETED", "qmix", CONFIG, 0.25)
    assert (run.latest, run.steps) == ({"loss": 1.5}, 10)
    assert run.run_id is None
    assert run.stop_time >= run.start_time
    assert run.info["engine"] == "embedded"
    numbers = {key: {"loss": 1.5} for key in ("last", "min", "max")}
    assert run.info["summary"] == {"won": 0.5, "steps": 10, **numbers}
    assert {"python", "torch", "numpy", "numba", "sacred", "phalanx"} <= run.info["versions"].keys()
    loss = run.metrics()["loss"]
    assert (loss.steps, loss.values) == ([0, 10], [1.5, 1.5])
    assert (run.directory / "artifacts" / "config.json").read_text() == "second"
    assert "a line\n" in (run.directory / "cout.txt").read_text()
    written = json.loads((run.directory / "run.json").read_text())
    assert written["artifacts"] == ["config.json"]
    name, copy = next(s for s in written["experiment"]["sources"] if s[0].endswith("spool.py"))
    stored = (run.directory.parent / copy).read_text()
    assert name == "tracking/spool.py"
    assert stored == Path(sys.modules[Spool.__module__].__file__).read_text()


@pytest.mark.parametrize(
    ("error", "status"),
    [(EnvError("no such map"), "FAILED"), (KeyboardInterrupt(), "INTERRUPTED")],
)
def test_errors_reach_the_caller_and_the_record(tmp_path, error, status):
    def body(handle):
        handle.log_scalar("loss", 1.0, 3)
        print("last words")
        raise error

    with pytest.raises(type(error)):
        record(body, tmp_path)
    (run,) = runs(tmp_path)
    assert run.status == status
    assert run.metrics()["loss"].steps == [3]
    assert "last words" in (run.directory / "cout.txt").read_text()
    trace = json.loads((run.directory / "run.json").read_text()).get("fail_trace")
    assert (trace is not None and "no such map" in trace[-1]) == (status == "FAILED")


def test_a_resumed_run_goes_on_in_its_folder_without_doubled_points(tmp_path, caplog):
    def body(first, last):
        def steps(handle):
            for t_env in range(first, last, 10):
                handle.log_scalar("loss", first, t_env)
                handle.log_scalar(f"only_in_{first}", 1, t_env)
            print("part", first)
            handle.info.setdefault("kept", first)

        return steps

    record(body(0, 50), tmp_path)
    uid = runs(tmp_path)[0].uid
    first = runs(tmp_path)[0].directory
    go_on = {"claim": claim_run(first), "since": Position(20)}
    record(body(30, 60), tmp_path, config={**CONFIG, "t_max": 60}, **go_on)
    (run,) = runs(tmp_path)
    assert run.uid == uid
    assert run.config["t_max"] == 60
    assert run.info["kept"] == 0
    assert run.metrics()["loss"].steps == [0, 10, 20, 30, 40, 50]
    assert run.metrics()["loss"].values == [0, 0, 0, 30, 30, 30]
    assert run.metrics()["only_in_0"].steps == [0, 10, 20]
    assert run.info["summary"]["max"] == {"loss": 30, "only_in_0": 1, "only_in_30": 1}
    assert (run.steps, run.latest["loss"]) == (50, 30)
    assert (run.directory / "cout.txt").read_text() == "part 0\npart 30\n"
    assert caplog.records == []


def test_a_run_that_is_still_running_cannot_be_resumed(tmp_path):
    def body(handle):
        wanted = rf"process {os.getpid()} on .* has it\. It is still running"
        with pytest.raises(TrackingError, match=wanted):
            claim_run(handle.directory)

    record(body, tmp_path)
    claim_run(runs(tmp_path)[0].directory).release()


def test_a_run_without_its_record_cannot_be_resumed(tmp_path):
    record(lambda handle: None, tmp_path)
    (run,) = runs(tmp_path)
    (run.directory / "run.json").write_text("{}")
    with pytest.raises(TrackingError, match=r"run\.json is missing or damaged.*checkpoint_path="):
        claim_run(run.directory)
    # The lock was given back.
    (run.directory / "run.json").write_text(json.dumps({**RUN_JSON, "meta": {"uid": run.uid}}))
    claim_run(run.directory).release()


def test_looking_at_a_run_takes_its_folder_from_nobody(tmp_path):
    record(lambda handle: None, tmp_path)
    (run,) = runs(tmp_path)
    path = run.directory / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "RUNNING"}))
    assert [found.status for found in runs(tmp_path)] == ["DIED"]
    claim = claim_run(run.directory)
    assert [found.status for found in runs(tmp_path)] == ["RUNNING"]
    claim.release()
    (run.directory / "run.lock").unlink()
    assert [found.status for found in runs(tmp_path)] == ["DIED"]
    assert not (run.directory / "run.lock").exists()  # a look leaves nothing behind


def test_the_cut_keeps_exactly_what_was_recorded_when_the_checkpoint_was_made(tmp_path):
    positions = []

    def body(handle):
        for step in (0, 10):
            handle.log_scalar("loss", 1.0, step)
        positions.append(handle.flush())
        handle.log_scalar("test_return_mean", 2.0, 10)  # after the checkpoint, at its very step

    record(body, tmp_path)
    (run,) = runs(tmp_path)
    (run.directory / "mirror.json").write_text('{"run_id": 3, "target": "x", "complete": true}')
    since = Position(10, positions[0])
    record(
        lambda handle: handle.log_scalar("test_return_mean", 2.0, 10),
        tmp_path,
        claim=claim_run(run.directory),
        since=since,
    )
    metrics = runs(tmp_path)[0].metrics()
    assert metrics["loss"].steps == [0, 10]
    assert metrics["test_return_mean"].steps == [10]
    # What a database has of it is not all any more.
    assert json.loads((run.directory / "mirror.json").read_text())["complete"] is False


def test_a_cut_that_the_disk_does_not_take_changes_nothing(tmp_path, monkeypatch):
    record(lambda handle: [handle.log_scalar("loss", 1.0, step) for step in range(9)], tmp_path)
    (run,) = runs(tmp_path)
    before = {path: path.read_bytes() for path in run.directory.glob("*.json*")}
    for position in (Position(4), Position(4, 0)):
        claim = claim_run(run.directory)
        with monkeypatch.context() as patched:

            def full(descriptor):
                raise OSError(28, "No space left on device")

            patched.setattr(os, "fsync", full)
            with pytest.raises(TrackingError, match=r"cannot be resumed.*No space.*No point was"):
                record(lambda handle: pytest.fail("ran"), tmp_path, claim=claim, since=position)
        assert {path: path.read_bytes() for path in before} == before
        assert runs(tmp_path)[0].status == "COMPLETED"


@pytest.mark.parametrize("recorded", [5, 10**9])
def test_a_position_that_fits_no_line_falls_back_to_the_step(tmp_path, recorded):
    record(lambda handle: [handle.log_scalar("loss", 1.0, step) for step in range(9)], tmp_path)
    (run,) = runs(tmp_path)
    go_on = {"claim": claim_run(run.directory), "since": Position(4, recorded)}
    record(lambda handle: None, tmp_path, **go_on)
    assert runs(tmp_path)[0].metrics()["loss"].steps == [0, 1, 2, 3, 4]


def test_the_file_of_metrics_is_json_whatever_a_metric_is(tmp_path):
    values = [1.5, float("nan"), float("inf"), -float("inf")]

    def body(handle):
        for step, value in enumerate(values):
            handle.log_scalar("loss", value, step)
        handle.set_result(float("nan"))

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    record(body, tmp_path)
    (run,) = runs(tmp_path)
    for path in (*run.directory.glob("*.json"), run.directory / "metrics.jsonl"):
        for text in [path.read_text()] if path.suffix == ".json" else path.open():
            json.loads(text, parse_constant=refuse)
    found = run.metrics()["loss"].values
    assert found[0] == 1.5
    assert np.isnan(found[1])
    assert found[2:] == values[2:]
    assert np.isnan(run.latest["loss"] - run.latest["loss"])  # minus infinity, as a number
    assert np.isnan(run.result)
    # Each can be read without this package, too.
    rows = [json.loads(line) for line in (run.directory / "metrics.jsonl").open()]
    assert [float(value) for row in rows for value in row["values"]][2:] == values[2:]


@pytest.mark.parametrize("content", ["null", "[]", "{}", "3", '{"status": "RUNNING"}', "{"])
def test_one_odd_record_hides_no_other(tmp_path, content, caplog):
    record(lambda handle: None, tmp_path)
    odd = tmp_path / "runs" / "20200101-000000-00000000"
    odd.mkdir()
    (odd / "run.json").write_text(content)
    assert len(runs(tmp_path)) == 1
    assert f"{odd / 'run.json'} is damaged" in caplog.text
    record(lambda handle: None, tmp_path, config={**CONFIG, "seed": 9})


def test_the_end_of_a_run_says_what_its_disk_did_not_take(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(experiment, "DISK_SECONDS", 0.1)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    def body(handle):
        monkeypatch.setattr(os, "fsync", full)
        for step in range(5):
            handle.log_scalar("loss", 1.0, step)
        assert handle.flush() is None

    with pytest.raises(TrackingError, match=r"lacks 5 points and how it ended.*it is lost\. Make"):
        record(body, tmp_path)
    assert "waiting up to" in caplog.text
    assert "nothing is missing" not in caplog.text


def test_a_disk_that_is_late_gets_a_moment(tmp_path, monkeypatch, caplog):
    sync, calls = os.fsync, []

    def late(descriptor):
        calls.append(descriptor)
        if len(calls) < 12:
            raise OSError(28, "No space left on device")
        sync(descriptor)

    def body(handle):
        monkeypatch.setattr(os, "fsync", late)
        handle.log_scalar("loss", 1.0, 0)

    record(body, tmp_path)
    (run,) = runs(tmp_path)
    assert (run.status, run.metrics()["loss"].steps) == ("COMPLETED", [0])
    assert "can be written again" in caplog.records[-1].getMessage()


def test_points_are_on_disk_when_flush_returns_though_a_beat_has_taken_them(tmp_path, monkeypatch):
    taken, go_on = threading.Event(), threading.Event()
    log_metrics = Spool.log_metrics

    def slowly(spool, metrics_by_name, info):
        if metrics_by_name and threading.current_thread() is not threading.main_thread():
            taken.set()
            assert go_on.wait(HANGS)
        log_metrics(spool, metrics_by_name, info)

    monkeypatch.setattr(Spool, "log_metrics", slowly)

    def body(handle):
        handle.log_scalar("loss", 1.0, 0)
        assert taken.wait(HANGS)  # the thread of the beats has them
        threading.Timer(0.2, go_on.set).start()
        handle.flush()
        assert read_metrics(handle.directory)["loss"].steps == [0]

    record(body, tmp_path, sacred_options=["-b", "0.05"])


def test_sacreds_options_work(tmp_path):
    options = [
        "-c",
        "a comment",
        "-n",
        "other",
        "-F",
        str(tmp_path / "files"),
        "-b",
        "0.05",
        "-l",
        "50",
    ]
    record(lambda handle: 3, tmp_path, sacred_options=options)
    (run,) = runs(tmp_path)
    written = json.loads((run.directory / "run.json").read_text())
    assert written["meta"]["comment"] == "a comment"
    assert run.name == "other"
    assert json.loads((tmp_path / "files" / "1" / "run.json").read_text())["result"] == 3


def test_an_unobserved_run_has_a_folder_but_no_record(tmp_path):
    record(lambda handle: (handle.directory / "x").touch(), tmp_path, sacred_options=["-u"])
    assert runs(tmp_path) == []


@pytest.mark.parametrize("mode", ["fd", "sys", "no"])
def test_sacreds_capture_modes_work(tmp_path, mode):
    record(lambda handle: print("a line"), tmp_path, sacred_options=["-C", mode])
    captured = runs(tmp_path)[0].directory / "cout.txt"
    # With "fd" pytest's own capture stands between print and the file descriptor.
    if mode == "sys":
        assert captured.read_text() == "a line\n"
    elif mode == "no":
        assert not captured.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--no-such-option"], "--no-such-option"),
        (["-m", "lab:x:y:z"], "-m"),
        (["-m", "me:secret@lab:1"], "PHALANX_MONGO_URL"),
        (["-i", "seven"], "whole numbers"),
        (["-b", "0"], "above 0"),
    ],
)
def test_wrong_options_stop_before_the_run(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message) as error:
        record(lambda handle: pytest.fail("started"), tmp_path, sacred_options=options)
    assert "secret" not in str(error.value)
    assert runs(tmp_path) == []


def test_the_logging_of_others_is_left_alone(tmp_path):
    import logging

    before = list(logging.getLogger().handlers), logging.getLogger().level
    record(lambda handle: None, tmp_path)
    assert (list(logging.getLogger().handlers), logging.getLogger().level) == before


def test_a_repeated_run_is_named(tmp_path, caplog):
    def lines():
        return [r.getMessage() for r in caplog.records if "repeats" in r.getMessage()]

    record(lambda handle: None, tmp_path, config={**CONFIG, "label": "first"})
    for other in ({"seed": 8}, {"layers": [1, 3]}):
        record(lambda handle: None, tmp_path, config={**CONFIG, **other})
    assert lines() == []
    record(lambda handle: None, tmp_path, config={**CONFIG, "label": "second"})
    first = runs(tmp_path)[0]
    assert lines() == [
        f"this run repeats run {first.uid} (COMPLETED): the same config with the same seed"
    ]
    caplog.clear()
    record(lambda handle: None, tmp_path, claim=claim_run(first.directory))
    assert lines() == []


def test_a_missing_database_is_said_once(tmp_path, monkeypatch, caplog):
    monkeypatch.delenv("PHALANX_MONGO_URL", raising=False)
    monkeypatch.setattr(experiment, "choose_target", lambda **_: None)
    record(lambda handle: None, tmp_path, mongo_url=None)
    (line,) = [r.getMessage() for r in caplog.records if r.name.startswith("phalanx.tracking")]
    assert "pip install -e '.[server]'" in line


# The spool alone


def started(directory, **options):
    spool = Spool(directory, Output(), **options)
    info = {"name": "x", "base_dir": str(directory), "sources": []}
    spool.started_event(
        ex_info=info,
        command="train",
        host_info={},
        start_time=START,
        config=CONFIG,
        meta_info={"uid": directory.name},
        _id=None,
    )
    return spool


def points(*steps):
    return {
        "loss": {
            "steps": list(steps),
            "values": [1.0] * len(steps),
            "timestamps": [START] * len(steps),
        }
    }


def test_a_full_disk_is_said_once_and_nothing_is_lost(tmp_path, monkeypatch, caplog):
    spool = started(tmp_path / "run")
    sync = os.fsync

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for step in range(3):
        spool.log_metrics(points(step), {})
        spool.heartbeat_event(info={"a": step}, captured_out="", beat_time=START, result=None)
    assert len(caplog.records) == 1
    assert "No space left" in caplog.text
    rows, cursor = spool.rows_since(Cursor())
    assert [row["steps"] for row in rows] == [[0], [1], [2]]
    monkeypatch.setattr(os, "fsync", sync)
    spool.log_metrics(points(3), {})
    assert [row["steps"] for row in spool.rows_since(cursor)[0]] == [[3]]
    spool.completed_event(stop_time=START, result=1)
    assert read_metrics(tmp_path / "run")["loss"].steps == [0, 1, 2, 3]
    assert find_run(tmp_path, str(tmp_path / "run")).info["a"] == 2
    assert "can be written again" in caplog.records[-1].getMessage()


def test_a_run_that_cannot_be_recorded_does_not_start(tmp_path):
    (tmp_path / "runs").write_text("a file where the folder should be")
    with pytest.raises(TrackingError, match=r"no run can be recorded in .*local_results_path=DIR"):
        record(lambda handle: pytest.fail("started"), tmp_path)


def test_a_full_disk_at_the_start_is_said_before_it(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TrackingError, match=r"No space left.*Nothing was started"):
        record(lambda handle: pytest.fail("started"), tmp_path)


def test_an_artifact_stays_inside_the_runs_folder(tmp_path, caplog):
    (tmp_path / "x.txt").write_text("x")
    spool = started(tmp_path / "run")
    spool.artifact_event("../../evil.txt", str(tmp_path / "x.txt"))
    spool.artifact_event("plots/x.txt", str(tmp_path / "x.txt"))
    spool.artifact_event("gone.txt", str(tmp_path / "missing.txt"))
    assert spool.run["artifacts"] == ["plots/x.txt"]
    assert not (tmp_path.parent / "evil.txt").exists()
    assert "leads out" in caplog.text


def test_points_are_handed_out_once_each(tmp_path):
    spool = started(tmp_path / "run")
    seen, cursor = [], Cursor()
    for step in range(4):
        spool.log_metrics(points(step), {})
        if step % 2:
            rows, cursor = spool.rows_since(cursor)
            seen += [s for row in rows for s in row["steps"]]
    assert seen == [0, 1, 2, 3]
    assert spool.rows_since(cursor)[0] == []
