"""SMAC, on StarCraft II where the game is installed, else on the embedded battle engine."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..errors import EnvError, did_you_mean
from ..registry import ENVS, PartConfig
from .adapter import LiftedConfig, LiftedEnv
from .protocol import Film, Player, Timestep
from .starcraft2 import SMAC_BOUND, StarCraft2Game, find_game, why_no_game

if TYPE_CHECKING:
    from .battle.agent_centred import AgentCentred
    from .battle.watch import Recorder

log = logging.getLogger("phalanx.envs")

_NOT_SMACS = (
    "engine",
    "profile",
    "layout",
    "seed",
    "step_timeout",
    "start_timeout",
    "max_failures",
)
_SMACV2S = (
    "capability_config",
    "n_units",
    "n_enemies",
    "use_unit_ranges",
    "min_attack_range",
    "obs_own_pos",
    "conic_fov",
    "num_fov_actions",
    "prob_obs_enemy",
    "action_mask",
    "fully_observable",
    "strict_smacv2",
)
_SMACV2_MAPS = "10gen_"


class SC2Config(PartConfig):
    """SMAC's and SMACv2's constructor options under their names, and which engine fights the battles."""

    map_name: str = Field("8m", min_length=1, description="SMAC map, or SMACv2's 10gen_RACE")
    engine: Literal["auto", "starcraft2", "embedded"] = Field(
        "auto", description="the game, the embedded engine, or the game where it is installed"
    )
    profile: Literal["liberty", "lotv"] = Field(
        "liberty", description="unit data of the embedded engine; SMAC's maps load liberty"
    )
    layout: Literal["smac", "mappo"] = Field(
        "smac",
        description="order and contents of observations and state: SMAC's, or those of MAPPO's code, in "
        "which published datasets were recorded (embedded engine, SMAC's maps)",
    )
    seed: int | None = Field(
        None, ge=0, description="seed of the battles; null derives it from the run's seed"
    )
    difficulty: str = Field("7", description="built-in AI of the game; the embedded one has one")
    step_mul: int = Field(8, ge=1, description="game loops per environment step")
    move_amount: float = Field(2, gt=0, description="map units of a move order")
    continuing_episode: bool = Field(
        False, description="the step limit truncates an episode instead of terminating it"
    )
    obs_all_health: bool = Field(True, description="agents see everyone's health")
    obs_own_health: bool = Field(True, description="agents see their own health")
    obs_last_action: bool = Field(False, description="agents see allies' last actions")
    obs_pathing_grid: bool = Field(False, description="agents see where they could walk")
    obs_terrain_height: bool = Field(False, description="agents see the height around them")
    obs_instead_of_state: bool = Field(False, description="the state is all observations")
    obs_timestep_number: bool = Field(False, description="agents see the step number")
    state_last_action: bool = Field(True, description="the state holds the last actions")
    state_timestep_number: bool = Field(False, description="the state holds the step number")
    reward_sparse: bool = Field(False, description="reward only at the end: 1 won, -1 lost")
    reward_only_positive: bool = Field(True, description="no penalty for own losses")
    reward_death_value: float = Field(10, description="reward for a killed enemy")
    reward_win: float = Field(200, description="reward for a won battle")
    reward_defeat: float = Field(0, description="reward for a lost battle, given as it is")
    reward_negative_scale: float = Field(0.5, description="weight of own losses")
    reward_scale: bool = Field(True, description="scale so that a win returns about 20")
    reward_scale_rate: float = Field(20, gt=0, description="return of a win when scaled")
    heuristic_ai: bool = Field(False, description="SMAC's scripted allies act, not the policy")
    heuristic_rest: bool = Field(False, description="scripted allies walk toward far targets")
    game_version: str | None = Field(None, description="build of the game")
    replay_dir: str = Field("", description="folder of the game's replays")
    replay_prefix: str = Field("", description="prefix of the game's replays")
    window_size_x: int = Field(1920, ge=1, description="width of the game's window")
    window_size_y: int = Field(1200, ge=1, description="height of the game's window")
    debug: bool = Field(False, description="the game's interface logs every order")
    step_timeout: float = Field(120, gt=0, description="seconds one step of the game may take")
    start_timeout: float = Field(300, gt=0, description="seconds the game may take to launch")
    max_failures: int = Field(5, ge=1, description="crashes of one game in a row before giving up")

    # SMACv2's, for its maps 10gen_terran, 10gen_protoss and 10gen_zerg. null: as in its benchmark.
    capability_config: dict[str, Any] | None = Field(
        None, description="SMACv2: how teams (team_gen) and start_positions are drawn"
    )
    n_units: int | None = Field(None, ge=1, description="SMACv2: agents (5)")
    n_enemies: int | None = Field(None, ge=1, description="SMACv2: enemies (5)")
    use_unit_ranges: bool | None = Field(
        None, description="SMACv2: unit types see and attack by ranges of their own (true)"
    )
    min_attack_range: float | None = Field(
        None, ge=0, description="SMACv2: least range of an attack action (2)"
    )
    obs_own_pos: bool | None = Field(None, description="SMACv2: agents see where they are (true)")
    conic_fov: bool | None = Field(
        None, description="SMACv2: agents see in a cone and have actions that turn it (false)"
    )
    num_fov_actions: int | None = Field(None, ge=2, description="SMACv2: directions to look (12)")
    prob_obs_enemy: float | None = Field(
        None,
        ge=0,
        le=1,
        description="SMACv2: chance to see an enemy that another agent saw first (1)",
    )
    action_mask: bool | None = Field(
        None, description="SMACv2: attacks out of reach are unavailable (true)"
    )
    fully_observable: bool | None = Field(
        None, description="SMACv2: everybody sees everything (false)"
    )
    strict_smacv2: bool | None = Field(
        None, description="SMACv2: keep a fault that blanks enemies of an agent's view (false)"
    )

    @property
    def is_smacv2(self) -> bool:
        """Whether the map is one of SMACv2's."""
        return self.map_name.startswith(_SMACV2_MAPS)

    def smac_options(self) -> dict[str, Any]:
        """What SMAC's own constructor takes, the map's name included, and SMACv2's options if given."""
        options = self.model_dump(exclude=set(_NOT_SMACS))
        return {k: v for k, v in options.items() if v is not None or k not in _SMACV2S}


