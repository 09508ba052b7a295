"""One seed decides everything; a checkpoint continues bit for bit; steps per update are what was asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from phalanx.checkpoint import find_checkpoint, load_checkpoint, open_checkpoint
from phalanx.errors import CheckpointError, ConfigError, DivergedError
from phalanx.finite import first_not_finite
from phalanx.training import Clock

from ..families import ALGORITHMS, small
from ..recorder import trainer

SMALL = small("qmix")
TASKS = [
    ("qmix", "matrix", "game=two_step"),
    ("vdfd", "matrix", "game=two_step"),
    ("qmix", "sc2", "map_name=3m"),
    ("vdfd", "sc2", "map_name=3m"),
    ("happo", "matrix", "game=two_step"),
    ("mat", "matrix", "game=two_step"),
    ("mappo", "sc2", "map_name=3m"),
    ("mat_gru", "matrix", "random_agent_order=True"),
]


@pytest.mark.parametrize(("config", "env", "task"), TASKS)
def test_same_seed_same_metrics(config: str, env: str, task: str, tmp_path: Path) -> None:
    curves = []
    for attempt in ("a", "b"):
        words = (task, *small(config), "save_model=False")
        run, recorder = trainer(tmp_path / attempt, config, env, *words)
        run.run()
        curves.append(recorder.rows)
    assert curves[0] == curves[1]
    assert len(curves[0]) > 30


def test_another_seed_gives_other_metrics(tmp_path: Path) -> None:
    curves = []
    for seed in (0, 1):
        words = (*SMALL, "save_model=False", f"seed={seed}")
        run, recorder = trainer(tmp_path / str(seed), "qmix", "matrix", *words)
        run.run()
        curves.append(recorder.rows)
    assert curves[0] != curves[1]


@pytest.mark.parametrize("runner", ["vector", "episode"])
@pytest.mark.parametrize(("config", "env", "task"), TASKS)
def test_continuing_equals_never_stopping(
    config: str, env: str, task: str, runner: str, tmp_path: Path
) -> None:
    words = (task, *small(config, runner))
    whole, all_rows = trainer(tmp_path / "whole", config, env, *words)
    whole.run()

    class KilledError(Exception):
        pass

    part, _ = trainer(tmp_path / "part", config, env, *words)
    write = part._write

    def write_and_die(name: str, state: object, recorded: int | None = None) -> None:
        write(name, state, recorded)  # type: ignore[arg-type]
        if name == "latest":
            raise KilledError

    part._write = write_and_die  # type: ignore[method-assign]
    with pytest.raises(KilledError):
        part.run()

    resumed, rows = trainer(tmp_path / "part", config, env, *words)
    resumed.load(load_checkpoint(find_checkpoint(tmp_path / "part")))
    stopped_at = resumed.t_env
    assert 600 <= stopped_at < 1200
    resumed.run()
    # A test due at the step of the checkpoint comes after it.
    assert len(rows.rows) >= sum(row[1] > stopped_at for row in all_rows.rows) > 0
    assert rows.rows == all_rows.rows[-len(rows.rows) :]
    _assert_equal(
        load_checkpoint(tmp_path / "whole" / "checkpoints" / "latest"),
        load_checkpoint(tmp_path / "part" / "checkpoints" / "latest"),
    )


def _assert_equal(a: object, b: object, path: str = "") -> None:
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path  # type: ignore[attr-defined]
        for key in a:
            _assert_equal(a[key], b[key], f"{path}/{key}")  # type: ignore[index]
    elif isinstance(a, (list, tuple)):
        for i, (x, y) in enumerate(zip(a, b, strict=True)):  # type: ignore[call-overload]
            _assert_equal(x, y, f"{path}/{i}")
    elif isinstance(a, torch.Tensor) or hasattr(a, "dtype"):
        left, right = torch.as_tensor(a), torch.as_tensor(b)
        assert left.dtype == right.dtype, path
        assert torch.equal(left, right), path
    else:
        assert a == b, path


@pytest.mark.parametrize("runner", ["vector", "episode"])
@pytest.mark.parametrize("envs", [1, 5])
def test_steps_per_update_do_not_depend_on_runner_or_envs(
    runner: str, envs: int, tmp_path: Path
) -> None:
    words = (*small("qmix", runner), f"batch_size_run={envs}", "save_model=False")
    run, _ = trainer(tmp_path, "qmix", "matrix", *words)
    run.run()
    since = run.parts.buffer.learning_since
    assert since is not None
    assert run.n_updates == (run.t_env - since) // 16


def test_resuming_a_finished_run_adds_nothing(tmp_path: Path) -> None:
    run, _ = trainer(tmp_path, "qmix", "matrix", *SMALL)
    result = run.run()
    again, recorder = trainer(tmp_path, "qmix", "matrix", *SMALL)
    again.load(load_checkpoint(find_checkpoint(tmp_path)))
    assert again.run() == result
    assert recorder.rows == []


def test_a_finished_run_that_goes_on_tests_once_at_the_seam(tmp_path: Path) -> None:
    longer = [word.replace("t_max=1200", "t_max=2000") for word in SMALL]
    assert longer != list(SMALL)
    whole, every = trainer(tmp_path / "whole", "qmix", "matrix", *longer)
    whole.run()
    run, first = trainer(tmp_path / "part", "qmix", "matrix", *SMALL)
    run.run()
    more, second = trainer(tmp_path / "part", "qmix", "matrix", *longer)
    more.load(load_checkpoint(find_checkpoint(tmp_path / "part")))
    more.run()
    tests = [*first.curve("test_return_mean"), *second.curve("test_return_mean")]
    assert tests == every.curve("test_return_mean")


def test_a_new_run_from_a_checkpoint_begins_with_a_test_of_its_own(tmp_path: Path) -> None:
    run, _ = trainer(tmp_path, "qmix", "matrix", *SMALL)
    run.run()
    new, recorder = trainer(tmp_path / "new", "qmix", "matrix", *SMALL)
    new.load(load_checkpoint(find_checkpoint(tmp_path)), same_run=False)
    new.run()
    assert [t for t, _ in recorder.curve("test_return_mean")] == [new.t_env]


@pytest.mark.parametrize("when", ["learner says so", "nobody notices"])
def test_a_run_that_diverges_keeps_its_last_finite_checkpoint(tmp_path: Path, when: str) -> None:
    run, _ = trainer(tmp_path, "qmix", "matrix", *SMALL)
    learn = run.parts.learner.learn

    def diverge(batch: object, t_env: int) -> None:
        if t_env <= 900:
            learn(batch, t_env)
        elif when == "learner says so":
            raise DivergedError("loss is nan.")
        else:
            next(run.parts.policy.parameters()).data[0] = float("nan")

    run.parts.learner.learn = diverge
    with pytest.raises(DivergedError) as caught:
        run.run()
    text = str(caught.value)
    assert ("loss is nan." if when == "learner says so" else "policy.") in text
    kept = tmp_path / "checkpoints" / "latest"
    found = open_checkpoint(kept)
    assert 600 <= found.t_env < 900
    assert f"Its last finite checkpoint, of step {found.t_env}, is kept in {kept}" in text
    for checkpoint in tmp_path.glob("checkpoints/*"):
        assert first_not_finite(load_checkpoint(checkpoint)["policy"]) is None


def test_a_run_that_diverges_before_its_first_checkpoint_says_so(tmp_path: Path) -> None:
    run, _ = trainer(tmp_path, "qmix", "matrix", *SMALL)

    def diverge(batch: object, t_env: int) -> None:
        raise DivergedError("loss is nan.")

    run.parts.learner.learn = diverge
    with pytest.raises(DivergedError, match="It has no checkpoint"):
        run.run()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_a_sound_run_keeps_is_finite(tmp_path: Path, algorithm: str) -> None:
    run, _ = trainer(tmp_path, algorithm, "matrix", *small(algorithm), "t_max=300")
    run.run()
    run.save()
    assert first_not_finite(load_checkpoint(find_checkpoint(tmp_path))["learner"]) is None


def test_no_checkpoint_is_made_of_points_the_disk_does_not_have(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, recorder = trainer(tmp_path, "qmix", "matrix", *SMALL)
    recorder.flush = lambda: None  # type: ignore[method-assign, assignment, return-value]
    run.run()
    assert not (tmp_path / "checkpoints" / "latest").exists()
    assert "the disk does not have all points before it yet" in caplog.text


@pytest.mark.parametrize("config", ["qmix", "vdfd", "mappo", "happo"])
def test_a_learning_rate_given_on_resume_is_the_one_that_is_used(
    config: str, tmp_path: Path
) -> None:
    run, _ = trainer(tmp_path, config, "matrix", *small(config), "lr=0.001")
    run.run()
    for lr in (0.001, 0.25):
        again, _ = trainer(tmp_path, config, "matrix", *small(config), f"lr={lr}")
        again.load(load_checkpoint(find_checkpoint(tmp_path)))
        states = [r.parts.learner.state_dict() for r in (run, again)]
        assert lr in {group["lr"] for group in _found(states[1], "param_groups")}
        # What the optimisers have gathered is kept.
        _assert_equal(*(list(_found(state, "exp_avg")) for state in states))


def _found(state: object, key: str) -> Iterator[Any]:
    """Everything under a key anywhere in a state; the items of lists."""
    if isinstance(state, Mapping):
        for name, value in state.items():
            if name == key:
                yield from value if isinstance(value, list) else [value]
            yield from _found(value, key)
    elif isinstance(state, (list, tuple)):
        for value in state:
            yield from _found(value, key)


def test_networks_only_checkpoint_is_refused_for_training(tmp_path: Path) -> None:
    run, _ = trainer(tmp_path, "qmix", "matrix", *SMALL)
    run.run()
    state = load_checkpoint(tmp_path / "checkpoints" / "best")
    again, _ = trainer(tmp_path, "qmix", "matrix", *SMALL)
    with pytest.raises(CheckpointError, match="holds networks only"):
        again.load(state)


def test_checkpoint_of_another_config_is_refused(tmp_path: Path) -> None:
    run, _ = trainer(tmp_path, "qmix", "matrix", *SMALL)
    run.run()
    state = load_checkpoint(find_checkpoint(tmp_path))
    other, _ = trainer(tmp_path, "qmix", "matrix", *SMALL, "rnn_hidden_dim=32")
    with pytest.raises(CheckpointError, match="does not fit this config"):
        other.load(state)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_device_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="torch sees no CUDA device"):
        trainer(tmp_path, "qmix", "matrix", "device=cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("config", "env", "task"), TASKS)
def test_trains_on_cuda(config: str, env: str, task: str, tmp_path: Path) -> None:
    run, recorder = trainer(tmp_path, config, env, task, *small(config), "device=cuda")
    run.run()
    assert recorder.curve("loss")


def test_clock_does_not_pile_up() -> None:
    clock = Clock(interval=10, first=0)
    assert [t for t in (0, 3, 11, 12, 45, 46, 50) if clock.due(t)] == [0, 11, 45, 50]
