"""Facts and padding shared by the adapters to Gymnasium and PettingZoo teams."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..errors import EnvError
from .adapter import LiftedConfig
from .protocol import Discrete, EnvSpec

Scalarisation = Literal["sum", "mean"]
REWARD_OF_TEAM: dict[Scalarisation, Callable[[Iterable[float]], float]] = {
    "sum": lambda rewards: float(sum(rewards)),
    "mean": lambda rewards: float(np.mean(list(rewards))),
}


class TeamConfig(LiftedConfig):
    """Keys that every team from another library reads."""

    time_limit: int = Field(50, ge=1, description="most steps an episode can last")
    limit_terminates: bool = Field(
        False,
        description="count time_limit as a real end (no value beyond it), as EPyMARL does",
    )
    common_reward: Literal[True] = Field(
        True, description="the team shares one reward; individual rewards are not offered"
    )
    reward_scalarisation: Scalarisation = Field(
        "sum", description="how the agents' rewards become the team's: sum | mean"
    )
    make_args: dict[str, Any] = Field(
        {}, description="further keyword arguments of the environment's constructor"
    )


class TeamSpaces:
    """Observation and action spaces of the agents, padded to the largest.

    Args:
        name: of the environment, for messages.
        observations: one space per agent (Gymnasium spaces).
        actions: one space per agent.
    """

    def __init__(self, name: str, observations: Sequence[Any], actions: Sequence[Any]) -> None:
        from gymnasium import spaces

        self._flatten = spaces.flatten
        for space in actions:
            if not isinstance(space, spaces.Discrete):
                raise EnvError(
                    f"env {name} offers actions {_short(space)}; phalanx needs discrete actions, "
                    "one Discrete(n) for each agent"
                )
        self._starts = [int(space.start) for space in actions]
        self._spaces = list(observations)
        try:
            sizes = [int(spaces.flatdim(space)) for space in observations]
        except (ValueError, NotImplementedError) as error:
            raise EnvError(
                f"env {name} has an observation space that cannot be made a vector: {error}"
            ) from error
        self.n_agents = len(sizes)
        self.obs_dim, self.n_actions = max(sizes), max(int(space.n) for space in actions)
        self.available = np.zeros((self.n_agents, self.n_actions), np.uint8)
        for agent, space in enumerate(actions):
            self.available[agent, : int(space.n)] = 1
        kinds = [(size, int(space.n)) for size, space in zip(sizes, actions, strict=True)]
        order = list(dict.fromkeys(kinds))
        self._groups = tuple(order.index(kind) for kind in kinds) if len(order) > 1 else None

    def spec(self, episode_limit: int, has_alive: bool = False) -> EnvSpec:
        """The team as everything else sees it; the state is all observations in a row."""
        return EnvSpec(
            n_agents=self.n_agents,
            obs_dim=self.obs_dim,
            state_dim=self.n_agents * self.obs_dim,
            action=Discrete(self.n_actions),
            episode_limit=episode_limit,
            agent_groups=self._groups,
            has_alive=has_alive,
        )

    def vector(self, agent: int, observation: Any, out: NDArray[np.float32]) -> None:
        """Write one agent's observation into ``out`` (O,), zeros behind it."""
        flat = np.asarray(self._flatten(self._spaces[agent], observation), np.float32)
        out[: flat.size] = flat
        out[flat.size :] = 0

    def native(self, agent: int, action: int) -> int:
        """The library's number of an action: ``Discrete`` spaces may start anywhere."""
        return action + self._starts[agent]


def _short(space: Any) -> str:
    """``Box(2)`` rather than all its bounds."""
    shape = getattr(space, "shape", None)
    return f"{type(space).__name__}({', '.join(map(str, shape))})" if shape else str(space)
