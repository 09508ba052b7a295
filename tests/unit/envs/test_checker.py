"""The checker passes every registered environment and finds planted mistakes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from phalanx.envs.checker import check_env
from phalanx.envs.matrix import MatrixGames
from phalanx.envs.protocol import Timestep
from phalanx.errors import EnvError, MissingDependencyError
from phalanx.registry import ENVS, PartConfig

SMALL: dict[str, dict[str, Any]] = {
    "gymma": {"key": "lbforaging:Foraging-5x5-2p-1f-v3", "time_limit": 12},
    "lbf": {"key": "Foraging-5x5-3p-1f-v3", "time_limit": 12},
    "mamujoco": {"time_limit": 12},
    "rware": {"time_limit": 12},
    "pettingzoo": {"key": "mpe2.simple_spread_v3", "time_limit": 12},
    "sc2": {"map_name": "3m", "engine": "embedded"},
}


@pytest.mark.parametrize("name", ENVS.names())
def test_registered_environments_keep_the_protocol(name: str) -> None:
    env_class = ENVS.get(name)
    make = functools.partial(env_class, env_class.Config(**SMALL.get(name, {})))
    try:
        make(num_envs=1, seed=0).close()
    except MissingDependencyError as error:
        pytest.skip(str(error))
    check_env(make)


class Faulty(MatrixGames):
    """A matrix game with one mistake, which a subclass makes."""

    Config: type[PartConfig] = MatrixGames.Config

    def _timestep(self) -> Timestep:
        self.random = getattr(self, "random", None) or np.random.default_rng(self.seed)
        return self.spoil(super()._timestep())

    def spoil(self, seen: Timestep) -> Timestep:
        raise NotImplementedError


def _lonely(seen: Timestep) -> Timestep:
    seen.avail_actions[1, 0] = 0
    return seen


SPOILERS: dict[str, tuple[Callable[[Faulty, Timestep], Timestep], str]] = {
    "dtype": (
        lambda env, seen: seen._replace(obs=seen.obs.astype(np.float64)),
        r"obs is float64\(3, 2, 3\): it must be a numpy float32\(3, 2, 3\)",
    ),
    "shape": (
        lambda env, seen: seen._replace(reward=seen.reward[:, None]),
        r"reward is float32\(3, 1\)",
    ),
    "no action": (
        lambda env, seen: _lonely(seen),
        "agent 0 of copy 1 has no available action after reset",
    ),
    "nan": (
        lambda env, seen: seen._replace(reward=seen.reward * np.float32("nan")),
        "reward holds nan",
    ),
    "endless": (
        lambda env, seen: seen._replace(terminated=np.zeros(env.num_envs, bool)),
        "goes on after spec.episode_limit = 2",
    ),
    "restless": (
        lambda env, seen: seen._replace(
            state=env.random.random(seen.state.shape).astype(np.float32)
        ),
        "state of a finished copy changes",
    ),
    "batch": (
        lambda env, seen: seen._replace(reward=seen.reward + env.num_envs),
        "reward of copy 0 depends on how many copies",
    ),
    "promise": (
        lambda env, seen: seen._replace(alive=np.ones((env.num_envs, 2), bool)),
        "alive is given although spec.has_alive is False",
    ),
}


@pytest.mark.parametrize("mistake", SPOILERS)
def test_a_mistake_is_named(mistake: str) -> None:
    spoil, words = SPOILERS[mistake]
    faulty = type("Faulty", (Faulty,), {"spoil": spoil})
    with pytest.raises(EnvError, match=f"Faulty breaks the environment protocol:\n(.|\n)*{words}"):
        check_env(functools.partial(faulty, MatrixGames.Config()))


def test_unseeded_chance_is_named() -> None:
    random = np.random.default_rng()

    class Dice(Faulty):
        def spoil(self, seen: Timestep) -> Timestep:
            return seen._replace(reward=random.random(self.num_envs, np.float32))

    with pytest.raises(
        EnvError, match="reward differs between two environments with the same seed"
    ):
        check_env(functools.partial(Dice, MatrixGames.Config()))


def test_copies_that_are_numbered_wrongly_are_named() -> None:
    class Numberless(Faulty):
        def spoil(self, seen: Timestep) -> Timestep:
            return seen._replace(reward=seen.reward + np.arange(self.num_envs, dtype=np.float32))

    with pytest.raises(
        EnvError, match=r"reward of copy 2 of 3 is not that of a single copy after number_from\(2\)"
    ):
        check_env(functools.partial(Numberless, MatrixGames.Config()))


def test_a_forgotten_state_is_named() -> None:
    class Forgetful(MatrixGames):
        def state_dict(self) -> dict[str, Any]:
            return {"game": self}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.reset()

    with pytest.raises(
        EnvError, match=r"is a Forgetful: keep arrays(.|\n)*differs after state_dict"
    ):
        check_env(functools.partial(Forgetful, MatrixGames.Config()))


@pytest.mark.parametrize("layout", ["smac", "mappo"])
def test_states_of_the_battles_are_what_the_spec_says(layout: str) -> None:
    config = ENVS.get("sc2").Config(**SMALL["sc2"], obs_instead_of_state=True, layout=layout)
    make = functools.partial(ENVS.get("sc2"), config)
    check_env(make)
    env = make(num_envs=1, seed=0)
    assert env.spec.state_is_obs == (layout == "smac")
    env.close()


def test_a_state_that_is_not_all_observations_is_named() -> None:
    class Boastful(MatrixGames):
        def __init__(self, config: Any, **others: Any) -> None:
            super().__init__(config, **others)
            self.spec = replace(self.spec, state_is_obs=True)

    with pytest.raises(EnvError, match="state is not all observations in a row after reset"):
        check_env(functools.partial(Boastful, MatrixGames.Config()))
