"""Teams in Gymnasium's interface with tuples, one entry per agent (EPyMARL's ``gymma``)."""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..errors import EnvError, MissingDependencyError, did_you_mean, own_words
from ..registry import ENVS, require
from .adapter import LiftedEnv
from .answers import MASK, Metrics, masked, reset_of, shared_or_each, step_of
from .single import Seen
from .team import REWARD_OF_TEAM, TeamConfig, TeamSpaces


class GymTeam:
    """One Gymnasium environment whose observations, actions and rewards are tuples over agents.

    Rewards and ends may also be one for all. Masks are taken from ``info["action_mask"]``, one per agent;
    every other number of ``info`` is recorded as a metric.

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
        self._metrics = Metrics(key)
        self._obs = np.zeros((self.spec.n_agents, self.spec.obs_dim), np.float32)
        self._done = np.zeros(self.spec.n_agents, bool)
        self._steps = 0

    def reset(self, seed: int) -> Seen:
        """Start an episode."""
        observations, info = reset_of(self._key, self._env, seed)
        self._steps = 0
        self._done[:] = False
        return self._seen(observations, info, 0.0, terminated=False, truncated=False)

    def step(self, actions: Sequence[Any]) -> Seen:
        """Take one action per agent (N).

        The episode is over when every agent is done, terminated or truncated; it is truncated if any of
        them, the last time, only ran out of time.
        """
        N, name = self.spec.n_agents, self._key
        native = tuple(self._spaces.native(n, a) for n, a in enumerate(actions))
        observations, rewards, terminated, truncated, info = step_of(name, self._env, native)
        self._steps += 1
        total = REWARD_OF_TEAM[self._config.reward_scalarisation](
            shared_or_each(name, "rewards", rewards, N)
        )
        ended = np.array(shared_or_each(name, "`terminated`", terminated, N), bool)
        stopped = np.array(shared_or_each(name, "`truncated`", truncated, N), bool)
        self._done |= ended | stopped
        over, by_clock = bool(self._done.all()), bool((stopped & ~ended).any())
        out_of_time = not over and self._steps >= self.spec.episode_limit
        return self._seen(
            observations,
            info,
            total,
            terminated=(over and not by_clock) or (out_of_time and self._config.limit_terminates),
            truncated=(over and by_clock) or out_of_time,
        )

    def _seen(
        self,
        observations: Sequence[Any],
        info: Mapping[str, Any],
        reward: float,
        terminated: bool,
        truncated: bool,
    ) -> Seen:
        self._spaces.vectors(observations, out=self._obs)
        return Seen(
            obs=self._obs,
            state=self._obs.reshape(-1),
            avail_actions=self._available(info.get(MASK)),
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            alive=None,
            visibility=None,
            info=self._metrics.of(info),
        )

    def _available(self, masks: Any) -> NDArray[np.uint8]:
        """(N, A) what each agent may do; ``masks`` has one of its own for each, where it is given."""
        if masks is None:
            return self._spaces.available
        if len(masks) != self.spec.n_agents:
            raise EnvError(
                f"env {self._key}: info['{MASK}'] has {len(masks)} masks for {self.spec.n_agents} agents."
            )
        return np.stack(
            [
                masked(self._key, agent, available, self._spaces.choices(n), masks[n])
                for n, (agent, available) in enumerate(
                    zip(self._spaces.agents, self._spaces.available, strict=True)
                )
            ]
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
            f"that provides it, or name its file: plugins=[{module}.py]."
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
    except Exception as error:  # its constructor is a stranger's code
        raise EnvError(
            f"env {key} could not be built with make_args={config.make_args}: {own_words(error)}"
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
