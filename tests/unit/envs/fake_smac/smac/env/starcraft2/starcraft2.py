"""A stand-in for SMAC's class: its methods and return types, a game of counting instead of a battle."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

LIMIT = 5


class StarCraft2Env:
    """Two agents; an episode lasts LIMIT steps; action 1 in the last step wins.

    With ``debug`` the game loses its connection in the third step of its first episode.
    """

    def __init__(self, map_name: str = "8m", seed: int | None = None, **options: Any) -> None:
        self.map_name, self.seed_given, self.options = map_name, seed, options
        self._episode_steps, self.episodes, self.closed = 0, 0, False

    def get_env_info(self) -> dict[str, int]:
        return {
            "state_shape": 2,
            "obs_shape": 3,
            "n_actions": 4,
            "n_agents": 2,
            "episode_limit": LIMIT,
        }

    def reset(self) -> tuple[list[Any], Any]:
        self._episode_steps = 0
        self.episodes += 1
        return self.get_obs(), self.get_state()

    def step(self, actions: list[int]) -> tuple[float, bool, dict[str, Any]]:
        assert all(type(a) is int for a in actions)
        self._episode_steps += 1
        if self.options["debug"] and self.episodes == 1 and self._episode_steps == 3:
            return 0, True, {}
        over = self._episode_steps >= LIMIT
        info: dict[str, Any] = {"battle_won": False, "dead_allies": 0, "dead_enemies": 1}
        if over:
            info["battle_won"] = actions[0] == 1
            if self.options["continuing_episode"] and not info["battle_won"]:
                info["episode_limit"] = True
        return 0.5, over, info

    def get_obs(self) -> list[Any]:
        return [np.full(3, 10 * i + self._episode_steps, np.float32) for i in range(2)]

    def get_state(self) -> Any:
        return np.full(2, self._episode_steps, np.float32)

    def get_avail_actions(self) -> list[list[int]]:
        return [[0, 1, 1, 1], [0, 1, 1, 0]]

    def get_unit_by_id(self, i: int) -> SimpleNamespace:
        return SimpleNamespace(health=45 * (i == 0 or self._episode_steps < 2))

    def get_visibility_matrix(self) -> Any:
        return np.ones((2, 5), bool)

    def close(self) -> None:
        self.closed = True
