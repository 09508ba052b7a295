"""Teams in PettingZoo's parallel interface: dictionaries from agent names to values."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..errors import EnvError, did_you_mean
from .answers import MASK, Metrics, masked, number, reset_of, step_of
from .opponents import RandomPlayers, refuse_opposing
from .single import Seen
from .team import REWARD_OF_TEAM, TeamConfig, TeamSpaces


class ParallelConfig(TeamConfig):
    """Keys of every environment with PettingZoo's parallel API."""

    team: str = Field(
        "",
        description="agents that learn, as a name or pattern (adversary_*); the others act at random; "
        "* is all of them, '' all unless they are paid against each other",
    )


class ParallelTeam:
    """One environment with PettingZoo's parallel API.

    Agents that have left the game are not alive: they see zeros and have action 0 only, which is
    not passed on. Masks are taken from ``infos[agent]["action_mask"]``, or from an observation
    ``{"observation": ..., "action_mask": ...}``; every other number of ``infos[agent]`` is recorded as a
    metric, the mean over agents. Where ``config.team`` chooses some agents, the others act at random, and
    what they see and earn is not counted.

    Args:
        make: builds the environment from ``config.make_args``, as PettingZoo's ``parallel_env``
            functions do.
        config: time limit, reward and team.

    Raises:
        EnvError: there are no agents, none of the chosen name, or they are paid against each other.
    """

    def __init__(self, make: Callable[..., Any], config: ParallelConfig) -> None:
        self._env = make(**config.make_args)
        self._config = config
        self._name = _name(self._env)
        everyone: list[str] = list(getattr(self._env, "possible_agents", ()))
        if not everyone:
            raise EnvError(
                f"env {self._name} has no possible_agents. It must name all agents that can ever take part."
            )
        self._agents = _chosen(self._name, everyone, config.team)
        self._spaces = TeamSpaces(
            self._name,
            [_without_mask(self._env.observation_space(agent)) for agent in self._agents],
            [self._env.action_space(agent) for agent in self._agents],
            self._agents,
        )
        if not config.team:
            refuse_opposing(self._env, self._name, everyone, config)
        self._others = RandomPlayers(self._env, set(everyone) - set(self._agents))
        self._metrics = Metrics(self._name)
        self.spec = self._spaces.spec(config.time_limit, has_alive=True)
        N = self.spec.n_agents
        self._obs = np.zeros((N, self.spec.obs_dim), np.float32)
        self._avail_actions = np.zeros((N, self.spec.mask_dim), np.uint8)
        self._alive = np.zeros(N, bool)
        self._steps = 0

    def reset(self, seed: int) -> Seen:
        """Start an episode."""
        observations, infos = reset_of(self._name, self._env, seed)
        self._steps = 0
        self._others.reset(seed, observations, infos)
        self._set_alive(set())
        return self._seen(observations, infos, 0.0, terminated=False, truncated=False)

    def step(self, actions: Sequence[Any]) -> Seen:
        """Take one action per agent (N); continuous ones are clipped to their bounds.

        The episode is over when nobody of the team is left, or whoever is left is done.
        """
        playing = set(self._env.agents)
        native = {
            agent: self._spaces.native(n, actions[n])
            for n, agent in enumerate(self._agents)
            if agent in playing
        }
        acting = native | self._others.actions(playing)
        observations, rewards, ended, stopped, infos = step_of(self._name, self._env, acting)
        for what, answer in (("rewards", rewards), ("terminated", ended), ("truncated", stopped)):
            self._check_named(what, answer)
        self._steps += 1
        self._others.see(observations, infos)
        # Agents that left earlier earn nothing, but count in the mean.
        every = [
            number(self._name, f"the reward of {agent}", rewards.get(agent, 0.0))
            for agent in self._agents
        ]
        total = REWARD_OF_TEAM[self._config.reward_scalarisation](every)
        done = {a for a in self._agents if ended.get(a, False) or stopped.get(a, False)}
        over = not (set(self._agents) & set(self._env.agents)) - done
        by_clock = {a for a in self._agents if stopped.get(a, False) and not ended.get(a, False)}
        truncated = bool(by_clock) if over else self._steps >= self.spec.episode_limit
        terminated = (over and not by_clock) or (truncated and self._config.limit_terminates)
        # Whom only the clock stopped is still there in the last observation, whose value counts.
        self._set_alive(by_clock if over else set())
        return self._seen(observations, infos, total, terminated, truncated)

    def _check_named(self, what: str, answer: Any) -> None:
        if not isinstance(answer, Mapping):
            raise EnvError(
                f"env {self._name}: step() returned {what} that are a {type(answer).__name__}, not a "
                "dict with one entry per agent."
            )

    def _seen(
        self,
        observations: Mapping[str, Any],
        infos: Mapping[str, Any],
        reward: float,
        terminated: bool,
        truncated: bool,
    ) -> Seen:
        self._check_named("observations", observations)
        self._obs[:] = 0
        for n, agent in enumerate(self._agents):
            observation = observations.get(agent)
            mask = infos.get(agent, {}).get(MASK)
            if isinstance(observation, Mapping) and MASK in observation:
                mask, observation = observation[MASK], observation["observation"]
            if observation is not None:
                self._spaces.vector(n, observation, out=self._obs[n])
            elif self._alive[n]:
                raise EnvError(
                    f"env {self._name}: {agent} takes part, but was given no observation. There are those of "
                    f"{', '.join(map(str, observations)) or 'nobody'}."
                )
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
            info=self._metrics.of(*(infos[a] for a in self._agents if a in infos)),
        )

    def _set_alive(self, stopped: set[str]) -> None:
        present = stopped | set(self._env.agents)
        self._alive[:] = [agent in present for agent in self._agents]

    def _available(self, n: int, mask: Any) -> NDArray[np.uint8]:
        """(A,) what agent ``n`` may do."""
        available: NDArray[np.uint8] = self._spaces.available[n]
        if not self._alive[n]:
            available = available.copy()
            available[1 if self.spec.choices else 0 :] = 0
        elif mask is not None:
            available = masked(
                self._name, self._agents[n], available, self._spaces.choices(n), mask
            )
        return available

    def describe(self) -> dict[str, Any]:
        """The environment's own name, and who of it learns where not all do."""
        chosen = {"team": ", ".join(self._agents)} if self._config.team not in ("", "*") else {}
        return {"key": self._name, **chosen}

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


def _name(env: Any) -> str:
    return str((getattr(env, "metadata", None) or {}).get("name", type(env).__name__))


def _chosen(name: str, agents: list[str], pattern: str) -> list[str]:
    """Those of ``agents`` that ``pattern`` names."""
    chosen = [a for a in agents if fnmatch.fnmatchcase(a, pattern or "*")]
    if not chosen:
        raise EnvError(
            f"env {name} has no agent {pattern!r}.{did_you_mean(pattern, agents)} "
            f"It has: {', '.join(agents)}."
        )
    return chosen


def _without_mask(space: Any) -> Any:
    """What an agent sees, where the space also announces a mask."""
    parts = getattr(space, "spaces", None)
    return parts["observation"] if isinstance(parts, dict) and MASK in parts else space
