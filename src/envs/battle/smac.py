"""SMAC's and SMACv2's own class, method for method, on top of one embedded battle."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import EnvError, RenderError, UnavailableActionError
from .arrays import pack_units
from .feature_names import capability_names, obs_names, state_names
from .generation import RANGES
from .layout import N_REAL
from .maps import GENERATED, BattleMap
from .observation import NEAR
from .rules import (
    MAP_SIZE,
    GeneratedOptions,
    Options,
    block_sizes,
    generated_options,
)
from .snapshot import look_at
from .teams import read_episode
from .terrain import HEIGHT, PATHABLE, SIZE, load_terrain
from .units import GAME_TYPES, Slots
from .vec import VecBattle
from .watch import Recorder, Trace

LOG = logging.getLogger("phalanx.envs.battle")
_OWN_TYPES_FROM = 2000  # the maps' own copies of unit types, used for the agents, count from here
# Options that are no public attributes of the same names.
_OTHERWISE = (
    "step_mul",
    "move_amount",
    "window_size_x",
    "window_size_y",
    "num_fov_actions",
    "n_units",
    "n_enemies",
)
# SMACv2's arguments beyond SMAC's, with its class's defaults.
_V2_DEFAULTS: dict[str, Any] = {
    "obs_own_pos": False,
    "conic_fov": False,
    "num_fov_actions": 12,
    "use_unit_ranges": False,
    "min_attack_range": 2,
    "fully_observable": False,
    "prob_obs_enemy": 1.0,
    "action_mask": True,
}
_AHEAD = ((0, 1), (0, -1), (1, 0), (-1, 0))  # north, south, east, west


class Position(NamedTuple):
    """Where a unit is, in map units."""

    x: float
    y: float
    z: float = 0.0


@dataclass(frozen=True)
class Unit:
    """One unit as the game's interface describes it. Health 0 is dead."""

    tag: int
    unit_type: int
    owner: int  # 1 agents, 2 enemies
    pos: Position
    health: float
    health_max: float
    shield: float
    shield_max: float
    energy: float
    energy_max: float
    weapon_cooldown: float  # game loops
    radius: float


