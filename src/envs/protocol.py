"""What every environment offers: a frozen description and a batched step.

Environments are batched: one environment object steps B battles (or games) at once, a single one is
B = 1. Everything built later is built from :class:`EnvSpec`; nothing downstream asks the environment
again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError


@dataclass(frozen=True)
class Discrete:
    """Actions are the integers ``0 .. n-1``, some of them unavailable at times."""

    n: int


@dataclass(frozen=True)
class Box:
    """Actions are real vectors with these bounds per dimension.

    Where agents are ``unequal``, some lack the last dimensions, and the mask says who has which.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    unequal: bool = False


@dataclass(frozen=True)
class Mixed:
    """Actions are a choice and a real vector at once: ``[choice, *vector]`` as numbers.

    The mask has an entry for each choice, then one for each dimension of the vector. An agent without a
    choice has only the first one available, one without a vector none of its dimensions.
    """

    choice: Discrete
    vector: Box


@dataclass(frozen=True)
class EnvSpec:
    """Facts about an environment that do not change while it runs.

    Attributes:
        n_agents: N, agents in the team (padded to the largest number that can occur).
        obs_dim: O, length of one agent's observation.
        state_dim: S, length of the global state used in training.
        action: the action space of each agent.
        episode_limit: T, the most steps an episode can last.
        agent_groups: type of each agent (length N) where agents differ, else None.
        has_alive: whether the environment tells which agents are alive.
        has_visibility: whether it tells which agents see each other.
        obs_bound: largest magnitude that a number of an observation or state can have, None where the
            environment does not say.
        state_is_obs: whether the state is all agents' observations in a row, S = N O, so that whoever has
            these has it.
    """

    n_agents: int
    obs_dim: int
    state_dim: int
    action: Discrete | Box | Mixed
    episode_limit: int
    agent_groups: tuple[int, ...] | None = None
    has_alive: bool = False
    has_visibility: bool = False
    obs_bound: float | None = None
    state_is_obs: bool = False

    @property
    def n_actions(self) -> int:
        """A, number of discrete actions.

        Raises:
            ConfigError: the action space is continuous or mixed.
        """
        if not isinstance(self.action, Discrete):
            kind = "mixed" if self.choices else "continuous"
            raise ConfigError(
                f"this environment's actions are {kind} ({self.dimensions} dimensions), but a "
                "chosen part needs discrete ones. Policy-gradient algorithms take any: --config=mappo, "
                "mat, happo ..."
            )
        return self.action.n

    @property
    def choices(self) -> int:
        """C, discrete actions that an agent chooses among, alone or beside a vector; 0: none."""
        if isinstance(self.action, Box):
            return 0
        return self.action.n if isinstance(self.action, Discrete) else self.action.choice.n

    @property
    def dimensions(self) -> int:
        """D, of an action's real vector, alone or beside a choice; 0: none."""
        if isinstance(self.action, Discrete):
            return 0
        return len((self.action if isinstance(self.action, Box) else self.action.vector).low)

    @property
    def mask_dim(self) -> int:
        """A, width of the mask: C, C + D where mixed, 0 where all agents have the same vector."""
        equal = isinstance(self.action, Box) and not self.action.unequal
        return 0 if equal else self.choices + self.dimensions

    @property
    def action_shape(self) -> tuple[int, ...]:
        """Axes of one agent's action: none where discrete, (D,) where continuous, (1 + D,) where mixed."""
        if isinstance(self.action, Discrete):
            return ()
        return (self.dimensions + (1 if self.choices else 0),)

    @property
    def policy_outputs(self) -> int:
        """K = C + 2D, what an agent's network gives: a number per choice, D means and D scales."""
        return self.choices + 2 * self.dimensions


class Timestep(NamedTuple):
    """What is seen after a reset or a step. Arrays are views, valid until the next call.

    ``terminated`` means the task itself is over (no value beyond it), ``truncated`` that only the
    clock stopped it. Both may be true: the clock ended it and the environment counts that as the end
    (StarCraft II does). Learners bootstrap unless ``terminated``.
    """

    obs: NDArray[np.float32]  # (B, N, O)
    state: NDArray[np.float32]  # (B, S)
    avail_actions: NDArray[
        np.uint8
    ]  # (B, N, A), 1 where the action may be taken; see EnvSpec.mask_dim
    reward: NDArray[np.float32]  # (B,), shared by the team
    terminated: NDArray[np.bool_]  # (B,)
    truncated: NDArray[np.bool_]  # (B,)
    alive: NDArray[np.bool_] | None  # (B, N), where spec.has_alive
    visibility: NDArray[np.bool_] | None  # (B, N, N), where spec.has_visibility
    info: dict[str, NDArray[Any]]  # (B,) each; numbers logged at the end of an episode


class Env(Protocol):
    """A batch of B independent copies of one task.

    Episodes end when ``terminated | truncated``. A finished copy keeps its last timestep and ignores
    its actions until ``reset`` is called with its bit set, so the last observation is never lost.

    Built as ``EnvClass(config, num_envs=B, seed=seed)``. Two copies with the same seed, index,
    episode number and actions behave alike, whatever B is.
    """

    spec: EnvSpec
    num_envs: int

    def reset(self, mask: NDArray[np.bool_] | None = None) -> Timestep:
        """Start a new episode in the copies where ``mask`` (B,) is true, default all."""
        ...

    def step(self, actions: NDArray[Any]) -> Timestep:
        """Advance all unfinished copies by one step with ``actions``.

        Args:
            actions: (B, N) int64, or float32 (B, N, D) where continuous, (B, N, 1 + D) where mixed.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Facts worth recording with the run (engine and version used, map, ...)."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue bit for bit: arrays, numbers, strings and lists of them."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state_dict`; the next step continues where it was taken."""
        ...

    def close(self) -> None:
        """Free processes and games. Safe to call twice."""
        ...


@runtime_checkable
class Numbered(Protocol):
    """What an environment offers besides :class:`Env` where its copies can be some of a larger batch's."""

    def number_from(self, first: int) -> None:
        """Call the copies ``first`` and following before any is reset: they play these copies' episodes."""
        ...


class Film(Protocol):
    """A recorded episode."""

    def save(self, path: Path) -> Path:
        """Write the recording itself; returns the file."""
        ...

    def render(self, path: Path) -> Path:
        """Draw it into ``path``, in the format of its ending; returns the file."""
        ...


@runtime_checkable
class Filmable(Protocol):
    """What an environment offers besides :class:`Env` where its episodes can be recorded and drawn."""

    def start_filming(self, episodes: int, drawn_as: str) -> None:
        """Record from the next reset on, in all copies, until so many episodes have ended.

        Raises:
            EnvError: this environment, as it was configured, cannot be filmed; says why.
            MissingDependencyError: drawing in the format ``drawn_as`` lacks a package.
        """
        ...

    def take_films(self) -> list[Film]:
        """Recordings of the episodes that ended since the last call, in the order in which they did."""
        ...


Player = Callable[[], NDArray[Any]]
"""Says what the agents of all copies do now, as :meth:`Env.step` takes it; called once before each step."""


@runtime_checkable
class Scripted(Protocol):
    """What an environment offers besides :class:`Env` where it has players written by hand.

    They may look at all of the environment, also at what no agent sees: they are what recorded episodes and
    learnt policies are compared with.
    """

    def players(self) -> Mapping[str, str]:
        """Those that can play here as the environment was configured: name -> what it does, in a line."""
        ...

    def player(self, name: str, seed: int) -> Player:
        """One of :meth:`players`, who plays the same way for the same seed.

        Raises:
            EnvError: it is none of them.
        """
        ...
