"""A PettingZoo environment of one's own: walkers on a line who want to meet."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete

STAY, LEFT, RIGHT = range(3)


class Rendezvous:
    """Walkers start anywhere on a line of ``length`` places and are paid when all stand on one.

    The parallel API is all that is needed; deriving from ``pettingzoo.ParallelEnv`` is not.

    Args:
        walkers: how many there are.
        length: places of the line.
    """

    metadata = {"name": "rendezvous_v0"}  # noqa: RUF012 - PettingZoo's convention

    def __init__(self, walkers: int = 2, length: int = 7) -> None:
        self.possible_agents = [f"walker_{n}" for n in range(walkers)]
        self._length = length

    def observation_space(self, agent: str) -> Box:
        """Where one stands, and where all others do, as shares of the line."""
        return Box(0.0, 1.0, (len(self.possible_agents),), np.float32)

    def action_space(self, agent: str) -> Discrete:
        """Stay, left, right."""
        return Discrete(3)

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        """Start an episode; one seed is one start."""
        self.agents = list(self.possible_agents)
        drawn = np.random.default_rng(seed).integers(self._length, size=len(self.agents))
        self._places = dict(zip(self.agents, drawn.tolist(), strict=True))
        return self._seen(), self._infos(met=False)

    def step(self, actions: dict[str, int]) -> tuple[Any, Any, Any, Any, Any]:
        """Everybody walks at once; a step costs a little, meeting ends the episode."""
        for agent, action in actions.items():
            self._places[agent] += (0, -1, 1)[action]
        met = len(set(self._places.values())) == 1
        everyone = self.agents
        seen, infos = self._seen(), self._infos(met)
        rewards = dict.fromkeys(everyone, 1.0 if met else -0.05)
        ended = dict.fromkeys(everyone, met)
        if met:
            self.agents = []  # whoever is not in this list has left
        # That time is up is for `time_limit` to say, so nobody is ever truncated here.
        return seen, rewards, ended, dict.fromkeys(everyone, False), infos

    def close(self) -> None:
        """Nothing is open."""

    def _seen(self) -> dict[str, Any]:
        at = np.array([self._places[agent] for agent in self.agents], np.float32)
        return {
            agent: np.roll(at, -n) / (self._length - 1)  # oneself first
            for n, agent in enumerate(self.agents)
        }

    def _infos(self, met: bool) -> dict[str, dict[str, Any]]:
        # `action_mask` says what may be done, here nothing beyond the ends of the line. Every number
        # beside it becomes a metric: `met_mean` and `test_met_mean` are the shares of episodes that end so.
        last = self._length - 1
        return {
            agent: {"action_mask": np.array([1, at > 0, at < last], np.int8), "met": float(met)}
            for agent, at in self._places.items()
        }