class StarCraft2Env:
    """SMAC's ``StarCraft2Env`` without StarCraft II: code written for SMAC or SMACv2 runs on it unchanged.

    The constructor takes SMAC's keyword arguments with SMAC's defaults; methods have SMAC's names, return
    types and quirks: lists of float32 vectors; with ``obs_timestep_number`` float64 and one number longer
    than ``get_obs_size`` says; ``get_stats`` divides by zero before the first battle is over;
    :meth:`get_visibility_matrix` leaves out the diagonal; ``heuristic_ai`` writes the actions carried out
    into the list given to :meth:`step`. As in SMAC nothing restarts by itself. What speaks the game's own
    protocol (``get_agent_action``, ``init_units``, ``update_units``, ``reward_battle``) is not there;
    :func:`.battle_reward` computes the last.

    On SMACv2's maps it is SMACv2's class: its arguments (by name) and their defaults, which are not those of
    its benchmark; feature names and capabilities; teams drawn anew at each :meth:`reset`, or handed to it, as
    SMACv2's ``StarCraftCapabilityEnvWrapper`` does. Without a ``capability_config`` the benchmark's holds.
    ``obs_starcraft=False`` is not offered.

    Accepted without effect, since there is no game: ``difficulty``, ``game_version``, ``window_size_x``,
    ``window_size_y``, ``debug``, ``kill_unit_step_mul``. ``replay_dir`` and ``replay_prefix`` say where
    :meth:`save_replay` writes; a replay is a trace (``phalanx render`` draws it) of the last episode, not
    of all.

    Args:
        map_name: one of :func:`.map_names`, a :class:`.BattleMap`, or one of SMACv2's: ``10gen_terran``,
            ``10gen_protoss``, ``10gen_zerg``.
        seed: decides all battles; ``None`` draws one, which :meth:`seed` tells.
        profile: unit data, ``"liberty"`` or ``"lotv"`` (not SMAC's).
        start_jitter, random_delay: see :class:`.VecBattle` (not SMAC's).
        others: see :class:`.Options` and :class:`.GeneratedOptions`.

    Attributes:
        n_agents, n_enemies, n_actions, episode_limit, map_name: the task.
        battles_won, battles_game, timeouts, force_restarts: counters since construction.
        max_reward: most that this battle pays before scaling.
        agents, enemies: :class:`Unit` by number, as they are now.
        last_action: (N, A) float64, one-hot.

    Raises:
        EnvError: unknown map, profile or option, or a value of the wrong type or out of range.
    """

    n_actions_move = 4
    n_obs_pathing = 8
    n_obs_height = 9

    def __init__(
        self,
        map_name: str | BattleMap = "8m",
        step_mul: int = 8,
        move_amount: float = 2,
        difficulty: str = "7",
        game_version: str | None = None,
        seed: int | None = None,
        continuing_episode: bool = False,
        obs_all_health: bool = True,
        obs_own_health: bool = True,
        obs_last_action: bool = False,
        obs_pathing_grid: bool = False,
        obs_terrain_height: bool = False,
        obs_instead_of_state: bool = False,
        obs_timestep_number: bool = False,
        state_last_action: bool = True,
        state_timestep_number: bool = False,
        reward_sparse: bool = False,
        reward_only_positive: bool = True,
        reward_death_value: float = 10,
        reward_win: float = 200,
        reward_defeat: float = 0,
        reward_negative_scale: float = 0.5,
        reward_scale: bool = True,
        reward_scale_rate: float = 20,
        replay_dir: str = "",
        replay_prefix: str = "",
        window_size_x: int = 1920,
        window_size_y: int = 1200,
        heuristic_ai: bool = False,
        heuristic_rest: bool = False,
        debug: bool = False,
        *,
        obs_own_pos: bool = False,
        obs_starcraft: bool = True,
        conic_fov: bool = False,
        num_fov_actions: int = 12,
        use_unit_ranges: bool = False,
        min_attack_range: float = 2,
        kill_unit_step_mul: int = 2,
        fully_observable: bool = False,
        capability_config: Mapping[str, Any] | None = None,
        prob_obs_enemy: float = 1.0,
        action_mask: bool = True,
        profile: str = "liberty",
        random_delay: bool = True,
        start_jitter: float = 0.0,
    ) -> None:
        given = locals()
        options = {field.name: given[field.name] for field in fields(Options)}
        drawn = isinstance(map_name, str) and map_name in GENERATED
        for name, default in _V2_DEFAULTS.items():
            if drawn or given[name] != default:  # SMAC's maps refuse what would change something
                options[name] = given[name]
        if drawn or capability_config:
            options["capability_config"] = capability_config
        if obs_starcraft is not True:
            raise EnvError(
                "obs_starcraft=False, observations of nothing but the clock, is not offered."
            )
        self._seed = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
        self._making: dict[str, Any] = {
            "map_name": map_name,
            "num_envs": 1,
            "seed": self._seed,
            "profile": profile,
            "autoreset": False,
            "strict": not heuristic_ai,  # what the policy wants is ignored then
            "random_delay": random_delay,
            "start_jitter": start_jitter,
            **options,
        }
        self._launch()
        battle_map, spec = self._battle.map, self._battle.spec
        self._generated = battle_map.generated
        self.map_name, self.map_type = battle_map.name, battle_map.map_type
        self.n_agents, self.n_enemies = spec.n_agents, len(battle_map.enemies)
        self.n_actions, self.episode_limit = spec.n_actions, spec.episode_limit
        self.unit_type_bits = battle_map.unit_type_bits
        self.shield_bits_ally = int(battle_map.ally_shields)
        self.shield_bits_enemy = int(battle_map.enemy_shields)
        self._options = self._battle.options
        own = generated_options(self._options)
        for field in fields(own):
            if field.name not in _OTHERWISE:
                setattr(self, field.name, getattr(own, field.name))
        self.n_fov_actions = own.looks
        self.n_actions_no_attack = self._battle.first_attack
        self._move_amount, self._step_mul = move_amount, step_mul
        self.window_size = (window_size_x, window_size_y)
        self._blocks = block_sizes(battle_map, self._options)
        # SMACv2 has an agent's capabilities apart from its other attributes, SMAC among them.
        self.capability_attr_names = capability_names(battle_map) if self._generated else []
        types = [] if self._generated else capability_names(battle_map)
        self.ally_state_attr_names = ["health", "energy/cooldown", "rel_x", "rel_y"]
        self.ally_state_attr_names += ["shield"] * self.shield_bits_ally
        self.ally_state_attr_names += ["fov_x", "fov_y"] * bool(own.conic_fov) + types
        self.enemy_state_attr_names = ["health", "rel_x", "rel_y"]
        self.enemy_state_attr_names += ["shield"] * self.shield_bits_enemy
        self.enemy_state_attr_names += capability_names(battle_map)
        terrain = load_terrain(battle_map.terrain)
        self.pathing_grid: NDArray[np.bool_] = terrain[PATHABLE] > 0
        self.terrain_height: NDArray[np.float64] = terrain[HEIGHT].copy()
        self.map_x = self.map_y = SIZE
        self.max_distance_x = self.max_distance_y = MAP_SIZE
        self.last_action = np.zeros((self.n_agents, self.n_actions))
        self.reward = 0.0
        self.battles_won = self.battles_game = self.timeouts = self.force_restarts = 0
        self._episode_count = self._episode_steps = self._total_steps = 0
        self._running, self._begun = False, False

    def _launch(self) -> None:
        self._battle = VecBattle(**self._making)
        self._recorder = Recorder(self._battle)
        self._fresh = True  # the battle made has begun its first episode already

    @property
    def _slots(self) -> Slots:
        """Unit data (M,) of who fights in this episode."""
        slots: Slots = self._battle.slots[0]
        return slots

    @property
    def max_reward(self) -> float:
        """Most that this battle pays before scaling; SMACv2 goes on with its first battle's."""
        enemies = self._slots[self.n_agents :]
        best = self.n_enemies * self._options.reward_death_value + self._options.reward_win
        return float(best + (enemies["health"] + enemies["shield"]).sum())

    @property
    def fov_directions(self) -> NDArray[np.float64]:
        """(N, 2) unit vectors: where each agent looks; east without a cone of sight."""
        turns = self._battle.battle_state.facing[0] / max(self.n_fov_actions, 1)
        return np.stack([np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)], axis=-1)

    def reset(
        self, episode_config: Mapping[str, Any] | None = None
    ) -> tuple[list[NDArray[Any]], NDArray[np.float32]]:
        """Begin an episode; returns ``(get_obs(), get_state())``.

        Args:
            episode_config: (SMACv2) ``team_gen`` with ``ally_team`` and ``enemy_team``, and
                ``ally_start_positions`` and ``enemy_start_positions`` with an ``item`` (units, 2), in place
                of what the seed draws. Without the positions, two camps face each other.

        Raises:
            EnvError: something else in it, other sizes or types than those drawn from, or teams on a map
                on which they are fixed.
        """
        chosen = read_episode(episode_config or {}, (self.n_agents, self.n_enemies))
        self._recorder.finished.clear()
        if any(choice is not None for choice in chosen):
            self._battle.field(0, *chosen)
        elif not self._fresh:
            self._battle.reset()
        self._fresh = False
        self._episode_steps = 0
        self._running = self._begun = True
        self.last_action = np.zeros((self.n_agents, self.n_actions))
        return self.get_obs(), self.get_state()

    def full_restart(self) -> None:
        """Start over as a relaunched game does: with the seed's first battle, at the next reset."""
        self._battle.close()
        self._launch()
        self._running = self._begun = False
        self.force_restarts += 1

    def step(self, actions: Sequence[int] | Any) -> tuple[float, bool, dict[str, Any]]:
        """Let every agent act once.

        Args:
            actions: one action per agent: a sequence, array or tensor of whole numbers.

        Returns:
            Reward, whether the episode is over, and ``battle_won, dead_allies, dead_enemies``; with
            ``continuing_episode`` also ``episode_limit`` where the clock ended it.

        Raises:
            UnavailableActionError: (an AssertionError) names agent, action and what was available.
            EnvError: before :meth:`reset`, after the end, or not one whole number per agent.
        """
        if not self._running:
            raise EnvError(
                "the episode is over: call reset() before the next step()"
                if self._begun
                else "step() before reset(): no episode has begun"
            )
        wanted = self._whole(actions)
        try:
            self._battle.step([wanted])
        except UnavailableActionError as error:
            message = str(error).removeprefix("battle 0, ")
            raise UnavailableActionError(message) from None
        self.last_action = np.eye(self.n_actions)[wanted]
        if self._options.heuristic_ai and hasattr(actions, "__setitem__"):
            for i, taken in enumerate(self._battle.actions_taken[0].tolist()):
                actions[i] = taken
        self._total_steps += 1
        self._episode_steps += 1
        seen = self._battle.info
        won, timed_out = bool(seen["battle_won"][0]), bool(seen["episode_limit"][0])
        info: dict[str, Any] = {
            "battle_won": won,
            "dead_allies": int(seen["dead_allies"][0]),
            "dead_enemies": int(seen["dead_enemies"][0]),
        }
        over = bool(self._battle.terminated[0] or self._battle.truncated[0])
        if over:
            self._running = False
            self._episode_count += 1
            self.battles_game += 1
            self.battles_won += won
            self.timeouts += timed_out
            if timed_out and self._options.continuing_episode:
                info["episode_limit"] = True
        self.reward = float(self._battle.reward[0])
        return self.reward, over, info

    def _whole(self, actions: Any) -> list[int]:
        try:
            given = list(actions)
            wanted = [int(a) for a in given]
            exact = all(w == g for w, g in zip(wanted, given, strict=True))
        except (TypeError, ValueError):
            exact, wanted = False, []
        if not exact or len(wanted) != self.n_agents:
            raise EnvError(
                f"step() takes one whole number per agent ({self.n_agents} of them), got {actions!r}"
            )
        return wanted

    def get_obs(self) -> list[NDArray[Any]]:
        """Each agent's observation."""
        return [self.get_obs_agent(i) for i in range(self.n_agents)]

    def get_obs_agent(self, agent_id: int) -> NDArray[Any]:
        """One agent's observation: float32, or float64 with the step number appended."""
        self._check_begun()
        obs: NDArray[Any] = self._battle.obs[0, agent_id].copy()
        if self._options.obs_timestep_number:
            obs = np.append(obs[:-1], self._episode_steps / self.episode_limit)
        return obs

    def get_state(self) -> NDArray[np.float32]:
        """The global state."""
        self._check_begun()
        state: NDArray[np.float32] = self._battle.state[0].copy()
        return state

    def get_state_dict(self) -> dict[str, Any]:
        """The state in pieces: ``allies`` and ``enemies``, one row per unit, and what else is in it."""
        state = (
            self._state_proper() if self._options.obs_instead_of_state else self.get_state()
        ).astype(float)
        rows = self.n_agents * self._blocks.ally_state
        end = rows + self.n_enemies * self._blocks.enemy_state
        pieces: dict[str, Any] = {
            "allies": state[:rows].reshape(self.n_agents, -1),
            "enemies": state[rows:end].reshape(self.n_enemies, -1),
        }
        if self._options.state_last_action:
            pieces["last_action"] = self.last_action
        if self._options.state_timestep_number:
            pieces["timestep"] = self._episode_steps / self.episode_limit
        return pieces

    def _state_proper(self) -> NDArray[np.float32]:
        """The state that ``obs_instead_of_state`` hides."""
        self._check_begun()
        ally, enemy = self._battle.units(0)
        units = np.zeros((1, N_REAL, self.n_agents + self.n_enemies))
        pack_units(ally[None], enemy[None], units)
        options = replace(self._options, obs_instead_of_state=False)
        last = np.full((1, self.n_agents), -1)
        if isinstance(options, GeneratedOptions):
            options = replace(options, prob_obs_enemy=1.0, strict_smacv2=False)
        facing = self._battle.battle_state.facing
        view = look_at(units, last, np.zeros(1), self._battle.map, options, self._slots, facing)
        state: NDArray[np.float32] = view["state"][0]
        return state

    def get_avail_actions(self) -> list[list[int]]:
        """For each agent 1 where an action may be taken, else 0."""
        self._check_begun()
        mask: list[list[int]] = self._battle.avail_actions[0].tolist()
        return mask

    def get_avail_agent_actions(self, agent_id: int) -> list[int]:
        """One agent's row of :meth:`get_avail_actions`."""
        return self.get_avail_actions()[agent_id]

    def get_visibility_matrix(self) -> NDArray[np.bool_]:
        """(N, N + E) bool: which living agent sees which living unit, itself not counted.

        As in SMACv2 only distances count, and of two agents the first one's sight.
        """
        self._check_begun()
        ally, enemy = self._battle.units(0)
        at = np.concatenate([ally[:, :3], enemy[:, :3]])
        apart = np.hypot(at[:, 0] - ally[:, :1], at[:, 1] - ally[:, 1:2])
        first = np.minimum(*np.indices(apart.shape))
        sight = self._slots["sight"][first]
        seen: NDArray[np.bool_] = (apart < sight) & (at[:, 2] > 0) & (ally[:, 2:3] > 0)
        np.fill_diagonal(seen, False)
        return seen

    def get_obs_size(self) -> int:
        """Length of an observation as SMAC counts it, which leaves out one of two step numbers."""
        return self._battle.spec.obs_dim - self._reserved

    def get_state_size(self) -> int:
        """Length of the state as SMAC counts it."""
        if self._options.obs_instead_of_state:
            return self.get_obs_size() * self.n_agents
        return self._battle.spec.state_dim

    def get_obs_move_feats_size(self) -> int:
        """Numbers about where an agent can walk."""
        return self._blocks.move

    def get_obs_enemy_feats_size(self) -> tuple[int, int]:
        """Enemies, and numbers about each."""
        return self.n_enemies, self._blocks.enemy

    def get_obs_ally_feats_size(self) -> tuple[int, int]:
        """Other agents, and numbers about each."""
        return self.n_agents - 1, self._blocks.ally

    def get_obs_own_feats_size(self) -> int:
        """Numbers about the agent itself; SMAC, unlike SMACv2, counts the step number among them."""
        return self._blocks.own + self._reserved

    @property
    def _reserved(self) -> int:
        """Places SMAC keeps for the step number, which it then appends."""
        return int(self._options.obs_timestep_number and not self._generated)

    def get_cap_size(self) -> int:
        """Numbers about what an agent is (SMACv2)."""
        return self.unit_type_bits

    def get_obs_ally_capability_size(self) -> int:
        """Numbers about what another agent is (SMACv2)."""
        return self.unit_type_bits

    def get_capabilities_agent(self, agent_id: int) -> NDArray[np.float32]:
        """What an agent is, dead or alive: its unit type, one-hot (SMACv2)."""
        self._check_begun()
        row = np.zeros(self.get_cap_size(), np.float32)
        if len(row):
            row[self._slots[agent_id]["type_bit"]] = 1
        return row

    def get_capabilities(self) -> NDArray[np.float32]:
        """What all agents are, one after the other (SMACv2)."""
        return np.concatenate([self.get_capabilities_agent(i) for i in range(self.n_agents)])

    def get_obs_feature_names(self) -> list[str]:
        """What the numbers of agent 0's observation are, in SMACv2's words."""
        names = obs_names(self._battle.map, self._options)
        return [
            *names,
            *["timestep_reserved"] * self._reserved,
            *self._clock("obs_timestep_number"),
        ]

    def get_state_feature_names(self) -> list[str]:
        """What the numbers of the state are, in SMACv2's words.

        Raises:
            EnvError: with ``obs_instead_of_state``; they are the observations', agent by agent.
        """
        if self._options.obs_instead_of_state:
            raise EnvError(
                "with obs_instead_of_state the state has no feature names of its own: see "
                "get_obs_feature_names()."
            )
        return [
            *state_names(self._battle.map, self._options),
            *self._clock("state_timestep_number"),
        ]

    def _clock(self, option: str) -> list[str]:
        return ["timestep"] * bool(getattr(self._options, option))

    def get_ally_num_attributes(self) -> int:
        """Numbers per agent in the state."""
        return self._blocks.ally_state

    def get_enemy_num_attributes(self) -> int:
        """Numbers per enemy in the state."""
        return self._blocks.enemy_state

    def get_total_actions(self) -> int:
        """Number of actions of each agent."""
        return self.n_actions

    def get_env_info(self) -> dict[str, Any]:
        """Sizes and names that learners build from."""
        return {
            "state_shape": self.get_state_size(),
            "obs_shape": self.get_obs_size(),
            **({"cap_shape": self.get_cap_size()} if self._generated else {}),
            "n_actions": self.get_total_actions(),
            "n_agents": self.n_agents,
            "episode_limit": self.episode_limit,
            "agent_features": self.ally_state_attr_names + self.capability_attr_names,
            "enemy_features": self.enemy_state_attr_names,
        }

    def get_stats(self) -> dict[str, Any]:
        """Counts of battles so far.

        Raises:
            ZeroDivisionError: no battle is over yet, as in SMAC.
        """
        return {
            "battles_won": self.battles_won,
            "battles_game": self.battles_game,
            "battles_draw": self.timeouts,
            "win_rate": self.battles_won / self.battles_game,
            "timeouts": self.timeouts,
            "restarts": self.force_restarts,
        }

    @property
    def agents(self) -> dict[int, Unit]:
        """The agents by number."""
        return {i: self._unit(i) for i in range(self.n_agents)} if self._begun else {}

    @property
    def enemies(self) -> dict[int, Unit]:
        """The enemies by number."""
        first = self.n_agents
        return {j: self._unit(first + j) for j in range(self.n_enemies)} if self._begun else {}

    def get_unit_by_id(self, a_id: int) -> Unit:
        """One agent as a unit."""
        self._check_begun()
        if not 0 <= a_id < self.n_agents:
            raise EnvError(f"no agent {a_id}; there are {self.n_agents}, counted from 0.")
        return self._unit(a_id)

    def _unit(self, number: int) -> Unit:
        ally, enemy = self._battle.units(0)
        own = number < self.n_agents
        row = ally[number] if own else enemy[number - self.n_agents]
        slot = self._slots[number]
        return Unit(
            tag=number + 1,
            unit_type=self.get_unit_types()[number],
            owner=1 if own else 2,
            pos=Position(float(row[0]), float(row[1])),
            health=float(row[2]),
            health_max=float(slot["health"]),
            shield=float(row[3]),
            shield_max=float(slot["shield"]),
            energy=float(row[4]) if own else 0.0,
            energy_max=float(slot["energy"]),
            weapon_cooldown=float(row[5]) if own else 0.0,
            radius=float(slot["radius"]),
        )

    def get_unit_types(self) -> list[int]:
        """Type number of each agent, then of each enemy (the game's)."""
        names = self._battle.unit_names(0)
        agents, enemies = names[: self.n_agents], names[self.n_agents :]
        kinds = sorted(RANGES if self._generated else set(agents))  # maps number their own types so
        return [_OWN_TYPES_FROM + kinds.index(kind) for kind in agents] + [
            GAME_TYPES[kind] for kind in enemies
        ]

    def get_unit_type_id(self, unit: Unit, ally: bool) -> int:
        """A unit's column in the one-hot type."""
        number = unit.tag - 1
        if ally != (number < self.n_agents):
            raise EnvError(
                f"unit {unit.tag} is {'an enemy' if ally else 'an agent'}, not otherwise"
            )
        return int(self._slots[number]["type_bit"])

    def unit_max_cooldown(self, unit: Unit) -> float:
        """What the state divides a unit's cooldown (a medivac's energy) by."""
        return float(self._slots[unit.tag - 1]["max_cooldown"])

    def unit_max_shield(self, unit: Unit) -> float:
        """What observations and state divide a unit's shield by."""
        return float(self._slots[unit.tag - 1]["shown_shield"])

    def unit_shoot_range(self, agent_id: int) -> float:
        """How far an agent may choose targets, centre to centre; SMAC: the same for all."""
        return float(self._slots[agent_id]["shoot"])

    def unit_sight_range(self, agent_id: int) -> float:
        """How far an agent sees; SMAC: the same for all."""
        return float(self._slots[agent_id]["sight"])

    @staticmethod
    def distance(x1: float, y1: float, x2: float, y2: float) -> float:
        """Distance of two points."""
        return float(np.hypot(x2 - x1, y2 - y1))

    def check_bounds(self, x: int, y: int) -> bool:
        """Whether a cell lies on the map."""
        return 0 <= x < self.map_x and 0 <= y < self.map_y

    def can_move(self, unit: Unit, direction: int) -> bool:
        """Whether a step north (0), south (1), east (2) or west (3) begins on walkable ground."""
        ahead = self._move_amount / 2
        dx, dy = _AHEAD[direction]
        x, y = int(unit.pos.x + dx * ahead), int(unit.pos.y + dy * ahead)
        return self.check_bounds(x, y) and bool(self.pathing_grid[x, y])

    def get_surrounding_points(
        self, unit: Unit, include_self: bool = False
    ) -> list[tuple[int, int]]:
        """The cells around a unit that agents can sense, in SMAC's order."""
        x, y = int(unit.pos.x), int(unit.pos.y)
        return [(x + dx, y + dy) for dx, dy in NEAR[: 9 if include_self else 8]]

    def get_surrounding_pathing(self, unit: Unit) -> list[float]:
        """Whether the cells around can be walked on; off the map 1."""
        return self._sense(self.pathing_grid, self.get_surrounding_points(unit))

    def get_surrounding_height(self, unit: Unit) -> list[float]:
        """Height of the cells around and of the unit's own; off the map 1."""
        return self._sense(self.terrain_height, self.get_surrounding_points(unit, True))

    def _sense(self, grid: NDArray[Any], points: list[tuple[int, int]]) -> list[float]:
        return [float(grid[x, y]) if self.check_bounds(x, y) else 1.0 for x, y in points]

    def only_medivac_left(self, ally: bool) -> bool:
        """Whether a side is down to a medivac, on the maps where that ends the battle."""
        if not self._battle.map.medics:
            return False
        units = (self.agents if ally else self.enemies).values()
        fighters = [u for u in units if u.health > 0 and not self._heals(u)]
        living = [u for u in units if u.health > 0]
        alone = ally or self._generated or len(living) == 1  # SMACv2: however many there are
        return alone and not fighters

    def _heals(self, unit: Unit) -> bool:
        return bool(self._slots[unit.tag - 1]["heal_rate"] > 0)

    def seed(self) -> int:
        """The seed of all battles."""
        return self._seed

    def save_replay(self) -> None:
        """Write the episode, over or as far as it has come, as ``<prefix>_<time>.npz``.

        The folder is ``replay_dir`` or ``replays``, the prefix ``replay_prefix`` or the map's name.
        """
        name = f"{self._options.replay_prefix or self.map_name}_{time.strftime('%Y%m%d-%H%M%S')}"
        folder, again = Path(self._options.replay_dir or "replays"), 0
        while (path := folder / f"{name}{f'-{again}' if again else ''}.npz").exists():
            again += 1
        LOG.info("replay: %s", self._trace().save(path))

    def render(self, mode: str = "human") -> NDArray[np.uint8] | None:
        """The battle as it stands: with ``"rgb_array"`` an (H, W, 3) array.

        There is no window to show it in: ``"human"`` does nothing but say so, once.

        Raises:
            RenderError: another mode.
            MissingDependencyError: Pillow is not installed (extra ``render``).
        """
        if mode == "human":
            _say_no_window()
            return None
        if mode != "rgb_array":
            raise RenderError(f"render modes are 'human' and 'rgb_array', not {mode!r}.")
        from .watch.painter import Painter

        trace = self._trace()
        return np.asarray(Painter(trace).paint(trace.loops))

    def _trace(self) -> Trace:
        self._check_begun()
        if self._recorder.finished:
            return self._recorder.finished[-1].trace
        trace = self._recorder.current(0)
        assert trace is not None, "an episode that has begun is recorded"
        return trace

    def close(self) -> None:
        """Nothing outlives the object."""
        self._battle.close()

    def _check_begun(self) -> None:
        if not self._begun:
            raise EnvError("no episode has begun: call reset() first")


@cache
def _say_no_window() -> None:
    LOG.warning(
        "there is no window here: render('rgb_array') returns the picture, save_replay() keeps all"
    )
