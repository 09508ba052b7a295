"""StarCraft II itself, through SMAC's ``StarCraft2Env``."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EnvError, MissingDependencyError, did_you_mean
from .protocol import Discrete, EnvSpec
from .single import Seen

_SMAC = "smac.env.starcraft2.starcraft2"
_GET_SMAC = (
    "Get it with `pip install git+https://github.com/oxwhirl/smac.git` "
    "(`pip install smac` is another package, a hyper-parameter optimiser)"
)
_GET_GAME = (
    "Install StarCraft II (Linux packages: https://github.com/Blizzard/s2client-proto), put SMAC's maps "
    "into its Maps folder and set SC2PATH to the game's folder"
)
SMAC_BOUND = 100.0
"""SMAC's features are shares, one-hots and distances over the sight range or the map's size: a few units at
most, whatever the options."""
_BINARIES = ("SC2_x64", "SC2_x64.exe", "SC2.app")


def find_game(map_name: str) -> Path:
    """Folder of an installed game that can play ``map_name``; checked before anything is launched.

    Raises:
        MissingDependencyError: SMAC or the game is not there.
        EnvError: the game is there, the map is not.
    """
    if not _has_smac():
        found = (
            "another package of that name is installed" if _find("smac") else "it is not installed"
        )
        raise MissingDependencyError(
            f"engine=starcraft2 needs the package smac, but {found}. {_GET_SMAC}. "
            "engine=embedded needs neither."
        )
    folder = Path(os.environ.get("SC2PATH", "~/StarCraftII")).expanduser().resolve()
    binaries = [p for name in _BINARIES for p in folder.glob(f"Versions/Base*/{name}")]
    if not binaries:
        raise MissingDependencyError(
            f"engine=starcraft2 found no game in {folder} (SC2PATH): no Versions/Base*/SC2_x64. "
            f"{_GET_GAME}. engine=embedded needs no game."
        )
    if not any(p.is_dir() or os.access(p, os.X_OK) for p in binaries):
        raise MissingDependencyError(
            f"{binaries[0]} may not be executed. Try: chmod +x {binaries[0]}"
        )
    maps = {p.stem for p in folder.glob("[Mm]aps/**/*.SC2Map")}
    if map_name not in maps:
        raise EnvError(
            f"no map {map_name!r} in {folder / 'Maps'}.{did_you_mean(map_name, maps)} "
            "Copy SMAC's SMAC_Maps folder there."
        )
    return folder


def why_no_game(map_name: str) -> str | None:
    """In a few words why StarCraft II cannot be used here, or None when it can."""
    try:
        find_game(map_name)
    except MissingDependencyError as error:
        return "SMAC is not installed" if "package smac" in str(error) else "no game in SC2PATH"
    except EnvError:
        return f"the game has no map {map_name}"
    return None


def _find(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _has_smac() -> bool:
    return _find(_SMAC)


class StarCraft2Game:
    """One running game.

    SMAC seeds the game when it is launched and never again, so a game's later episodes depend on the
    earlier ones; runs on the game are not repeatable to the bit.

    Args:
        options: SMAC's constructor options.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._env: Any = self._make(seed=None)
        info = self._env.get_env_info()
        self._limit = int(info["episode_limit"])
        self.spec = EnvSpec(
            n_agents=info["n_agents"],
            obs_dim=self._length_of_obs(info),
            state_dim=info["state_shape"],
            action=Discrete(info["n_actions"]),
            episode_limit=self._limit,
            has_alive=True,
            has_visibility=True,
            obs_bound=SMAC_BOUND,
            state_is_obs=bool(options.get("obs_instead_of_state")),
        )
        self._launched = False

    def _make(self, seed: int | None) -> Any:
        module = importlib.import_module(_SMAC)
        return module.StarCraft2Env(**self._options, seed=seed)

    def _length_of_obs(self, info: dict[str, Any]) -> int:
        # SMAC counts the step number once and puts it in twice.
        return int(info["obs_shape"]) + bool(self._options.get("obs_timestep_number"))

    def reset(self, seed: int) -> Seen:
        """Start an episode; the first one launches the game, with ``seed``."""
        if not self._launched:
            self._env = self._make(seed)
            self._launched = True
        self._env.reset()
        return self._seen(0.0, False, False, {})

    def step(self, actions: Sequence[int]) -> Seen:
        """One step.

        Raises:
            ConnectionError: the game has gone; SMAC would report a lost battle.
        """
        reward, terminated, info = self._env.step(list(actions))
        if terminated and not info:
            raise ConnectionError("StarCraft II closed the connection")
        timed_out = bool(terminated) and self._steps() >= self._limit and not info.get("battle_won")
        truncated = bool(info.get("episode_limit", timed_out))
        ended = bool(terminated) and not info.get("episode_limit", False)
        return self._seen(float(reward), ended, truncated, info)

    def _steps(self) -> int:
        return int(self._env._episode_steps)  # SMAC has no public counter

    def _seen(self, reward: float, terminated: bool, truncated: bool, info: dict[str, Any]) -> Seen:
        env, N = self._env, self.spec.n_agents
        alive: NDArray[np.bool_] = np.array([env.get_unit_by_id(i).health > 0 for i in range(N)])
        return Seen(
            obs=np.asarray(env.get_obs(), np.float32),
            state=np.asarray(env.get_state(), np.float32),
            avail_actions=np.asarray(env.get_avail_actions(), np.uint8),
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            alive=alive,
            visibility=np.asarray(env.get_visibility_matrix()[:, :N], bool),
            info={
                key: float(info.get(key, 0))
                for key in ("battle_won", "dead_allies", "dead_enemies")
            },
        )

    def describe(self) -> dict[str, Any]:
        """Map and build of the game."""
        return {
            "map_name": self._options["map_name"],
            "game_version": self._options.get("game_version") or "latest installed",
        }

    def close(self) -> None:
        """End the game."""
        if self._launched:
            self._env.close()
