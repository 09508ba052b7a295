"""Actors that play elsewhere make the run that one process makes; their deaths are dropped and counted."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from phalanx.build import build
from phalanx.checkpoint import find_checkpoint, load_checkpoint
from phalanx.config import compose
from phalanx.data.dataset import Dataset
from phalanx.envs.matrix import MatrixGames
from phalanx.errors import (
    CheckpointError,
    ConfigError,
    EnvError,
    MissingDependencyError,
)
from phalanx.registry import ENVS
from phalanx.training import Trainer

from ...families import small
from ...patience import HANGS
from ...recorder import Recorder, trainer
from .inline_ray import InlineRay

FORAGING = ("key=Foraging-5x5-2p-1f-v3", "time_limit=10")
# Of each way to act, to learn and to keep experience.
MATRIX = [
    ("qmix", "lbf", FORAGING),
    ("vdfd", "lbf", FORAGING),
    ("mappo", "lbf", FORAGING),
    ("mappo", "sc2", ("map_name=3m",)),
    ("coma", "matrix", ()),
    ("mat", "matrix", ()),
    ("marie_small", "matrix", ("t_max=90",)),
]


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> InlineRay:
    """Ray's calls in this process."""
    ray = InlineRay()
    monkeypatch.setitem(sys.modules, "ray", ray)  # type: ignore[arg-type]
    return ray


def words_of(config: str, *more: str, runner: str = "vector") -> tuple[str, ...]:
    """A run of an instant, with five environments: actors get unequal shares."""
    quick = ("batch_size_run=5", "t_max=360", "test_interval=175", "log_interval=175")
    return (*small(config, runner), *quick, *more)


def play(folder: Path, config: str, env: str, *words: str) -> tuple[Trainer, Recorder]:
    """A run to its end."""
    run, told = trainer(folder, config, env, *words)
    run.run()
    return run, told


def assert_same(one: tuple[Trainer, Recorder], other: tuple[Trainer, Recorder]) -> None:
    """Every number that was logged, and every weight."""
    assert one[1].rows == other[1].rows
    assert len(one[1].rows) > 10
    left, right = one[0].parts, other[0].parts
    for name, value in left.policy.state_dict().items():
        assert torch.equal(value, right.policy.state_dict()[name]), name


@pytest.mark.parametrize(("config", "env", "task"), MATRIX)
def test_three_actors_make_the_run_of_one_process(
    inline: InlineRay, tmp_path: Path, config: str, env: str, task: tuple[str, ...]
) -> None:
    one = play(tmp_path / "one", config, env, *words_of(config), *task)
    words = (*words_of(config, "actors=3", runner="ray"), *task)
    assert_same(one, play(tmp_path / "three", config, env, *words))


@pytest.mark.parametrize("config", ["qmix", "mappo"])
def test_a_resumed_run_is_the_same(inline: InlineRay, tmp_path: Path, config: str) -> None:
    words = (*FORAGING, *words_of(config, "actors=3", "save_model_interval=175", runner="ray"))
    whole, all_rows = play(tmp_path / "whole", config, "lbf", *words)

    class KilledError(Exception):
        pass

    part, _ = trainer(tmp_path / "part", config, "lbf", *words)
    write = part._write

    def write_and_die(name: str, state: Any, recorded: int | None = None) -> None:
        write(name, state, recorded)
        if name == "latest":
            raise KilledError

    part._write = write_and_die  # type: ignore[method-assign]
    with pytest.raises(KilledError):
        part.run()
    rest, told = trainer(tmp_path / "part", config, "lbf", *words)
    rest.load(load_checkpoint(find_checkpoint(tmp_path / "part")))
    assert rest.t_env == 175
    rest.run()
    assert len(told.rows) > 10
    assert told.rows == all_rows.rows[-len(told.rows) :]
    for name, value in whole.parts.policy.state_dict().items():
        assert torch.equal(value, rest.parts.policy.state_dict()[name]), name


