"""The multi-robot warehouse: robots fetch requested shelves, deliver them, and bring them back."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..errors import EnvError, did_you_mean
from ..registry import ENVS, require
from .adapter import LiftedEnv
from .copies import LocalCopies
from .gymma import GymTeam
from .protocol import Player
from .single import Seen
from .team import REWARD_OF_TEAM, TeamConfig
from .warehouse import Dispatcher


class WarehouseConfig(TeamConfig):
    """Keys of the environment."""

    key: str = Field(
        "rware-tiny-2ag-v2",
        min_length=1,
        description="task: rware-<tiny|small|medium|large>-<agents>ag[-easy|-hard]-v2; easy has two requests "
        "per agent, hard one per two",
    )
    time_limit: int = Field(500, ge=1, description="most steps an episode can last")
    shaping: float = Field(
        0.0,
        ge=0,
        description="weight of a training signal that is no delivery: per step 0.006 for standing on a "
        "requested shelf with a load, 0.003 without one, 0.001 for one in sight; what counts is `deliveries`",
    )


def shaped_reward(loaded: bool, on_requested: bool, sees_requested: bool) -> float:
    """What an agent earns beside deliveries with ``shaping=1`` (as in the code of AlberDICE and MADS4)."""
    standing = (0.006 if loaded else 0.003) if on_requested else 0.0
    return standing + (0.001 if sees_requested else 0.0)


class WarehouseTeam(GymTeam):
    """One warehouse.

    The state is x, y and direction (0 to 3: up, down, left, right) of each agent, then x and y of each
    requested shelf, 3 N + 2 R numbers. The team's reward is what its robots deliver. Only the clock ends an
    episode.
    """

    def __init__(self, key: str, config: WarehouseConfig) -> None:
        # Its own clock calls its end a termination; ours says truly that only time ran out.
        endless = {"max_steps": None, **config.make_args}
        super().__init__(key, config.model_copy(update={"make_args": endless}))
        self._shaping = config.shaping
        self._scalar = REWARD_OF_TEAM[config.reward_scalarisation]
        self.game: Any = self._env.unwrapped
        requests = self.game.request_queue_size
        if not requests:
            self.close()
            raise EnvError(f"env {key} requests no shelf at all: choose more agents, or not -hard.")
        self.spec = replace(
            self.spec,
            state_dim=3 * self.spec.n_agents + 2 * requests,
            obs_bound=float(max(self.game.grid_size)),
            state_is_obs=False,
        )
        self._deliveries = 0.0

    def reset(self, seed: int) -> Seen:
        """Start an episode."""
        self._deliveries = 0.0
        return self._told(super().reset(seed))

    def step(self, actions: Sequence[Any]) -> Seen:
        """Take one action per agent (N)."""
        seen = super().step(actions)
        N = self.spec.n_agents
        team = 1 if self._config.reward_scalarisation == "sum" else N
        self._deliveries += seen.reward * team
        if self._shaping:
            earned = self._shaping * self._scalar(
                [self._shaped(agent) for agent in self.game.agents]
            )
            seen = seen._replace(reward=seen.reward + earned)
        return self._told(seen)

    def _told(self, seen: Seen) -> Seen:
        return seen._replace(
            state=self._state(), info={**seen.info, "deliveries": self._deliveries}
        )

    def _state(self) -> NDArray[np.float32]:
        agents = [number for a in self.game.agents for number in (a.x, a.y, a.dir.value)]
        shelves = [number for s in self.game.request_queue for number in (s.x, s.y)]
        return np.array([*agents, *shelves], np.float32)

    def _shaped(self, agent: Any) -> float:
        places = [(shelf.x, shelf.y) for shelf in self.game.request_queue]
        near = self.game.sensor_range
        return shaped_reward(
            agent.carrying_shelf is not None,
            (agent.x, agent.y) in places,
            any(max(abs(x - agent.x), abs(y - agent.y)) <= near for x, y in places),
        )

    def describe(self) -> dict[str, Any]:
        """Which task, from which versions, and what its rewards are."""
        return {**super().describe(), "shaping": self._shaping}


@ENVS.register("rware")
class WarehouseEnv(LiftedEnv):
    """The multi-robot warehouse (Papoudakis et al., 2021), from the package rware."""

    Config = WarehouseConfig

    def __init__(self, config: WarehouseConfig, *, num_envs: int, seed: int) -> None:
        require("rware", "rware", "env rware")
        self._key = config.key
        key = f"rware:{config.key.removeprefix('rware:')}"
        make = functools.partial(WarehouseTeam, key, config)
        super().__init__(make, num_envs=num_envs, seed=seed, config=config)

    def players(self) -> Mapping[str, str]:
        """The dispatcher, where the warehouses are in this process."""
        if not isinstance(self._copies, LocalCopies):
            return {}
        return {
            "dispatcher": "sends each robot to the nearest requested shelf, to the goal, and to the nearest "
            "empty place; who is in the way is pushed aside"
        }

    def player(self, name: str, seed: int) -> Player:
        """The dispatcher, for all warehouses."""
        there = self.players()
        if name not in there:
            raise EnvError(
                f"no player {name!r} in {self._key}.{did_you_mean(name, there)} "
                f"There are: {', '.join(there) or 'none, with processes=True'}."
            )
        assert isinstance(self._copies, LocalCopies)
        games = [env.game for env in self._copies.envs if isinstance(env, WarehouseTeam)]
        dispatchers = [Dispatcher(game, seed + i) for i, game in enumerate(games)]

        def play() -> NDArray[np.int64]:
            return np.array([dispatcher() for dispatcher in dispatchers], np.int64)

        return play
