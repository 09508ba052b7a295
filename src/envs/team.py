"""Facts and padding shared by the adapters to Gymnasium and PettingZoo teams."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..errors import EnvError
from .adapter import LiftedConfig
from .protocol import Box, Discrete, EnvSpec

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
        self._actions = list(actions)
        self.action = _common(name, self._actions)
        self._spaces = list(observations)
        try:
            sizes = [int(spaces.flatdim(space)) for space in observations]
        except (ValueError, NotImplementedError) as error:
            raise EnvError(
                f"env {name} has an observation space that cannot be made a vector: {error}"
            ) from error
        self.n_agents = len(sizes)
        self.obs_dim = max(sizes)
        # Continuous actions need no mask, their spaces are all alike.
        choices = [int(getattr(space, "n", 0)) for space in actions]
        self.available = np.zeros((self.n_agents, max(choices)), np.uint8)
        for agent, n in enumerate(choices):
            self.available[agent, :n] = 1
        kinds = list(zip(sizes, choices, strict=True))
        order = list(dict.fromkeys(kinds))
        self._groups = tuple(order.index(kind) for kind in kinds) if len(order) > 1 else None

    def spec(self, episode_limit: int, has_alive: bool = False) -> EnvSpec:
        """The team as everything else sees it; the state is all observations in a row."""
        return EnvSpec(
            n_agents=self.n_agents,
            obs_dim=self.obs_dim,
            state_dim=self.n_agents * self.obs_dim,
            action=self.action,
            episode_limit=episode_limit,
            agent_groups=self._groups,
            has_alive=has_alive,
        )

    def vector(self, agent: int, observation: Any, out: NDArray[np.float32]) -> None:
        """Write one agent's observation into ``out`` (O,), zeros behind it."""
        flat = np.asarray(self._flatten(self._spaces[agent], observation), np.float32)
        out[: flat.size] = flat
        out[flat.size :] = 0

    def native(self, agent: int, action: Any) -> Any:
        """An action as the library has it: ``Discrete`` may start anywhere, ``Box`` has bounds."""
        space = self._actions[agent]
        if isinstance(self.action, Discrete):
            return int(action) + int(space.start)
        return np.clip(np.asarray(action, space.dtype), space.low, space.high)


def _common(name: str, actions: Sequence[Any]) -> Discrete | Box:
    """The action space that covers those of all agents."""
    from gymnasium import spaces

    if all(isinstance(space, spaces.Discrete) for space in actions):
        return Discrete(max(int(space.n) for space in actions))
    first = actions[0]
    if all(isinstance(space, spaces.Box) and space.is_bounded() for space in actions):
        if len(first.shape) == 1 and all(space == first for space in actions):
            return Box(tuple(first.low.tolist()), tuple(first.high.tolist()))
        raise EnvError(
            f"env {name} offers agents different continuous actions "
            f"({', '.join(_short(space) for space in actions)}); phalanx needs the same vector for all"
        )
    odd = next((a for a in actions if not isinstance(a, spaces.Discrete)), first)
    raise EnvError(
        f"env {name} offers actions {_short(odd)}; phalanx needs discrete actions, one Discrete(n) for "
        "each agent, or the same bounded vector Box for all"
    )


def _short(space: Any) -> str:
    """``Box(2)`` rather than all its bounds."""
    shape = getattr(space, "shape", None)
    return f"{type(space).__name__}({', '.join(map(str, shape))})" if shape else str(space)
