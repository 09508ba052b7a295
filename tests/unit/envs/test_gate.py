"""Whatever an environment hands over wrongly is named before anything is learnt from it."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from phalanx.envs.checker import check_env
from phalanx.envs.gate import gated
from phalanx.envs.matrix import MatrixGames
from phalanx.envs.protocol import Filmable, Timestep
from phalanx.errors import DivergedError, EnvError


class Spoilt(MatrixGames):
    """A table game of two steps with one fault, from its second step on in copy 1."""

    def __init__(self, spoil: Callable[[Timestep], Timestep], num_envs: int = 3) -> None:
        super().__init__(MatrixGames.Config(), num_envs=num_envs, seed=0)
        self._spoil, self._t = spoil, 0

    def step(self, actions: Any) -> Timestep:
        self._t += 1
        seen = super().step(actions)
        return self._spoil(seen) if self._t == 2 else seen


def put(field: str, at: tuple[int, ...], value: float) -> Callable[[Timestep], Timestep]:
    def spoil(seen: Timestep) -> Timestep:
        array = getattr(seen, field).copy()
        array[at] = value
        return seen._replace(**{field: array})

    return spoil


def play(spoil: Callable[[Timestep], Timestep]) -> None:
    env = gated(lambda: Spoilt(spoil), "spoilt")
    env.reset()
    for _ in range(2):
        env.step(np.zeros((3, 2), np.int64))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (put("reward", (1,), np.nan), "env spoilt, copy 1, step 2: the reward is nan"),
        (
            put("obs", (1, 0, 2), np.inf),
            "env spoilt, copy 1, step 2, agent 0, number 2: the observation is inf",
        ),
        (put("state", (2, 1), -np.inf), "env spoilt, copy 2, step 2, number 1: the state is -inf"),
    ],
)
def test_the_first_number_that_is_not_finite_is_named(
    spoil: Callable[[Timestep], Timestep], words: str
) -> None:
    with pytest.raises(DivergedError) as caught:
        play(spoil)
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda seen: seen._replace(obs=seen.obs[:, :1]),
            r"obs is float32\(3, 1, 3\): it must be a numpy float32\(3, 2, 3\)",
        ),
        (lambda seen: seen._replace(reward=np.float32(1)), r"reward is <class 'numpy.float32'>"),
        (lambda seen: seen._replace(info={"won": np.zeros(2)}), r"info\['won'\] has shape \(2,\)"),
        (put("avail_actions", (1, 1), 0), "copy 1, step 2: agent 1 has no available action"),
    ],
)
def test_wrong_shapes_and_empty_masks_are_named(
    spoil: Callable[[Timestep], Timestep], words: str
) -> None:
    with pytest.raises(EnvError, match=words):
        play(spoil)


def test_its_own_exceptions_name_file_and_line() -> None:
    def explode(seen: Timestep) -> Timestep:
        raise KeyError("gold")

    with pytest.raises(
        EnvError, match=r"failed in step\(\): KeyError: 'gold' \(.*test_gate.py:\d+ in ex"
    ):
        play(explode)

    def refuse() -> MatrixGames:
        raise SystemExit(0)

    with pytest.raises(
        EnvError, match=r"env sad could not be built: SystemExit: 0 \(.*test_gate.py"
    ):
        gated(refuse, "sad")
    with pytest.raises(EnvError, match="has no attribute `spec`"):
        gated(object, "sad")  # type: ignore[arg-type]


def test_a_fault_in_close_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Clinging(MatrixGames):
        def close(self) -> None:
            raise OSError("still there")

    env = gated(functools.partial(Clinging, MatrixGames.Config(), num_envs=1, seed=0), "clinging")
    with caplog.at_level(logging.WARNING, "phalanx.envs"):
        env.close()
        env.close()
    (record,) = caplog.records
    assert "env clinging failed in close(): OSError: still there (" in record.getMessage()


def test_steps_are_counted_across_a_checkpoint() -> None:
    env = gated(lambda: Spoilt(put("reward", (0,), np.nan)), "spoilt")
    env.reset()
    env.step(np.zeros((3, 2), np.int64))
    other = gated(lambda: Spoilt(put("reward", (0,), np.nan)), "spoilt")
    other.load_state_dict(env.state_dict())
    other.step(np.zeros((3, 2), np.int64))
    with pytest.raises(DivergedError, match="copy 0, step 3"):
        other.step(np.zeros((3, 2), np.int64))


def test_only_what_can_be_filmed_looks_like_it() -> None:
    env = gated(functools.partial(MatrixGames, MatrixGames.Config(), num_envs=1, seed=0), "matrix")
    assert not isinstance(env, Filmable)


def test_the_checker_lists_what_an_environment_raises() -> None:
    class Failing(MatrixGames):
        def step(self, actions: Any) -> Timestep:
            raise ZeroDivisionError("no dice")

    with pytest.raises(EnvError, match=r"Failing breaks the .*:\n  - env Failing failed: ZeroDiv"):
        check_env(functools.partial(Failing, MatrixGames.Config()))
