"""Dashboards get a run's numbers, and whatever happens to them, the run does not notice."""

from __future__ import annotations

import math
import sys
import threading
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from phalanx.errors import MissingDependencyError
from phalanx.registry import SINKS
from phalanx.tracking.claim import claim_run
from phalanx.tracking.experiment import RunHandle, run_experiment
from phalanx.tracking.queries import runs
from phalanx.tracking.record import Position
from phalanx.tracking.sinks.base import About, Point, Sink

CONFIG = {"name": "qmix", "seed": 7, "env": "sc2", "env_args": {"map_name": "3m"}}


class Kept(Sink):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.points: list[Point] = []
        self.threads: set[int] = set()
        self.first = threading.Event()

    def begin(self, run: About) -> None:
        self.told.append(run)
        self.threads.add(threading.get_ident())

    def write(self, points: Sequence[Point]) -> None:
        self.points += points
        self.first.set()

    def end(self, status: str) -> None:
        self.told.append(status)

    def rows(self) -> list[tuple[str, int, float]]:
        return [point[:3] for point in self.points]


class Replayed(Kept):
    """Wants all of it."""

    replays = True


class Dying(Kept):
    """Dies at its first points."""

    def write(self, points: Sequence[Point]) -> None:
        super().write(points)
        raise OSError("no space left")


class Hanging(Kept):
    """Never comes back."""

    def write(self, points: Sequence[Point]) -> None:
        super().write(points)
        threading.Event().wait()


def record(results: Path, sinks: Mapping[str, Sink], steps: Sequence[int], **options: Any) -> str:
    def body(handle: RunHandle) -> str:
        for step in steps:
            handle.log_scalar("loss", step / 2, step)
            handle.log_scalar("q", math.nan, step)
        handle.flush()
        for sink in sinks.values():
            assert isinstance(sink, Kept)
            assert sink.first.wait(30)
        return handle.uid

    return str(
        run_experiment(
            body,
            name="qmix",
            config=CONFIG,
            results_dir=results,
            mongo_url="none",
            sinks=sinks,
            **options,
        )
    )


def test_a_sink_gets_all_and_others_that_die_or_hang_cost_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("phalanx.tracking.feed.Feed.__init__.__kwdefaults__", {"end_wait": 0.2})
    sinks = {"kept": Kept(), "dying": Dying(), "hanging": Hanging()}
    uid = record(tmp_path, sinks, [0, 10], sink_project="mine")
    (run,) = runs(tmp_path)
    assert (run.status, run.steps) == ("COMPLETED", 10)
    assert "sink dying failed (OSError: no space left) and gets nothing more" in caplog.text
    assert "sink hanging did not take the end of this run within 0.2 s" in caplog.text
    assert len(caplog.records) == 2
    about, status = sinks["kept"].told
    assert (about.uid, about.name, about.task, about.project) == (uid, "qmix", "3m", "mine")
    assert about.config == CONFIG
    assert status == "COMPLETED"
    assert str(sinks["kept"].rows()) == str(
        [("loss", 0, 0.0), ("q", 0, math.nan), ("loss", 10, 5.0), ("q", 10, math.nan)]
    )
    assert threading.get_ident() not in sinks["kept"].threads


def test_a_resumed_run_tells_what_is_new_or_all_of_it(tmp_path: Path) -> None:
    uid = record(tmp_path, {"kept": Kept()}, [0, 10, 20])
    sinks = {"kept": Kept(), "replayed": Replayed()}
    claim = claim_run(tmp_path / "runs" / uid)
    record(tmp_path, sinks, [30], claim=claim, since=Position(10))
    assert [row[1] for row in sinks["kept"].rows() if row[0] == "loss"] == [30]
    assert [row[1] for row in sinks["replayed"].rows() if row[0] == "loss"] == [0, 10, 30]
    assert sinks["kept"].told[0].resumed


def test_tensorboard_can_be_read_again(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    uid = record(tmp_path, {}, [0, 10])
    claim = claim_run(tmp_path / "runs" / uid)
    sink = SINKS.get("tensorboard")()
    sink.first = threading.Event()
    sink.first.set()
    run_experiment(
        lambda handle: handle.log_scalar("loss", 9.0, 20),
        name="qmix", config=CONFIG, results_dir=tmp_path, mongo_url="none",
        claim=claim, since=Position(10), sinks={"tensorboard": sink},
    )  # fmt: skip
    read = accumulator.EventAccumulator(str(tmp_path / "runs" / uid / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in read.Scalars("loss")] == [(0, 0.0), (10, 5.0), (20, 9.0)]


class FakeService(types.ModuleType):
    """wandb or trackio, as far as it is used."""

    def __init__(self) -> None:
        super().__init__("fake")
        self.calls: list[Any] = []
        self.Settings = dict

    def init(self, **options: Any) -> FakeService:
        self.calls.append(("init", options))
        return self

    def define_metric(self, name: str, **options: Any) -> None:
        self.calls.append(("define", name, options))

    def log(self, numbers: Mapping[str, float], **options: Any) -> None:
        self.calls.append(("log", dict(numbers), options))

    def finish(self, **options: Any) -> None:
        self.calls.append(("finish", options))


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_services_are_told_step_by_step(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeService()
    monkeypatch.setitem(sys.modules, name, fake)
    sink = SINKS.get(name)()
    sink.begin(About("uid-1", "qmix", "3m", "mine", tmp_path, CONFIG, False))
    sink.write([Point("loss", 0, 0.5, 0.0), Point("q", 0, 2.0, 0.0), Point("loss", 10, 0.1, 0.0)])
    sink.end("FAILED")
    _, options = fake.calls[0]
    assert (options["project"], options["config"], options["resume"]) == ("mine", CONFIG, "allow")
    logged = [call[1:] for call in fake.calls if call[0] == "log"]
    if name == "wandb":
        assert options["id"] == "uid-1"
        assert fake.calls[2] == ("define", "*", {"step_metric": "step"})
        assert logged == [({"loss": 0.5, "q": 2.0, "step": 0}, {}), ({"loss": 0.1, "step": 10}, {})]
        assert fake.calls[-1] == ("finish", {"exit_code": 1})
    else:
        assert logged == [({"loss": 0.5, "q": 2.0}, {"step": 0}), ({"loss": 0.1}, {"step": 10})]
        assert fake.calls[-1] == ("finish", {})


def test_a_missing_package_is_told_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingDependencyError, match=r"pip install -e '\.\[wandb\]'"):
        SINKS.get("wandb")()
