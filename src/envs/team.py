"""Facts and padding shared by the adapters to Gymnasium and PettingZoo teams."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..errors import EnvError
from .adapter import LiftedConfig
from .protocol import Box, Discrete, EnvSpec, Mixed

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

    def __init__(
        self,
        name: str,
        observations: Sequence[Any],
        actions: Sequence[Any],
        agents: Sequence[str] | None = None,
    ) -> None:
        from gymnasium import spaces

        if len(observations) != len(actions):
            raise EnvError(
                f"env {name} has {len(observations)} observation spaces and {len(actions)} action spaces: "
                "each agent needs one of both."
            )
        self._name, self._flatten = name, spaces.flatten
        self.agents = list(agents or (f"agent {n}" for n in range(len(actions))))
        # Of plain boxes the shape is all there is to know.
        self._shapes = [
            tuple(space.shape) if isinstance(space, spaces.Box) else None for space in observations
        ]
        self._actions = [_parts(name, space) for space in actions]
        self.action = _common(self._actions)
        self._spaces = list(observations)
        try:
            sizes = [int(spaces.flatdim(space)) for space in observations]
        except (ValueError, NotImplementedError) as error:
            raise EnvError(
                f"env {name} has an observation space that cannot be made a vector: {error}"
            ) from error
        self.n_agents = len(sizes)
        self._sizes = sizes
        self.obs_dim = max(sizes)
        self._bound = max(_largest(space) for space in observations)
        kinds = [(size, a.n, len(a.low)) for size, a in zip(sizes, self._actions, strict=True)]
        order = list(dict.fromkeys(kinds))
        self._groups = tuple(order.index(kind) for kind in kinds) if len(order) > 1 else None
        spec = self.spec(1)
        self.available = np.zeros((self.n_agents, spec.mask_dim), np.uint8)
        for available, parts in zip(self.available, self._actions, strict=True):
            # Who has no choice among mixed ones still has the first.
            available[: max(parts.n, 1) if spec.choices else 0] = 1
            available[spec.choices :][: len(parts.low)] = 1

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
            obs_bound=self._bound if np.isfinite(self._bound) else None,
            state_is_obs=True,
        )

    def vector(self, agent: int, observation: Any, out: NDArray[np.float32]) -> None:
        """Write one agent's observation into ``out`` (O,), zeros behind it.

        Raises:
            EnvError: it has not the shape its space declares.
        """
        shape = self._shapes[agent]
        if shape is not None:
            seen = np.asarray(observation)
            if seen.shape != shape or seen.dtype.kind not in "fiub":
                raise self._contradiction(agent, observation)
            flat = seen.reshape(-1)
        else:
            try:
                flat = np.asarray(self._flatten(self._spaces[agent], observation), np.float32)
            except Exception as error:  # whatever the library stumbles over
                raise self._contradiction(agent, observation) from error
            if flat.shape != (self._sizes[agent],):
                raise self._contradiction(agent, observation)
        out[: flat.size] = flat
        out[flat.size :] = 0

    def _contradiction(self, agent: int, observation: Any) -> EnvError:
        array = None if isinstance(observation, Mapping | tuple) else np.asarray(observation)
        received = (
            type(observation).__name__
            if array is None or array.dtype == object
            else f"{array.dtype} of shape {array.shape}"
        )
        return EnvError(
            f"env {self._name}: {self.agents[agent]} declares observations "
            f"{_short(self._spaces[agent])}, but it was given {received}. Make the space and what reset() "
            "and step() return agree."
        )

    def vectors(self, observations: Any, out: NDArray[np.float32]) -> None:
        """Write the observations of all agents (N) into ``out`` (N, O).

        Raises:
            EnvError: there are more or fewer than agents, or one has not the shape its space declares.
        """
        try:
            given = len(observations)
        except TypeError:
            given = -1
        if given != self.n_agents:
            raise EnvError(
                f"env {self._name} has {self.n_agents} agents, but gave "
                f"{'no sequence of' if given < 0 else given} observations: one for each agent is needed, at "
                "all times."
            )
        for agent, observation in enumerate(observations):
            self.vector(agent, observation, out[agent])

    def choices(self, agent: int) -> int:
        """How many discrete choices an agent has, 0: none."""
        return self._actions[agent].n

    def native(self, agent: int, action: Any) -> Any:
        """An action as the library has it: choices may start anywhere, vectors have bounds."""
        parts = self._actions[agent]
        if isinstance(self.action, Discrete):
            return int(action) + parts.start
        numbers = np.asarray(action, np.float64)
        choice, vector = (
            (numbers[0], numbers[1:]) if isinstance(self.action, Mixed) else (0, numbers)
        )
        vector = np.clip(vector[: len(parts.low)], parts.low, parts.high).astype(parts.low.dtype)
        if not parts.n:
            return vector
        chosen = int(choice) + parts.start
        return chosen if not len(parts.low) else (chosen, vector)


class _Parts(NamedTuple):
    """An agent's action space."""

    n: int  # choices, 0: none
    start: int  # the library's number of the first one
    low: NDArray[Any]  # (D,) of the vector, D = 0: none
    high: NDArray[Any]


