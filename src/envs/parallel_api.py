"""Teams in PettingZoo's parallel interface: dictionaries from agent names to values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EnvError
from .single import Seen
from .team import REWARD_OF_TEAM, TeamConfig, TeamSpaces


class ParallelTeam:
    """One environment with PettingZoo's parallel API.

    Agents that have left the game are not alive: they see zeros and have action 0 only, which is
    not passed on. Masks are taken from ``infos[agent]["action_mask"]``, or from an observation
    ``{"observation": ..., "action_mask": ...}``.

    Args:
        make: builds the environment from ``config.make_args``, as PettingZoo's ``parallel_env``
            functions do.
        config: time limit and reward.
    """

    def __init__(self, make: Callable[..., Any], config: TeamConfig) -> None:
        self._env = make(**config.make_args)
        self._config = config
        self._agents: list[str] = list(self._env.possible_agents)
        self._name = str(self._env.metadata.get("name", type(self._env).__name__))
        if not self._agents:
            raise EnvError(f"env {self._name} has no possible_agents")
        self._spaces = TeamSpaces(
            self._name,
            [_without_mask(self._env.observation_space(agent)) for agent in self._agents],
            [self._env.action_space(agent) for agent in self._agents],
        )
        self.spec = self._spaces.spec(config.time_limit, has_alive=True)
        N = self.spec.n_agents
        self._obs = np.zeros((N, self.spec.obs_dim), np.float32)
        self._avail_actions = np.zeros((N, self.spec.mask_dim), np.uint8)
        self._alive = np.zeros(N, bool)
        self._steps = 0

    def reset(self, seed: int) -> Seen:
        """Start an episode."""
        observations, infos = self._env.reset(seed=seed)
        self._steps = 0
        self._set_alive(set())
        return self._seen(observations, infos, 0.0, terminated=False, truncated=False)

    def step(self, actions: Sequence[Any]) -> Seen:
        """Take one action per agent (N); continuous ones are clipped to their bounds."""
        playing = set(self._env.agents)
        native = {
            agent: self._spaces.native(n, actions[n])
            for n, agent in enumerate(self._agents)
            if agent in playing
        }
        observations, rewards, ended, stopped, infos = self._env.step(native)
        self._steps += 1
        # Agents that left earlier earn nothing, but count in the mean.
        every = [float(rewards.get(agent, 0.0)) for agent in self._agents]
        total = REWARD_OF_TEAM[self._config.reward_scalarisation](every)
        over = all(ended.get(a, True) or stopped.get(a, False) for a in native)
        by_clock = {a for a in native if stopped.get(a, False) and not ended.get(a, False)}
        truncated = bool(by_clock) if over else self._steps >= self.spec.episode_limit
        terminated = (over and not by_clock) or (truncated and self._config.limit_terminates)
        # Whom only the clock stopped is still there in the last observation, whose value counts.
        self._set_alive(by_clock if over else set())
        return self._seen(observations, infos, total, terminated, truncated)

    def _seen(
        self,
        observations: Mapping[str, Any],
        infos: Mapping[str, Any],
        reward: float,
        terminated: bool,
        truncated: bool,
    ) -> Seen:
        self._obs[:] = 0
        for n, agent in enumerate(self._agents):
            observation = observations.get(agent)
            mask = infos.get(agent, {}).get("action_mask")
            if isinstance(observation, Mapping) and "action_mask" in observation:
                mask, observation = observation["action_mask"], observation["observation"]
            if observation is not None:
                self._spaces.vector(n, observation, out=self._obs[n])
            self._avail_actions[n] = self._available(n, mask)
        return Seen(
            obs=self._obs,
            state=self._obs.reshape(-1),
            avail_actions=self._avail_actions,
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            alive=self._alive,
            visibility=None,
            info={},
        )

    def _set_alive(self, stopped: set[str]) -> None:
        present = stopped | set(self._env.agents)
        self._alive[:] = [agent in present for agent in self._agents]

    def _available(self, n: int, mask: NDArray[Any] | None) -> NDArray[np.uint8]:
        """(A,) what agent ``n`` may do."""
        available: NDArray[np.uint8] = self._spaces.available[n].copy()
        if not self._alive[n]:
            available[1 if self.spec.choices else 0 :] = 0
        elif mask is not None:
            available[: len(mask)] &= np.asarray(mask).astype(bool)
        return available

    def describe(self) -> dict[str, Any]:
        """The environment's own name."""
        return {"key": self._name}

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


def _without_mask(space: Any) -> Any:
    """What an agent sees, where the space also announces a mask."""
    parts = getattr(space, "spaces", None)
    return parts["observation"] if isinstance(parts, dict) and "action_mask" in parts else space
