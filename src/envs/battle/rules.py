"""SMAC's options, checked, and the numbers that the kernels take from them and the map."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np

from ...errors import EnvError, did_you_mean
from .maps import BattleMap
from .terrain import outline
from .units import BURST, Slots, build_slots

SHOOT_RANGE = 6.0  # SMAC lets every unit choose targets this near, whatever its weapon
SIGHT_RANGE = 9.0
ACTIONS_NO_ATTACK = 6  # no-op, stop, north, south, east, west
MAP_SIZE = 32.0


@dataclass(frozen=True)
class Options:
    """Constructor options of SMAC's ``StarCraft2Env`` that mean something without the game.

    Options about the game process (``difficulty``, ``game_version``, ``replay_dir``, ``replay_prefix``,
    ``window_size_x``, ``window_size_y``, ``debug``) are accepted and have no effect: the enemy's rules
    are one set, and the maps' enemies play alike on the game's upper levels.
    """

    step_mul: int = 8
    move_amount: float = 2
    continuing_episode: bool = False
    obs_all_health: bool = True
    obs_own_health: bool = True
    obs_last_action: bool = False
    obs_pathing_grid: bool = False
    obs_terrain_height: bool = False
    obs_instead_of_state: bool = False
    obs_timestep_number: bool = False
    state_last_action: bool = True
    state_timestep_number: bool = False
    reward_sparse: bool = False
    reward_only_positive: bool = True
    reward_death_value: float = 10
    reward_win: float = 200
    reward_defeat: float = 0
    reward_negative_scale: float = 0.5
    reward_scale: bool = True
    reward_scale_rate: float = 20
    heuristic_ai: bool = False
    heuristic_rest: bool = False
    difficulty: str = "7"
    game_version: str | None = None
    replay_dir: str = ""
    replay_prefix: str = ""
    window_size_x: int = 1920
    window_size_y: int = 1200
    debug: bool = False


def read_options(given: dict[str, Any]) -> Options:
    """Check SMAC options given as keywords.

    Raises:
        EnvError: unknown option, or a value of the wrong type or out of range.
    """
    defaults = asdict(Options())
    for key, value in given.items():
        if key not in defaults:
            raise EnvError(
                f"unknown battle option {key!r}.{did_you_mean(key, defaults)} "
                f"Options are {', '.join(defaults)}."
            )
        _check(key, value, defaults[key])
    options = Options(**given)
    if options.obs_all_health and not options.obs_own_health:
        given = given | {"obs_own_health": True}  # SMAC: seeing all health includes one's own
        options = Options(**given)
    return options


def _check(key: str, value: Any, default: Any) -> None:
    kinds: tuple[type, ...]
    kind = {f.name: str(f.type) for f in dataclass_fields(Options)}[key]
    if kind == "bool":
        kinds, words = (bool, np.bool_), "true or false"
    elif kind == "int":
        kinds, words = (int, np.integer), "a whole number"
    elif kind == "float":
        kinds, words = (int, float, np.integer, np.floating), "a number"
    else:
        kinds, words = (str, type(None)), "text"
    is_bool = isinstance(value, (bool, np.bool_))
    if not isinstance(value, kinds) or (is_bool and kind != "bool"):
        raise EnvError(f"battle option {key!r} must be {words}, got {value!r}.")
    if key in ("step_mul", "move_amount", "reward_scale_rate") and float(value or 0) <= 0:
        raise EnvError(f"battle option {key!r} must be above 0, got {value!r}.")


class Rules(NamedTuple):
    """Scalars that govern a battle's course."""

    n_allies: int
    n_enemies: int
    step_mul: int
    limit: int
    move_amount: float
    medics: bool
    random_delay: bool
    start_jitter: float  # greatest shift of a start position along each axis
    scripted: bool
    heuristic_ai: bool
    heuristic_rest: bool
    continuing: bool
    enemy_marches: bool
    enemy_x: float
    enemy_y: float
    enemy_end_x: float  # the point is drawn between (enemy_x, enemy_y) and this one
    enemy_end_y: float
    enemies_hunt: bool
    ally_marches: bool
    ally_x: float
    ally_y: float
    sparse: bool
    only_positive: bool
    death_value: float
    win: float
    defeat: float
    negative_scale: float
    divisor: float
    bursts: bool  # whether anyone here explodes
    convex: bool  # all of the following octagon is walkable
    left: float
    right: float
    bottom: float
    top: float
    low_sum: float  # of x + y
    high_sum: float
    low_difference: float  # of x - y
    high_difference: float


class Features(NamedTuple):
    """Shape of observation and state."""

    n_actions: int
    obs_dim: int
    state_dim: int
    all_health: bool
    own_health: bool
    last_action: bool
    pathing_grid: bool
    terrain_height: bool
    timestep: bool
    obs_as_state: bool
    state_last_action: bool
    state_timestep: bool
    ally_shields: bool
    enemy_shields: bool
    type_bits: int


Numbers = TypeVar("Numbers", Rules, Features)


def as_record(numbers: Numbers) -> Numbers:
    """The same fields as one numpy record, which kernels pass around as a single pointer.

    Typed as what it stands for: kernels read its fields like attributes.
    """
    kinds = {int: np.int64, float: np.float64, bool: np.bool_}
    fields = [(n, kinds[type(v)]) for n, v in zip(numbers._fields, numbers, strict=True)]
    dtype = np.dtype(fields, align=True)
    return cast(Numbers, np.array([tuple(numbers)], dtype)[0])