def test_pieces_of_episodes_are_recorded_whole(inline: InlineRay, tmp_path: Path) -> None:
    found = []
    for runner in ("vector", "ray"):
        more = ["actors=3"] if runner == "ray" else []
        words = words_of("mappo", f"record={tmp_path / runner}", *more, runner=runner)
        play(tmp_path / "runs" / runner, "mappo", "lbf", *FORAGING, *words, "episode_length=7")
        found.append(Dataset.open(tmp_path / runner))
    one, three = found
    assert one.lengths.tolist() == three.lengths.tolist()
    rows = np.arange(len(one.lengths))
    assert len(rows) > 10
    assert torch.equal(one.batch(rows).obs, three.batch(rows).obs)


def test_weights_are_put_once_per_version(inline: InlineRay, tmp_path: Path) -> None:
    run, _ = play(tmp_path, "qmix", "matrix", *words_of("qmix", "actors=3", runner="ray"))
    assert run.n_updates > 10
    assert inline.puts <= run.n_updates + 1


@pytest.mark.parametrize("collect", ["index", "arrival"])
def test_a_death_is_dropped_and_counted(
    inline: InlineRay, tmp_path: Path, collect: str, caplog: pytest.LogCaptureFixture
) -> None:
    played = 0

    def dies(method: str) -> bool:
        nonlocal played
        played += method == "play"
        return method == "play" and played in (10, 11, 15)

    inline.dies = dies
    words = words_of("qmix", "actors=3", f"collect={collect}", runner="ray")
    run, told = trainer(tmp_path, "qmix", "lbf", *FORAGING, *words, "batch_size_run=6")
    run.run()
    assert run.t_env >= 360
    assert told.curve("actor_restarts")[-1][1] == 3
    assert told.curve("episodes_dropped")[-1][1] == 6
    assert "Its open episodes are dropped and it is started again" in caplog.text
    # What was lost is in nobody's clock.
    runner, buffer = run.parts.runner, run.parts.buffer
    assert run.n_updates == (run.t_env - buffer.learning_since) // 16
    assert [member.task.lives for member in runner._members].count(0) < 3


def test_an_actor_that_always_dies_ends_the_run(inline: InlineRay, tmp_path: Path) -> None:
    inline.dies = lambda method: method == "play"
    run, _ = trainer(tmp_path, "qmix", "matrix", *words_of("qmix", "max_deaths=3", runner="ray"))
    with pytest.raises(
        EnvError, match=r"actor 0 \(environments 0 to 1\) has died 3 times in a row"
    ):
        run.run()


def test_requests_are_bounded_and_updates_keep_their_pace(
    inline: InlineRay, tmp_path: Path
) -> None:
    more = ("actors=2", "collect=arrival", "requests_in_flight=3", "steps_per_request=4")
    words = (*FORAGING, *words_of("qmix", *more, "save_model_interval=200", runner="ray"))
    run, _ = trainer(tmp_path, "qmix", "lbf", *words, "batch_size_run=4", "t_max=400")
    run.run()
    assert inline.most_in_flight == 3
    state = load_checkpoint(find_checkpoint(tmp_path))
    # Two actors had up to three requests of 2 x 4 steps under way when it was made.
    assert 0 < state["runner"]["uncounted"] <= 2 * 3 * 8
    assert all(len(actor["state"]["rollout"]["stats"]) == 0 for actor in state["runner"]["actors"])
    rest, _ = trainer(tmp_path, "qmix", "lbf", *words, "batch_size_run=4", "t_max=800")
    rest.load(state)
    before = rest.parts.buffer.learning_since
    rest.run()
    assert rest.parts.buffer.learning_since == before
    assert rest.n_updates == (rest.t_env - before) // 16


