"""Small games given by tables: the quickest way to see whether a value decomposition can be right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..registry import ENVS, PartConfig
from .protocol import Discrete, EnvSpec, Timestep


@dataclass(frozen=True)
class TableGame:
    """Two agents, a few states.

    Attributes:
        payoff: (S, A, A) team reward of the joint action in each state.
        next_state: (S, A, A) state that follows, -1 where the game is over.
    """

    payoff: NDArray[np.float32]
    next_state: NDArray[np.int64]


def _one_shot(payoff: list[list[float]]) -> TableGame:
    table = np.array([payoff], np.float32)
    return TableGame(table, np.full(table.shape, -1))


def _two_step() -> TableGame:
    """First agent's first action picks one of two games (Rashid et al., 2018, section 5)."""
    payoff = np.zeros((3, 2, 2), np.float32)
    payoff[1] = 7
    payoff[2] = [[0, 1], [1, 8]]
    following = np.full((3, 2, 2), -1)
    following[0, 0], following[0, 1] = 1, 2
    return TableGame(payoff, following)


GAMES: dict[str, TableGame] = {
    # Monotonic: any value decomposition finds the best corner.
    "coordination": _one_shot([[1, 0, 0], [0, 2, 0], [0, 0, 4]]),
    # Claus and Boutilier, 1998: miscoordination next to the best cell is punished.
    "climbing": _one_shot([[11, -30, 0], [-30, 7, 6], [0, 0, 5]]),
    # Son et al., 2019: non-monotonic, the best cell lies among the worst ones.
    "nonmonotonic": _one_shot([[8, -12, -12], [-12, 0, 0], [-12, 0, 0]]),
    "two_step": _two_step(),
}


@ENVS.register("matrix")
class MatrixGames:
    """Two-agent table games (coordination, climbing, non-monotonic, two-step) for tests and first steps."""

    class Config(PartConfig):
        game: Literal["coordination", "climbing", "nonmonotonic", "two_step"] = Field(
            "two_step", description="which table is played"
        )

    def __init__(self, config: Config, *, num_envs: int, seed: int) -> None:
        self._game, self._name = GAMES[config.game], config.game
        self.num_envs, self.seed = num_envs, seed
        n_states, n_actions, _ = self._game.payoff.shape
        self.spec = EnvSpec(
            n_agents=2,
            obs_dim=n_states,
            state_dim=n_states,
            action=Discrete(n_actions),
            episode_limit=2 if n_states > 1 else 1,
            obs_bound=1.0,
        )
        self._state = np.zeros(num_envs, np.int64)
        self._done = np.zeros(num_envs, bool)
        self._rewards = np.zeros(num_envs, np.float32)

    def number_from(self, first: int) -> None:
        """See :meth:`.Numbered.number_from`; nothing here is drawn."""

    def reset(self, mask: NDArray[np.bool_] | None = None) -> Timestep:
        """Back to the first state where ``mask`` (B,) is true."""
        chosen = np.ones(self.num_envs, bool) if mask is None else mask
        self._state[chosen] = 0
        self._done[chosen] = False
        self._rewards[chosen] = 0
        return self._timestep()

    def step(self, actions: NDArray[np.int64]) -> Timestep:
        """Play the joint ``actions`` (B, 2) in every unfinished game."""
        cell = (self._state, actions[:, 0], actions[:, 1])
        following = self._game.next_state[cell]
        self._rewards = np.where(self._done, 0, self._game.payoff[cell]).astype(np.float32)
        over = self._done | (following < 0)
        self._state = np.where(over, self._state, following)
        self._done = over
        return self._timestep()

    def _timestep(self) -> Timestep:
        n_states = self.spec.state_dim
        state = np.eye(n_states, dtype=np.float32)[self._state]
        return Timestep(
            obs=np.repeat(state[:, None], 2, axis=1),
            state=state,
            avail_actions=np.ones((self.num_envs, 2, self.spec.n_actions), np.uint8),
            reward=self._rewards,
            terminated=self._done.copy(),
            truncated=np.zeros(self.num_envs, bool),
            alive=None,
            visibility=None,
            info={},
        )

    def describe(self) -> dict[str, Any]:
        """Which game is played."""
        return {"game": self._name}

    def state_dict(self) -> dict[str, Any]:
        """State of every copy."""
        return {"state": self._state.copy(), "done": self._done.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state_dict`."""
        self._state, self._done = state["state"].copy(), state["done"].copy()

    def close(self) -> None:
        """Nothing to free."""
