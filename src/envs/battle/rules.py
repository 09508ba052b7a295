"""SMAC's options, checked, and the numbers that the kernels take from them and the map."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np

from ...errors import EnvError, did_you_mean
from .maps import GENERATED, BattleMap
from .terrain import outline
from .units import BURST, GROUND, Slots, build_slots

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


@dataclass(frozen=True)
class GeneratedOptions(Options):
    """SMACv2's options beyond SMAC's. Defaults are those of its benchmark, not of its class.

    Attributes:
        capability_config: SMACv2's nested dictionary; empty: the benchmark's for the race.
        n_units, n_enemies: team sizes, before those of ``capability_config``.
        use_unit_ranges: each unit type masks attacks and sees by its own ranges; else 6 and 9.
        min_attack_range: least range by which attacks are masked.
        obs_own_pos: agents see where they are.
        conic_fov: agents see and attack only within a cone, which look actions turn.
        num_fov_actions: how many directions there are to look.
        prob_obs_enemy: chance that an agent who is not the first to see an enemy gets to see it.
        action_mask: without, attacks on any living enemy are available, and those out of reach do
            nothing.
        fully_observable: everybody sees everything.
        strict_smacv2: keep a fault of the original: in an agent's view, the enemies before one that
            it never got to see are blanked.
    """

    capability_config: dict[str, Any] | None = None
    n_units: int | None = None
    n_enemies: int | None = None
    use_unit_ranges: bool = True
    min_attack_range: float = 2.0
    obs_own_pos: bool = True
    conic_fov: bool = False
    num_fov_actions: int = 12
    prob_obs_enemy: float = 1.0
    action_mask: bool = True
    fully_observable: bool = False
    strict_smacv2: bool = False

    @property
    def looks(self) -> int:
        """Look actions there are."""
        return int(self.num_fov_actions) if self.conic_fov else 0


# What SMAC's own maps have of SMACv2's options: none.
_PLAIN = GeneratedOptions(use_unit_ranges=False, obs_own_pos=False)


def generated_options(options: Options) -> GeneratedOptions:
    """SMACv2's options, also where SMAC's are all there are."""
    return options if isinstance(options, GeneratedOptions) else _PLAIN


def read_options(given: dict[str, Any]) -> Options:
    """Check SMAC options given as keywords.

    Raises:
        EnvError: unknown option, or a value of the wrong type or out of range.
    """
    defaults = asdict(Options())
    beyond = {f.name for f in dataclass_fields(GeneratedOptions)} - set(defaults)
    for key, value in given.items():
        if key in beyond:
            raise EnvError(
                f"battle option {key!r} is SMACv2's: it goes with the maps {', '.join(GENERATED)}."
            )
        if key not in defaults:
            raise EnvError(
                f"unknown battle option {key!r}.{did_you_mean(key, defaults)} "
                f"Options are {', '.join(defaults)}."
            )
        check_option(Options, key, value)
    options = Options(**given)
    if options.obs_all_health and not options.obs_own_health:
        given = given | {"obs_own_health": True}  # SMAC: seeing all health includes one's own
        options = Options(**given)
    return options


def check_option(options: type[Options], key: str, value: Any) -> None:
    """Check the type of one option's value.

    Raises:
        EnvError: a value of the wrong type, or not above 0 where it must be.
    """
    kinds: tuple[type, ...]
    kind = {f.name: str(f.type) for f in dataclass_fields(options)}[key].removesuffix(" | None")
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
    if isinstance(value, (float, np.floating)) and not math.isfinite(value):
        raise EnvError(f"battle option {key!r} must be finite, got {value!r}.")
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
    generated: bool  # teams are drawn, and SMACv2's rules of reward and victory hold
    looks: int  # directions to look, 0 with eyes all around
    first_attack: int  # action that attacks enemy 0
    action_mask: bool
    sees_all: bool
    partial: bool  # who sees which enemy is drawn
    strict_smacv2: bool
    prob_obs_enemy: float
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
    scale_rate: float  # 0: rewards are not scaled
    bursts: bool  # whether anyone here explodes
    heals: bool  # whether anyone here heals others
    recovers: bool  # whether anyone's shield, health or energy comes back by itself
    widest: float  # largest separation radius of ground units
    widest_other: float  # of flyers and colossi
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
    ally_types: bool  # whether agents see what the others are
    own_pos: bool
    facing: bool  # the direction of sight is seen


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
    types: Slots | None = None,
) -> Rules:
    """Numbers for the kernels that run a battle.

    ``types``: where teams are drawn, unit data of all who can occur.
    """
    own = generated_options(options)
    n_allies, n_enemies = len(battle_map.agents), len(battle_map.enemies)
    best = n_enemies * options.reward_death_value + options.reward_win
    best += float((slots["health"] + slots["shield"])[n_allies:].sum())
    types = slots if types is None else types
    on_ground = types["plane"] == GROUND
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
        generated=battle_map.generated,
        looks=own.looks,
        first_attack=ACTIONS_NO_ATTACK + own.looks,
        action_mask=bool(own.action_mask),
        sees_all=bool(own.fully_observable),
        partial=own.prob_obs_enemy < 1 or bool(own.strict_smacv2),
        strict_smacv2=bool(own.strict_smacv2),
        prob_obs_enemy=float(own.prob_obs_enemy),
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
        scale_rate=float(options.reward_scale_rate) if options.reward_scale else 0.0,
        bursts=bool((types["delivery"] == BURST).any()),
        heals=bool((types["heal_rate"] > 0).any()),
        recovers=any((types[f] > 0).any() for f in ("shield", "health_regen", "energy_regen")),
        widest=float(np.max(types["separation"], where=on_ground, initial=0.0)),
        widest_other=float(np.max(types["separation"], where=~on_ground, initial=0.0)),
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


def actions_of(battle_map: BattleMap, options: Options) -> int:
    """How many actions an agent has."""
    targets = len(battle_map.enemies)
    if battle_map.generated and battle_map.medics:
        targets = max(targets, len(battle_map.agents))  # SMAC's own maps never have more agents
    return ACTIONS_NO_ATTACK + generated_options(options).looks + targets


def block_sizes(battle_map: BattleMap, options: Options) -> BlockSizes:
    """Widths of the blocks, as SMAC counts them."""
    bits = battle_map.unit_type_bits
    ally_shield, enemy_shield = int(battle_map.ally_shields), int(battle_map.enemy_shields)
    own = generated_options(options)
    last_action = options.obs_last_action * actions_of(battle_map, options)
    facing = 2 * own.conic_fov
    return BlockSizes(
        move=4 + 8 * options.obs_pathing_grid + 9 * options.obs_terrain_height,
        enemy=4 + bits + options.obs_all_health * (1 + enemy_shield),
        ally=4 + bits + options.obs_all_health * (1 + ally_shield) + last_action,
        own=bits + options.obs_own_health * (1 + ally_shield) + 2 * own.obs_own_pos + facing,
        ally_state=4 + ally_shield + bits + facing,
        enemy_state=3 + enemy_shield + bits,
    )


def build_features(battle_map: BattleMap, options: Options, ally_types: bool = True) -> Features:
    """Shapes of what the agents see, as SMAC counts them."""
    n_allies, n_enemies = len(battle_map.agents), len(battle_map.enemies)
    blocks = block_sizes(battle_map, options)
    n_actions = actions_of(battle_map, options)
    own = generated_options(options)
    obs_dim = blocks.move + n_enemies * blocks.enemy + (n_allies - 1) * blocks.ally + blocks.own
    # SMAC reserves a slot for the timestep among the agent's own features and then appends it;
    # SMACv2 only appends it.
    obs_dim += (1 if battle_map.generated else 2) * options.obs_timestep_number
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
        ally_types=ally_types,
        own_pos=bool(own.obs_own_pos),
        facing=bool(own.conic_fov),
    )
