"""Copies of single environments: equal results everywhere, faults contained, checkpoints exact."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phalanx.envs.adapter import LiftedConfig, LiftedEnv
from phalanx.envs.protocol import Timestep
from phalanx.envs.single import SingleEnv
from phalanx.errors import EnvError

from ...patience import HANGS
from .fakes import Refusing, Unrepeatable, Walk

Lift = Callable[..., LiftedEnv]


@pytest.fixture
def lift() -> Iterator[Lift]:
    made: list[LiftedEnv] = []

    def build(
        make: Callable[[], SingleEnv] = Walk, num_envs: int = 2, seed: int = 3, **keys: Any
    ) -> LiftedEnv:
        made.append(LiftedEnv(make, num_envs=num_envs, seed=seed, config=LiftedConfig(**keys)))
        return made[-1]

    yield build
    for env in made:
        env.close()


def snapshot(seen: Timestep) -> list[np.ndarray]:
    arrays = [a for a in seen[:-1] if a is not None] + list(seen.info.values())
    return [a.copy() for a in arrays]


def actions_at(t: int, num_envs: int) -> np.ndarray:
    """(B, N) the same for a copy whatever B is."""
    return np.array([[(t + b) % 4, (2 * t + b) % 4] for b in range(num_envs)])


def play(env: LiftedEnv, steps: int, since: int = 0, reset: bool = True) -> list[list[np.ndarray]]:
    """What was seen, restarting finished copies."""
    trace = [snapshot(env.reset())] if reset else []
    for t in range(since, since + steps):
        seen = env.step(actions_at(t, env.num_envs))
        trace.append(snapshot(seen))
        over = seen.terminated | seen.truncated
        if over.any():
            trace.append(snapshot(env.reset(over)))
    return trace


def assert_same(left: list[list[np.ndarray]], right: list[list[np.ndarray]]) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


def test_processes_give_what_one_process_gives(lift: Lift) -> None:
    assert_same(play(lift(), 30), play(lift(processes=True), 30))


def test_a_copy_does_not_depend_on_how_many_there_are(lift: Lift) -> None:
    many, one = lift(num_envs=3), lift(num_envs=1)
    many.reset(), one.reset()
    for t in range(30):
        a, b = many.step(actions_at(t, 3)), one.step(actions_at(t, 1))
        np.testing.assert_array_equal(a.obs[0], b.obs[0])
        over = a.terminated | a.truncated
        assert over[0] == (b.terminated | b.truncated)[0]
        many.reset(over), one.reset(over[:1])


def test_episodes_differ_and_seeds_differ(lift: Lift) -> None:
    env, other = lift(num_envs=2), lift(num_envs=2, seed=4)
    first = env.reset().obs.copy()
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first, env.reset().obs)
    assert not np.array_equal(first, other.reset().obs)


def test_outputs_are_written_in_place(lift: Lift) -> None:
    env = lift()
    assert env.reset().obs is env.step(actions_at(0, 2)).obs


def test_finished_copies_wait_for_their_reset(lift: Lift) -> None:
    env = lift(num_envs=1)
    seen = env.reset()
    while not (seen.terminated | seen.truncated)[0]:
        seen = env.step(actions_at(0, 1))
    last = snapshot(seen)
    assert_same([last], [snapshot(env.step(actions_at(1, 1)))])
    assert seen.info["won"][0] == 1
    assert env.reset().info["won"][0] == 0


@pytest.mark.parametrize("processes", [False, True])
def test_a_checkpoint_continues_exactly(lift: Lift, processes: bool) -> None:
    env, resumed = lift(processes=processes), lift(processes=processes, seed=0)
    play(env, 13)
    state = env.state_dict()
    resumed.load_state_dict(state)
    assert_same(play(env, 20, 13, reset=False), play(resumed, 20, 13, reset=False))


def test_a_replay_that_arrives_elsewhere_breaks_the_episode(
    lift: Lift, caplog: pytest.LogCaptureFixture
) -> None:
    env, resumed = lift(Unrepeatable, num_envs=1), lift(Unrepeatable, num_envs=1)
    env.reset()
    before = env.step(actions_at(0, 1)).obs.copy()
    resumed.load_state_dict(env.state_dict())
    assert "did not lead back" in caplog.text
    seen = resumed.step(actions_at(1, 1))
    assert seen.terminated[0]
    assert seen.info["broken"][0]
    np.testing.assert_array_equal(seen.obs, before)
    assert not resumed.reset(np.array([True])).info["broken"][0]
    assert not resumed.step(actions_at(0, 1)).terminated[0]


@pytest.mark.parametrize(
    ("fault", "words"),
    [("raise", "ZeroDivisionError"), ("exit", "exit code 7"), ("hang", "no answer within")],
)
def test_a_fault_costs_one_episode(
    lift: Lift, tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: Any, words: str
) -> None:
    flag = tmp_path / "faults"
    flag.write_text(".")
    make = functools.partial(Walk, fault, "step", str(flag))
    env = lift(make, num_envs=1, processes=True, step_timeout=3.0 if fault == "hang" else 300.0)
    env.reset()
    before = env.step(actions_at(0, 1)).obs.copy()
    seen = env.step(actions_at(1, 1))
    assert seen.terminated[0]
    assert seen.info["broken"][0]
    assert seen.reward[0] == 0
    np.testing.assert_array_equal(seen.obs, before)
    assert words in caplog.text
    assert "environment 0 (episode 0, seed " in caplog.text
    assert "failed at step 2" in caplog.text
    env.reset()
    for t in range(3):
        assert not env.step(actions_at(t, 1)).info["broken"].any()


def test_a_reset_that_fails_is_tried_again(lift: Lift, tmp_path: Path) -> None:
    flag = tmp_path / "faults"
    flag.write_text("..")
    env = lift(functools.partial(Walk, "exit", "reset", str(flag)), num_envs=1, processes=True)
    seen = env.reset()
    assert not seen.terminated[0]
    assert not seen.info["broken"][0]


def test_one_faulty_copy_leaves_the_others_alone(lift: Lift, tmp_path: Path) -> None:
    flag = tmp_path / "faults"
    flag.write_text(".")
    env = lift(functools.partial(Walk, "exit", "step", str(flag)), num_envs=2, processes=True)
    env.reset()
    env.step(actions_at(0, 2))
    seen = env.step(actions_at(1, 2))
    assert seen.info["broken"].sum() == 1
    well = int(np.flatnonzero(~seen.info["broken"])[0])
    before = seen.obs[well].copy()
    env.reset(seen.info["broken"])
    np.testing.assert_array_equal(env._obs[well], before)


def test_a_copy_that_always_fails_is_given_up(lift: Lift) -> None:
    env = lift(functools.partial(Walk, "raise"), num_envs=1, processes=True, max_failures=2)
    with pytest.raises(EnvError, match=r"failure 2 in a row of this copy \(max_failures=2\)"):
        play(env, 10)


def test_a_fault_in_this_process_names_copy_and_seed(lift: Lift) -> None:
    env = lift(functools.partial(Walk, "raise"), num_envs=1)
    with pytest.raises(EnvError, match=r"environment 0 \(episode 0, seed \d+\) failed at step 2"):
        play(env, 10)


def test_a_refusal_is_passed_on_as_it_is(lift: Lift) -> None:
    with pytest.raises(EnvError, match=r"^no such map$"):
        lift(Refusing, num_envs=1, processes=True)


def test_what_cannot_be_pickled_is_refused(lift: Lift) -> None:
    with pytest.raises(EnvError, match="module-level class or function"):
        lift(lambda: Walk(), num_envs=1, processes=True)


def test_wrong_action_shape_is_refused(lift: Lift) -> None:
    env = lift()
    env.reset()
    with pytest.raises(EnvError, match=r"\(2, 2\), got \(2, 3\)"):
        env.step(np.zeros((2, 3), np.int64))


def test_closing_twice_leaves_no_process(lift: Lift) -> None:
    env = lift(num_envs=1, processes=True)
    pid = env.describe()["pid"]
    assert _alive(pid)
    env.close()
    env.close()
    assert not _alive(pid)


@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
@pytest.mark.parametrize("ending", ["SIGKILL", "SIGINT", "exit"])
def test_children_die_with_their_parent(tmp_path: Path, ending: str) -> None:
    """Even a child that hangs in its game."""
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(f"""
        import functools, signal, sys
        # A background job starts with SIGINT ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.path.insert(0, {str(Path(__file__).parents[3])!r})
        import numpy as np
        from tests.unit.envs.fakes import Walk
        from phalanx.envs.adapter import LiftedConfig, LiftedEnv

        if __name__ == "__main__":
            env = LiftedEnv(functools.partial(Walk, "hang"), num_envs=1, seed=0,
                            config=LiftedConfig(processes=True))
            print(env.describe()["pid"], flush=True)
            env.reset()
            env.step(np.zeros((1, 2), np.int64))
            if {ending!r} == "exit":
                sys.exit()
            env.step(np.zeros((1, 2), np.int64))
        """)
    )
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert _alive(child)
    if ending != "exit":
        time.sleep(0.5)
        parent.send_signal(getattr(signal, ending))
    parent.wait(HANGS)
    parent.stdout.close()
    deadline = time.monotonic() + HANGS
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _alive(child)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie that nobody has collected yet is dead.
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