@pytest.mark.parametrize(
    ("config", "words", "sentence"),
    [
        ("qmix", ("actors=9",), "actors=9 share batch_size_run=5 environments"),
        ("mappo", ("collect=arrival",), "brings episodes of older policies"),
        ("mat", ("random_agent_order=True",), "something is drawn when an episode begins"),
        ("mappo", ("episode_length=0",), "needs episode_length"),
    ],
)
def test_what_cannot_be_is_refused(
    inline: InlineRay, config: str, words: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        build(compose(config, "matrix", (*words_of(config, runner="ray"), *words)))


def test_too_few_cores_are_refused(inline: InlineRay, tmp_path: Path) -> None:
    words = words_of("qmix", "actors=5", "cpus_per_actor=2", runner="ray")
    run, _ = trainer(tmp_path, "qmix", "matrix", *words)
    with pytest.raises(ConfigError, match="ask Ray for 10 cores, and its cluster"):
        run.run()


def test_an_environment_without_numbers_is_refused(
    inline: InlineRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Nameless(MatrixGames):
        number_from = None  # type: ignore[assignment]

    monkeypatch.setitem(ENVS._parts, "matrix", Nameless)
    with pytest.raises(EnvError, match=r"give it number_from\(first\)"):
        build(compose("qmix", "matrix", words_of("qmix", runner="ray")))


def test_another_number_of_actors_cannot_go_on(inline: InlineRay, tmp_path: Path) -> None:
    play(tmp_path, "qmix", "matrix", *words_of("qmix", "actors=3", runner="ray"))
    other, _ = trainer(tmp_path, "qmix", "matrix", *words_of("qmix", "actors=2", runner="ray"))
    with pytest.raises(CheckpointError, match="Go on with actors=3 and batch_size_run=5"):
        other.load(load_checkpoint(find_checkpoint(tmp_path)))


def test_what_an_environment_refuses_is_said_as_in_one_process(
    inline: InlineRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(MatrixGames):
        def step(self, actions: Any) -> Any:
            raise EnvError("the board is on fire")

    run, _ = trainer(tmp_path, "qmix", "matrix", *words_of("qmix", "actors=2", runner="ray"))
    monkeypatch.setitem(ENVS._parts, "matrix", Failing)
    with pytest.raises(EnvError, match=r"^the board is on fire"):
        run.parts.runner.collect(0)


def test_it_says_how_to_install_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # type: ignore[arg-type]
    with pytest.raises(
        MissingDependencyError, match=r"runner ray needs .*pip install -e '.\[ray\]'"
    ):
        build(compose("qmix", "matrix", words_of("qmix", runner="ray")))


# --- with Ray itself ---


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster that the tests below share."""
    ray = pytest.importorskip("ray")
    if ray.is_initialized():
        yield ray
        return
    try:
        ray.init(
            address="local",
            num_cpus=3,
            object_store_memory=100 * 2**20,
            include_dashboard=False,
            log_to_driver=False,
        )
    except Exception as error:  # Ray gives itself 30 s to start
        pytest.skip(f"Ray does not start on this machine now: {error}")
    yield ray
    ray.shutdown()


@pytest.mark.parametrize("actors", [1, 3])
def test_on_ray_actors_make_the_run_of_one_process(
    cluster: Any, tmp_path: Path, actors: int
) -> None:
    one = play(tmp_path / "one", "qmix", "lbf", *FORAGING, *words_of("qmix"))
    words = (*FORAGING, *words_of("qmix", f"actors={actors}", runner="ray"))
    assert_same(one, play(tmp_path / "ray", "qmix", "lbf", *words))


def test_on_ray_actors_are_killed_while_they_play(cluster: Any, tmp_path: Path) -> None:
    words = words_of("qmix", "actors=2", "collect=arrival", "t_max=4000", runner="ray")
    run, told = trainer(tmp_path, "qmix", "lbf", *FORAGING, *words)
    runner = run.parts.runner
    collect, killed = runner.collect, []

    def kill_now_and_then(t_env: int) -> int:
        if t_env > 1000 * (1 + len(killed)) and len(killed) < 2:
            victim = actor_processes()[len(killed)]
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)
        return collect(t_env)

    runner.collect = kill_now_and_then
    run.run()
    assert run.t_env >= 4000
    assert len(set(killed)) == 2
    assert told.curve("actor_restarts")[-1][1] == 2
    assert told.curve("episodes_dropped")[-1][1] in (4, 5, 6)
    assert run.n_updates == (run.t_env - run.parts.buffer.learning_since) // 16
    until = time.monotonic() + HANGS
    while actor_processes() and time.monotonic() < until:  # Ray ends them in its own time
        time.sleep(0.05)
    assert actor_processes() == []


def actor_processes() -> list[int]:
    """Ids of the processes that Ray calls actors of ours, by the system's table."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"ray::PhalanxActor" in entry.read_bytes():
                found.append(int(entry.parent.name))
        except OSError:  # it has just ended
            continue
    return sorted(found)