def _parts(name: str, space: Any) -> _Parts:
    from gymnasium import spaces

    nothing = np.empty(0, np.float32)
    if isinstance(space, spaces.Discrete):
        return _Parts(int(space.n), int(space.start), nothing, nothing)
    if isinstance(space, spaces.Box) and space.is_bounded() and len(space.shape) == 1:
        return _Parts(0, 0, space.low, space.high)
    if isinstance(space, spaces.Tuple) and len(space) == 2:
        choice, vector = (_parts(name, part) for part in space)
        if choice.n and not choice.low.size and not vector.n:
            return _Parts(choice.n, choice.start, vector.low, vector.high)
    raise EnvError(
        f"env {name} offers actions {_short(space)}; phalanx needs for each agent a Discrete(n), a bounded "
        "vector Box(D), or both as Tuple(Discrete, Box)"
    )


def _common(actions: Sequence[_Parts]) -> Discrete | Box | Mixed:
    """The action space that covers those of all agents."""
    choices = Discrete(max(parts.n for parts in actions))
    width = max(len(parts.low) for parts in actions)
    if not width:
        return choices
    low, high = np.full(width, np.inf), np.full(width, -np.inf)
    for parts in actions:
        D = len(parts.low)
        low[:D], high[:D] = np.minimum(low[:D], parts.low), np.maximum(high[:D], parts.high)
    unequal = any(len(parts.low) < width for parts in actions)
    vector = Box(tuple(low.tolist()), tuple(high.tolist()), unequal)
    return Mixed(choices, vector) if choices.n else vector


def _largest(space: Any) -> float:
    """Largest magnitude that the numbers of an observation can have, as its space declares them."""
    from gymnasium import spaces

    if isinstance(space, spaces.Box):
        return float(max(np.abs(space.low).max(initial=0), np.abs(space.high).max(initial=0)))
    if isinstance(space, spaces.Dict):
        return max((_largest(part) for part in space.spaces.values()), default=0.0)
    if isinstance(space, spaces.Tuple):
        return max((_largest(part) for part in space.spaces), default=0.0)
    return 1.0  # choices are flattened to zeros and ones


def _short(space: Any) -> str:
    """``Box(2)`` rather than all its bounds."""
    if isinstance(space, Mapping):
        inside = ", ".join(f"{key}: {_short(part)}" for key, part in space.items())
        return f"{type(space).__name__}({inside})"
    if not isinstance(space, Iterable):
        shape = getattr(space, "shape", None)
        return f"{type(space).__name__}({', '.join(map(str, shape))})" if shape else str(space)
    return f"{type(space).__name__}({', '.join(_short(part) for part in space)})"
