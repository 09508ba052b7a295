"""A plugin: an environment that takes its time for a step without using a core, as a game beside it does."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field

from phalanx.envs.adapter import LiftedConfig, LiftedEnv
from phalanx.envs.protocol import Discrete, EnvSpec
from phalanx.envs.single import Seen
from phalanx.registry import ENVS


class Sleeper:
    """Three agents see noise for 60 steps and are paid nothing."""

    def __init__(self, seconds: float) -> None:
        self.spec = EnvSpec(
            n_agents=3, obs_dim=30, state_dim=50, action=Discrete(9), episode_limit=60
        )
        self._seconds = seconds

    def reset(self, seed: int) -> Seen:
        """Start an episode."""
        self._rng, self._t = np.random.default_rng(seed), 0
        return self._seen()

    def step(self, actions: Sequence[int]) -> Seen:
        """Sleep."""
        time.sleep(self._seconds)
        self._t += 1
        return self._seen()

    def _seen(self) -> Seen:
        spec = self.spec
        return Seen(
            obs=self._rng.random((spec.n_agents, spec.obs_dim), np.float32),
            state=self._rng.random(spec.state_dim, np.float32),
            avail_actions=np.ones((spec.n_agents, spec.n_actions), np.uint8),
            reward=0.0,
            terminated=False,
            truncated=self._t >= spec.episode_limit,
            alive=None,
            visibility=None,
            info={},
        )

    def describe(self) -> dict[str, Any]:
        """How long it sleeps."""
        return {"seconds": self._seconds}

    def close(self) -> None:
        """Nothing to free."""


@ENVS.register("sleeping")
class SleepingEnv(LiftedEnv):
    """Noise that comes late."""

    class Config(LiftedConfig):
        step_ms: float = Field(5.0, ge=0, description="how long a step takes")

    def __init__(self, config: Config, *, num_envs: int, seed: int) -> None:
        make = functools.partial(Sleeper, config.step_ms / 1000)
        super().__init__(make, num_envs=num_envs, seed=seed, config=config)