@ENVS.register("sc2")
class SC2Env:
    """StarCraft II micromanagement, SMAC and SMACv2: the game or the embedded engine."""

    Config = SC2Config

    def __init__(self, config: SC2Config, *, num_envs: int, seed: int) -> None:
        self.engine = choose_engine(config)
        self._env: EmbeddedBattles | LiftedEnv = (
            EmbeddedBattles(config, num_envs, seed)
            if self.engine == "embedded"
            else _launch(config, num_envs, seed)
        )
        self.spec, self.num_envs = self._env.spec, num_envs

    def number_from(self, first: int) -> None:
        """See :meth:`.Numbered.number_from`."""
        self._env.number_from(first)

    def reset(self, mask: NDArray[np.bool_] | None = None) -> Timestep:
        """Start a new battle where ``mask`` (B,) is true."""
        return self._env.reset(mask)

    def step(self, actions: NDArray[np.int64]) -> Timestep:
        """One environment step of ``step_mul`` game loops with ``actions`` (B, N)."""
        return self._env.step(actions)

    def describe(self) -> dict[str, Any]:
        """Engine, map and what the engine says of itself."""
        return {"engine": self.engine, **self._env.describe()}

    def start_filming(self, episodes: int, drawn_as: str) -> None:
        """Record the battles that end first; the embedded engine only."""
        self._embedded().start_filming(episodes, drawn_as)

    def take_films(self) -> list[Film]:
        """Battles that ended since the last call."""
        return self._embedded().take_films()

    def players(self) -> Mapping[str, str]:
        """The embedded engine's bots; the game has none."""
        return self._env.players() if isinstance(self._env, EmbeddedBattles) else {}

    def player(self, name: str, seed: int) -> Player:
        """A bot of the embedded engine."""
        if not isinstance(self._env, EmbeddedBattles):
            raise EnvError(
                f"env sc2 with engine={self.engine} has no scripted players; engine=embedded has."
            )
        return self._env.player(name, seed)

    def _embedded(self) -> EmbeddedBattles:
        if not isinstance(self._env, EmbeddedBattles):
            raise EnvError(
                f"env sc2 with engine={self.engine} cannot be filmed: StarCraft II records replays of its "
                "own (replay_dir). engine=embedded can."
            )
        return self._env

    def state_dict(self) -> dict[str, Any]:
        """The engine's state."""
        return self._env.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state_dict`."""
        self._env.load_state_dict(state)

    def close(self) -> None:
        """End the games."""
        self._env.close()


_announced: set[str] = set()


def choose_engine(config: SC2Config) -> str:
    """``starcraft2`` or ``embedded``; with ``auto`` the game where it is installed.

    Raises:
        MissingDependencyError: the game is asked for and something is missing.
        EnvError: the game lacks the map.
    """
    if config.engine == "embedded":
        return "embedded"
    if config.is_smacv2:
        if config.engine == "starcraft2":
            raise EnvError(
                f"engine=starcraft2 plays SMAC's maps; SMACv2's {config.map_name} is offered by "
                "engine=embedded only."
            )
        return "embedded"
    if config.engine == "starcraft2":
        find_game(config.map_name)
        if config.layout != "smac":
            raise EnvError(
                f"layout={config.layout} is offered by engine=embedded; the game's own is smac."
            )
        return "starcraft2"
    if config.layout != "smac":
        return "embedded"
    reason = why_no_game(config.map_name)
    if reason is None:
        return "starcraft2"
    line = (
        f"engine: embedded battle engine, not StarCraft II ({reason}); "
        "engine=embedded or engine=starcraft2 decides it for good"
    )
    if line not in _announced:  # training and test environments need it said once
        _announced.add(line)
        log.info("%s", line)
    return "embedded"


def _launch(config: SC2Config, num_envs: int, seed: int) -> LiftedEnv:
    """Games in processes of their own: one that crashes or hangs costs its episode only."""
    lifted = LiftedConfig(
        processes=True,
        step_timeout=config.step_timeout,
        start_timeout=config.start_timeout,
        max_failures=config.max_failures,
    )
    make = functools.partial(StarCraft2Game, config.smac_options())
    return LiftedEnv(make, num_envs=num_envs, seed=seed, config=lifted)


class EmbeddedBattles:
    """The battle engine behind the batched protocol."""

    def __init__(self, config: SC2Config, num_envs: int, seed: int) -> None:
        from .battle import VecBattle
        from .battle.agent_centred import (
            AgentCentred,  # compiles on first use; not needed to list or compose
        )
        from .battle.vec import prepare

        options = config.smac_options()
        self._battle = VecBattle(
            options.pop("map_name"),
            num_envs,
            seed=seed,
            profile=config.profile,
            autoreset=False,
            **options,
        )
        prepare()
        self._recorder: Recorder | None = None
        self._facts = {
            "map_name": config.map_name,
            "profile": config.profile,
            "layout": config.layout,
        }
        self.spec, self.num_envs = replace(self._battle.spec, obs_bound=SMAC_BOUND), num_envs
        self._view: AgentCentred | None = None
        if config.layout == "mappo":
            if config.is_smacv2:
                raise EnvError("layout=mappo is for SMAC's maps; SMACv2's have layout=smac.")
            self._view = AgentCentred(self._battle)
            self.spec = replace(
                self.spec,
                obs_dim=self._view.obs_dim,
                state_dim=self._view.state_dim,
                state_is_obs=False,
            )

    def number_from(self, first: int) -> None:
        """See :meth:`.Numbered.number_from`."""
        self._battle.first_index = first

    def reset(self, mask: NDArray[np.bool_] | None = None) -> Timestep:
        """Start a new battle where ``mask`` (B,) is true."""
        return self._of_episode(self._battle.reset(mask))

    def step(self, actions: NDArray[np.int64]) -> Timestep:
        """One step of all battles that are not over."""
        return self._of_episode(self._battle.step(actions))

    def _of_episode(self, seen: Timestep) -> Timestep:
        """In the layout that was chosen, with those facts alone that are logged at the end of an episode."""
        if self._view is not None:
            obs, state = self._view.look()
            seen = seen._replace(obs=obs, state=state)
        info = {k: seen.info[k] for k in ("battle_won", "dead_allies", "dead_enemies")}
        return seen._replace(info=info)

    def start_filming(self, episodes: int, drawn_as: str) -> None:
        """Record the battles that end first."""
        from .battle.watch import Recorder
        from .battle.watch.render import check_format

        check_format(drawn_as)
        self._recorder = Recorder(self._battle, episodes=episodes)

    def take_films(self) -> list[Film]:
        """Traces of the battles that ended since the last call."""
        from .battle.watch.film import BattleFilm

        if self._recorder is None:
            return []
        films: list[Film] = [BattleFilm(filmed.trace) for filmed in self._recorder.finished]
        self._recorder.finished.clear()
        return films

    def players(self) -> Mapping[str, str]:
        """The bots that can play this map as it is."""
        from .battle.bots import players_for

        return players_for(self._facts["map_name"])

    def player(self, name: str, seed: int) -> Player:
        """A bot, for all battles."""
        from .battle.bots import BOTS

        there = self.players()
        if name not in there:
            raise EnvError(
                f"no player {name!r} on {self._facts['map_name']}.{did_you_mean(name, there)} "
                f"There are: {', '.join(there)}."
            )
        return functools.partial(BOTS[name].make(seed), self._battle)

    def describe(self) -> dict[str, Any]:
        """Map and unit data."""
        return dict(self._facts)

    def state_dict(self) -> dict[str, Any]:
        """The battles, mid-fight."""
        return self._battle.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state_dict`."""
        self._battle.load_state_dict(state)

    def close(self) -> None:
        """Nothing outlives the object."""