def build_rules(
    battle_map: BattleMap,
    options: Options,
    slots: Slots,
    random_delay: bool = True,
    scripted: bool = False,
    start_jitter: float = 0.0,
) -> Rules:
    """Numbers for the kernels that run a battle."""
    n_allies, n_enemies = len(battle_map.agents), len(battle_map.enemies)
    best = n_enemies * options.reward_death_value + options.reward_win
    best += float((slots["health"] + slots["shield"])[n_allies:].sum())
    nowhere = (0.0, 0.0)
    enemy_goal = battle_map.enemy_goal or nowhere
    enemy_goal_end = battle_map.enemy_goal_end or enemy_goal
    ally_goal = battle_map.ally_goal or nowhere
    return Rules(
        n_allies=n_allies,
        n_enemies=n_enemies,
        step_mul=int(options.step_mul),
        limit=battle_map.limit,
        move_amount=float(options.move_amount),
        medics=battle_map.medics,
        random_delay=bool(random_delay),
        start_jitter=float(start_jitter),
        scripted=bool(scripted),
        heuristic_ai=bool(options.heuristic_ai),
        heuristic_rest=bool(options.heuristic_rest),
        continuing=bool(options.continuing_episode),
        enemy_marches=battle_map.enemy_goal is not None,
        enemy_x=float(enemy_goal[0]),
        enemy_y=float(enemy_goal[1]),
        enemy_end_x=float(enemy_goal_end[0]),
        enemy_end_y=float(enemy_goal_end[1]),
        enemies_hunt=battle_map.enemies_hunt,
        ally_marches=battle_map.ally_goal is not None,
        ally_x=float(ally_goal[0]),
        ally_y=float(ally_goal[1]),
        sparse=bool(options.reward_sparse),
        only_positive=bool(options.reward_only_positive),
        death_value=float(options.reward_death_value),
        win=float(options.reward_win),
        defeat=float(options.reward_defeat),
        negative_scale=float(options.reward_negative_scale),
        divisor=best / float(options.reward_scale_rate) if options.reward_scale else 1.0,
        bursts=bool((slots["delivery"] == BURST).any()),
        **outline(battle_map.terrain)._asdict(),
    )


def slots_of(battle_map: BattleMap, profile: str) -> Slots:
    """Unit records (M,) of a map.

    Raises:
        EnvError: no such profile.
    """
    return build_slots(
        battle_map.agents,
        battle_map.enemies,
        profile,
        dict(battle_map.ally_bits),
        dict(battle_map.enemy_bits),
    )


class BlockSizes(NamedTuple):
    """Widths of the blocks that observations and states are made of, the timestep left out."""

    move: int
    enemy: int  # per enemy seen
    ally: int  # per other agent seen
    own: int
    ally_state: int  # per agent
    enemy_state: int  # per enemy


def block_sizes(battle_map: BattleMap, options: Options) -> BlockSizes:
    """Widths of the blocks, as SMAC counts them."""
    bits = battle_map.unit_type_bits
    ally_shield, enemy_shield = int(battle_map.ally_shields), int(battle_map.enemy_shields)
    last_action = options.obs_last_action * (ACTIONS_NO_ATTACK + len(battle_map.enemies))
    return BlockSizes(
        move=4 + 8 * options.obs_pathing_grid + 9 * options.obs_terrain_height,
        enemy=4 + bits + options.obs_all_health * (1 + enemy_shield),
        ally=4 + bits + options.obs_all_health * (1 + ally_shield) + last_action,
        own=bits + options.obs_own_health * (1 + ally_shield),
        ally_state=4 + ally_shield + bits,
        enemy_state=3 + enemy_shield + bits,
    )


def build_features(battle_map: BattleMap, options: Options) -> Features:
    """Shapes of what the agents see, as SMAC counts them."""
    n_allies, n_enemies = len(battle_map.agents), len(battle_map.enemies)
    blocks = block_sizes(battle_map, options)
    n_actions = ACTIONS_NO_ATTACK + n_enemies
    obs_dim = blocks.move + n_enemies * blocks.enemy + (n_allies - 1) * blocks.ally + blocks.own
    # SMAC reserves a slot for the timestep among the agent's own features and then appends it.
    obs_dim += 2 * options.obs_timestep_number
    state_dim = n_allies * blocks.ally_state + n_enemies * blocks.enemy_state
    state_dim += n_allies * n_actions * options.state_last_action + options.state_timestep_number
    if options.obs_instead_of_state:
        state_dim = n_allies * obs_dim
    return Features(
        n_actions=n_actions,
        obs_dim=obs_dim,
        state_dim=state_dim,
        all_health=bool(options.obs_all_health),
        own_health=bool(options.obs_own_health),
        last_action=bool(options.obs_last_action),
        pathing_grid=bool(options.obs_pathing_grid),
        terrain_height=bool(options.obs_terrain_height),
        timestep=bool(options.obs_timestep_number),
        obs_as_state=bool(options.obs_instead_of_state),
        state_last_action=bool(options.state_last_action),
        state_timestep=bool(options.state_timestep_number),
        ally_shields=battle_map.ally_shields,
        enemy_shields=battle_map.enemy_shields,
        type_bits=battle_map.unit_type_bits,
    )
