"""Teams in Gymnasium's interface with tuples, one entry per agent (EPyMARL's ``gymma``)."""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np
from pydantic import Field

from ..errors import EnvError, MissingDependencyError, did_you_mean
from ..registry import ENVS, require
from .adapter import LiftedEnv
from .single import Seen
from .team import REWARD_OF_TEAM, TeamConfig, TeamSpaces


class GymTeam:
    """One Gymnasium environment whose observations, actions and rewards are tuples over agents.

    Args:
        key: ``module:Name-v0``, or ``Name-v0`` of something registered already.
        config: time limit and reward.
    """

    def __init__(self, key: str, config: TeamConfig) -> None:
        gymnasium = require("gymnasium", "gymma", f"env {key}")
        self._key, self._config = key, config
        self._env = _make(gymnasium, key, config)
        observations, actions = self._env.observation_space, self._env.action_space
        for what, space in (("observations", observations), ("actions", actions)):
            if not isinstance(space, gymnasium.spaces.Tuple):
                self.close()
                raise EnvError(
                    f"env {key} offers {what} {type(space).__name__}; env gymma needs "
                    "gymnasium.spaces.Tuple with one entry per agent"
                )
        self._spaces = TeamSpaces(key, list(observations), list(actions))
        self.spec = self._spaces.spec(config.time_limit)
        self._obs = np.zeros((self.spec.n_agents, self.spec.obs_dim), np.float32)
        self._steps = 0

    def reset(self, seed: int) -> Seen:
        """Start an episode."""
        observations, _ = self._env.reset(seed=seed)
        self._steps = 0
        return self._seen(observations, 0.0, terminated=False, truncated=False)

    def step(self, actions: Sequence[Any]) -> Seen:
        """Take one action per agent (N)."""
        native = tuple(self._spaces.native(n, a) for n, a in enumerate(actions))
        observations, rewards, terminated, truncated, _ = self._env.step(native)
        self._steps += 1
        total = REWARD_OF_TEAM[self._config.reward_scalarisation](np.ravel(rewards).tolist())
        ended = bool(np.all(terminated))
        stopped = not ended and (bool(np.all(truncated)) or self._steps >= self.spec.episode_limit)
        ended |= stopped and self._config.limit_terminates
        return self._seen(observations, total, ended, stopped)

    def _seen(
        self, observations: Sequence[Any], reward: float, terminated: bool, truncated: bool
    ) -> Seen:
        for agent, observation in enumerate(observations):
            self._spaces.vector(agent, observation, out=self._obs[agent])
        return Seen(
            obs=self._obs,
            state=self._obs.reshape(-1),
            avail_actions=self._spaces.available,
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            alive=None,
            visibility=None,
            info={},
        )

    def describe(self) -> dict[str, Any]:
        """Which task, from which versions."""
        facts = {"key": self._key}
        for package in ("gymnasium", self._key.partition(":")[0].partition(".")[0]):
            with contextlib.suppress(metadata.PackageNotFoundError):
                facts[package] = metadata.version(package)
        return facts

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


def _make(gymnasium: Any, key: str, config: TeamConfig) -> Any:
    module, _, name = key.rpartition(":")
    try:
        if module:
            importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"env {key}: the module {module!r} cannot be imported ({error}). Install the package "
            "that provides it."
        ) from error
    try:
        spec = copy.deepcopy(gymnasium.spec(name))
    except gymnasium.error.Error as error:
        hint = did_you_mean(name, gymnasium.registry)
        raise EnvError(
            f"Gymnasium knows no environment {name!r}.{hint} Write key=module:Name-v0, so that the "
            f"module that registers it is imported first ({error})"
        ) from error
    arguments = dict(config.make_args)
    if "max_episode_steps" in spec.kwargs:
        # The game has a clock of its own and calls its end a termination; ours stops it first, and
        # says truly that only time ran out.
        arguments.setdefault("max_episode_steps", config.time_limit + 1)
    spec.kwargs.update(arguments)
    # No clock of Gymnasium's either; its passive checker objects to tuples of rewards.
    spec.max_episode_steps = None
    spec.disable_env_checker = True
    try:
        return gymnasium.make(spec)
    except (TypeError, ImportError) as error:
        raise EnvError(
            f"env {key} could not be built with make_args={config.make_args}: {error}"
        ) from error


@ENVS.register("gymma")
class GymmaEnv(LiftedEnv):
    """Any Gymnasium team with tuples of observations and actions, chosen by ``key``."""

    class Config(TeamConfig):
        key: str = Field(
            min_length=1, description="module:Name-v0, e.g. lbforaging:Foraging-8x8-2p-3f-v3"
        )

    def __init__(self, config: Config, *, num_envs: int, seed: int) -> None:
        make = functools.partial(GymTeam, config.key, config)
        super().__init__(make, num_envs=num_envs, seed=seed, config=config)
