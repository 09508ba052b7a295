"""SMACv2's battles: teams and start positions drawn anew in every episode.

Source: SMACv2 (Ellis et al., 2023), ``capability_config`` with ``team_gen`` of ``weighted_teams`` and
``start_positions`` of ``surrounded``, ``reflect_position`` or ``surrounded_and_reflect``. Everything drawn
hangs on (seed, battle index, episode), like all randomness here. Who is created where somebody stands
already takes the nearest free place on a quarter-unit lattice; the game's own search is not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import EnvError, did_you_mean
from . import rng
from .jit import inner
from .layout import INTENT, LIVING, PLACE_X, PLACE_Y, WISH_X, WISH_Y, Real, Work
from .maps import GENERATED, BattleMap
from .rules import MAP_SIZE, GeneratedOptions, Options, Rules, check_option
from .units import Slots, build_slots

# Ways to start, with the chance that they reflect; None: the key ``p``.
_WAYS = {"surrounded": 0.0, "reflect_position": 1.0, "surrounded_and_reflect": None}
# Weapon ranges by which SMACv2 masks attacks, and sight ranges, with ``use_unit_ranges``.
RANGES = {
    "Stalker": (6.0, 10.0),
    "Zealot": (0.1, 9.0),
    "Colossus": (7.0, 10.0),
    "Zergling": (0.1, 8.0),
    "Baneling": (0.25, 8.0),
    "Hydralisk": (5.0, 9.0),
    "Marine": (5.0, 9.0),
    "Marauder": (6.0, 10.0),
    "Medivac": (4.0, 11.0),
}
LIMIT = 200
ALLY_CAMP, ENEMY_CAMP = (8.0, 16.0), (24.0, 16.0)  # where no start positions are asked for
MOST_TRIES = 1000  # of drawing a team that is not made of exceptions only
_BUFFER = 1.0  # of the reflected half's edge to the middle of the map
_OFFSET = 2.0  # groups that surround come no nearer to the middle, along each axis
_SITE_STEP, _SITE_REACH = 0.25, 8.0


OWN_OPTIONS = tuple(
    f.name for f in fields(GeneratedOptions) if f.name not in {o.name for o in fields(Options)}
)


class Draw(NamedTuple):
    """What teams are drawn from; empty arrays on maps whose teams are fixed."""

    catalog: Slots  # (2 K,) unit data of the K types as agents, then as enemies
    bounds: Real  # (K,) cumulative weights
    exceptions: NDArray[np.bool_]  # (K,) types of which no team consists entirely
    sites: Real  # (L, 2) shifts to free places, nearest first
    reflect: float  # chance of reflected start positions; the others are surrounded. -1: both face
    width: float  # of the area in which units start
    height: float


def no_draw(slots: Slots) -> Draw:
    """For maps whose teams are fixed."""
    return Draw(slots[:0], np.zeros(0), np.zeros(0, np.bool_), np.zeros((0, 2)), 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Capabilities:
    """A checked ``capability_config``."""

    n_units: int
    n_enemies: int
    types: tuple[str, ...]  # in the alphabet's order, which is that of SMACv2's unit types
    weights: tuple[float, ...]
    exceptions: tuple[str, ...]
    observe: bool
    reflect: float
    width: float
    height: float


def read_generated_options(given: dict[str, Any]) -> GeneratedOptions:
    """Check SMACv2 options given as keywords.

    Raises:
        EnvError: unknown option, or a value of the wrong type or out of range.
    """
    defaults = GeneratedOptions()
    for key, value in given.items():
        if key not in OWN_OPTIONS and not hasattr(Options, key):
            known = [f.name for f in fields(GeneratedOptions)]
            raise EnvError(
                f"unknown battle option {key!r}.{did_you_mean(key, known)} "
                f"Options are {', '.join(known)}."
            )
        if key == "capability_config":
            if value is not None and not isinstance(value, Mapping):
                raise EnvError(f"capability_config must be a mapping, got {value!r}.")
        elif not (key in ("n_units", "n_enemies") and value is None):
            check_option(GeneratedOptions, key, value)
    options = replace(defaults, **given)
    if not 0 <= options.prob_obs_enemy <= 1:
        raise EnvError(
            f"battle option 'prob_obs_enemy' must lie in 0..1, got {options.prob_obs_enemy}."
        )
    if options.num_fov_actions < 2 or options.min_attack_range < 0:
        raise EnvError(
            "battle options 'num_fov_actions' and 'min_attack_range' must be at least 2 and 0, "
            f"got {options.num_fov_actions} and {options.min_attack_range}."
        )
    return replace(options, obs_own_health=options.obs_own_health or options.obs_all_health)


def read_capabilities(map_name: str, options: GeneratedOptions) -> Capabilities:
    """Check a ``capability_config`` against what a map can draw.

    Raises:
        EnvError: an unknown or unsupported entry, a type the map does not have, weights that are no
            distribution, or a size below 1.
    """
    kinds = GENERATED[map_name]
    config = dict(options.capability_config or {})
    team = _section(config.pop("team_gen", None), "team_gen", _TEAM_KEYS)
    start = _section(
        config.pop("start_positions", _STANDARD_START if not options.capability_config else None),
        "start_positions",
        _START_KEYS,
    )
    sizes = []
    for key in ("n_units", "n_enemies"):
        chosen = getattr(options, key)
        size = config.pop(key, team.get(key, 5)) if chosen is None else chosen
        config.pop(key, None)
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or not 1 <= size <= 64:
            raise EnvError(f"{key} must be a whole number from 1 to 64, got {size!r}.")
        sizes.append(int(size))
    if config:
        key = next(iter(config))
        if key in ("attack", "health", "enemy_mask"):
            raise EnvError(f"capability_config.{key} is not offered by the battle engine.")
        raise EnvError(
            f"unknown entry {key!r} in capability_config."
            f"{did_you_mean(key, ['n_units', 'n_enemies', 'team_gen', 'start_positions'])} "
            "Entries are n_units, n_enemies, team_gen, start_positions."
        )
    if team.get("dist_type", "weighted_teams") != "weighted_teams":
        raise EnvError(
            f"capability_config.team_gen.dist_type must be weighted_teams, got {team['dist_type']!r}."
        )
    names = {kind.lower(): kind for kind in kinds}
    standard = [(kind.lower(), weight) for kind, weight in kinds.items()]
    types = team.get("unit_types", [name for name, _ in standard])
    weights = team.get("weights", [] if "unit_types" in team else [w for _, w in standard])
    rare = [name for name, weight in standard if weight == min(kinds.values())]
    exceptions = team.get("exception_unit_types", rare if not team else [])
    for name in [*types, *exceptions]:
        if name not in names:
            raise EnvError(
                f"unit type {name!r} is not on {map_name}.{did_you_mean(str(name), names)} "
                f"Types are {', '.join(names)}."
            )
    if len(weights) != len(types) or len(set(types)) != len(types) or not types:
        raise EnvError(
            "capability_config.team_gen needs different unit_types and one weight each, got "
            f"{list(types)} and {list(weights)}."
        )
    if min(weights) < 0 or abs(sum(weights) - 1) > 1e-6:
        raise EnvError(f"capability_config.team_gen.weights must sum to 1, got {list(weights)}.")
    possible = [name for name, weight in zip(types, weights, strict=True) if weight > 0]
    if set(possible) <= set(exceptions):
        raise EnvError(
            f"capability_config.team_gen would draw only exception_unit_types: {possible}."
        )
    order = sorted(range(len(types)), key=lambda k: types[k])
    reflect, width, height = _read_start(start)
    return Capabilities(
        n_units=sizes[0],
        n_enemies=sizes[1],
        types=tuple(names[types[k]] for k in order),
        weights=tuple(float(weights[k]) for k in order),
        exceptions=tuple(names[name] for name in exceptions),
        observe=bool(team.get("observe", True)),
        reflect=reflect,
        width=width,
        height=height,
    )


_STANDARD_START = {"dist_type": "surrounded_and_reflect", "p": 0.5}
_TEAM_KEYS = (
    "dist_type", "env_key", "unit_types", "weights", "exception_unit_types", "observe", "n_units",
    "n_enemies",
)  # fmt: skip
_START_KEYS = ("dist_type", "env_key", "p", "map_x", "map_y", "n_enemies", "n_units")


def _section(value: Any, name: str, keys: tuple[str, ...]) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise EnvError(f"capability_config.{name} must be a mapping, got {value!r}.")
    for key in value:
        if key not in keys:
            raise EnvError(
                f"unknown key {key!r} in capability_config.{name}.{did_you_mean(str(key), keys)} "
                f"Keys are {', '.join(keys)}."
            )
    return dict(value)


def _read_start(start: dict[str, Any]) -> tuple[float, float, float]:
    """Chance of reflected positions (-1: two camps that face each other), width and height."""
    if not start:
        return -1.0, MAP_SIZE, MAP_SIZE
    way = start.get("dist_type")
    if way not in _WAYS:
        raise EnvError(
            f"capability_config.start_positions.dist_type must be one of {', '.join(_WAYS)}, got {way!r}."
            f"{did_you_mean(str(way), _WAYS)}"
        )
    chance = _WAYS[way]
    reflect = start.get("p", 0.5) if chance is None else chance
    width, height = start.get("map_x", MAP_SIZE), start.get("map_y", MAP_SIZE)
    for key, value, low, high in (
        ("p", reflect, 0, 1), ("map_x", width, 8, MAP_SIZE), ("map_y", height, 8, MAP_SIZE),
    ):  # fmt: skip
        number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
        if not number or not low <= value <= high:
            raise EnvError(
                f"capability_config.start_positions.{key} must lie in {low:g}..{high:g}, got {value!r}."
            )
    return float(reflect), float(width), float(height)


def generated_map(map_name: str, capabilities: Capabilities) -> BattleMap:
    """The map on which such teams fight. Its rosters only hold the places: one type over and over."""
    columns = tuple((kind, column) for column, kind in enumerate(GENERATED[map_name]))
    kind = columns[0][0]
    n_units, n_enemies = capabilities.n_units, capabilities.n_enemies
    return BattleMap(
        name=map_name,
        agents=(kind,) * n_units,
        enemies=(kind,) * n_enemies,
        ally_start=(ALLY_CAMP,) * n_units,
        enemy_start=(ENEMY_CAMP,) * n_enemies,
        limit=LIMIT,
        terrain="open_32x32",
        enemy_goal=None,
        ally_goal=None,
        enemies_hunt=True,
        ally_bits=columns,
        enemy_bits=columns,
        unit_type_bits=len(columns),
        medics="Medivac" in GENERATED[map_name],
        map_type=f"{map_name.removeprefix('10gen_')}_gen",
        generated=True,
    )


def set_ranges(slots: Slots, kinds: list[str], options: GeneratedOptions) -> None:
    """Give unit data (M,) of these kinds SMACv2's ranges, if they are asked for."""
    if options.use_unit_ranges:
        for slot, kind in zip(slots, kinds, strict=True):
            shoot, slot["sight"] = RANGES[kind]
            slot["shoot"] = max(shoot, options.min_attack_range)


def build_draw(
    battle_map: BattleMap, capabilities: Capabilities, options: GeneratedOptions, profile: str
) -> Draw:
    """What the kernels draw teams from."""
    types, bits = capabilities.types, dict(battle_map.ally_bits)
    catalog = build_slots(types, types, profile, bits, bits)
    set_ranges(catalog, [*types, *types], options)
    line = np.arange(-_SITE_REACH, _SITE_REACH + _SITE_STEP / 2, _SITE_STEP)
    y, x = (axis.ravel() for axis in np.meshgrid(line, line, indexing="ij"))
    sites = np.stack([x, y], axis=-1)[np.lexsort((x, y, np.hypot(x, y)))]
    bounds = np.cumsum(capabilities.weights)
    bounds[-1] = 1.0
    return Draw(
        catalog=catalog,
        bounds=bounds,
        exceptions=np.array([t in capabilities.exceptions for t in types]),
        sites=np.ascontiguousarray(sites),
        reflect=capabilities.reflect,
        width=capabilities.width,
        height=capabilities.height,
    )


@inner
def draw_team(first: int, last: int, key: np.uint64, work: Work, draw: Draw) -> None:
    """Draw the types (row INTENT) of units first..last-1, not all of them exceptions."""
    for attempt in range(MOST_TRIES):
        ordinary = False
        for i in range(first, last):
            share = rng.uniform(key, attempt, i, rng.TEAM)
            kind = 0
            while share >= draw.bounds[kind]:
                kind += 1
            work.whole[INTENT, i] = kind
            ordinary |= not draw.exceptions[kind]
        if ordinary:
            return


@inner
def draw_places(key: np.uint64, work: Work, draw: Draw, rules: Rules) -> None:
    """Draw where each unit is created (rows WISH_X, WISH_Y)."""
    n, m = rules.n_allies, rules.n_allies + rules.n_enemies
    wide, high = draw.width, draw.height
    if draw.reflect < 0.0:
        for i in range(m):
            work.real[WISH_X, i] = ALLY_CAMP[0] if i < n else ENEMY_CAMP[0]
            work.real[WISH_Y, i] = ALLY_CAMP[1] if i < n else ENEMY_CAMP[1]
        return
    if rng.uniform(key, 0, 0, rng.WAY) <= draw.reflect:
        for i in range(m):
            if i >= n and i - n < n:
                work.real[WISH_X, i] = wide - work.real[WISH_X, i - n]
                work.real[WISH_Y, i] = work.real[WISH_Y, i - n]
                continue
            share = rng.uniform(key, 0, i, rng.START_X)
            work.real[WISH_X, i] = (
                share * (wide / 2 - _BUFFER) if i < n else (1.0 + share) * wide / 2
            )
            work.real[WISH_Y, i] = rng.uniform(key, 0, i, rng.START_Y) * high
        return
    for i in range(n):
        work.real[WISH_X, i], work.real[WISH_Y, i] = wide / 2, high / 2
    groups = 1 + int(4.0 * rng.uniform(key, 0, 0, rng.GROUPS))
    # Who belongs to which group: the first to the first group and so on, sizes as if each drew one.
    sizes = np.uint64(0)  # sixteen bits per group
    for e in range(rules.n_enemies):
        g = int(groups * rng.uniform(key, 1, e, rng.GROUPS))
        sizes += np.uint64(1) << np.uint64(16 * g)
    corners = np.uint64(0x3210)  # four bits per corner that is left
    left, at = 4, n
    for g in range(groups):
        pick = int(left * rng.uniform(key, 2, g, rng.GROUPS))
        corner = (corners >> np.uint64(4 * pick)) & np.uint64(15)
        last = (corners >> np.uint64(4 * (left - 1))) & np.uint64(15)
        corners &= ~(np.uint64(15) << np.uint64(4 * pick))
        corners |= last << np.uint64(4 * pick)
        left -= 1
        share = rng.uniform(key, 3, g, rng.GROUPS)
        east = 1.0 if corner >= np.uint64(2) else 0.0
        north = 1.0 if corner == np.uint64(1) or corner == np.uint64(2) else 0.0
        near_x = wide / 2 + _OFFSET * (2.0 * east - 1.0)
        near_y = high / 2 + _OFFSET * (2.0 * north - 1.0)
        count = int((sizes >> np.uint64(16 * g)) & np.uint64(0xFFFF))
        for _ in range(count):
            work.real[WISH_X, at] = share * near_x + (1.0 - share) * wide * east
            work.real[WISH_Y, at] = share * near_y + (1.0 - share) * high * north
            at += 1


@inner
def settle(i: int, work: Work, draw: Draw) -> None:
    """Put unit i (rows PLACE_X, PLACE_Y) on the free place nearest to where it is created."""
    rim = draw.catalog[work.whole[INTENT, i]].separation
    plane = draw.catalog[work.whole[INTENT, i]].plane
    x = min(max(work.real[WISH_X, i], rim), MAP_SIZE - rim)
    y = min(max(work.real[WISH_Y, i], rim), MAP_SIZE - rim)
    work.real[PLACE_X, i], work.real[PLACE_Y, i] = x, y
    for s in range(draw.sites.shape[0]):
        px, py = x + draw.sites[s, 0], y + draw.sites[s, 1]
        if px < rim or py < rim or px > MAP_SIZE - rim or py > MAP_SIZE - rim:
            continue
        free = True
        for j in range(i):
            other = draw.catalog[work.whole[INTENT, j]]
            if other.plane != plane:
                continue
            dx, dy = work.real[PLACE_X, j] - px, work.real[PLACE_Y, j] - py
            far = rim + other.separation
            if dx * dx + dy * dy < far * far:
                free = False
                break
        if free:
            work.real[PLACE_X, i], work.real[PLACE_Y, i] = px, py
            return


@inner
def comes_before(a: int, b: int, work: Work) -> bool:
    """SMAC's order of agents: by type, then x, then y."""
    if work.whole[INTENT, a] != work.whole[INTENT, b]:
        return bool(work.whole[INTENT, a] < work.whole[INTENT, b])
    if work.real[PLACE_X, a] != work.real[PLACE_X, b]:
        return bool(work.real[PLACE_X, a] < work.real[PLACE_X, b])
    return bool(work.real[PLACE_Y, a] < work.real[PLACE_Y, b])


@inner
def generate(
    key: np.uint64, work: Work, draw: Draw, slots: Slots, start: Real, rules: Rules
) -> None:
    """Draw one battle's teams into ``slots`` (M,) and their places into ``start`` (2, M)."""
    n, m = rules.n_allies, rules.n_allies + rules.n_enemies
    draw_team(0, n, key, work, draw)
    for i in range(n, min(2 * n, m)):
        work.whole[INTENT, i] = work.whole[INTENT, i - n]
    if m > 2 * n:
        draw_team(2 * n, m, key, work, draw)
    draw_places(key, work, draw, rules)
    arrange(work, draw, slots, start, rules)


@inner
def arrange(work: Work, draw: Draw, slots: Slots, start: Real, rules: Rules) -> None:
    """Line up the units of row INTENT, created at rows WISH_X and WISH_Y; see :func:`generate`."""
    n, m = rules.n_allies, rules.n_allies + rules.n_enemies
    for i in range(m):
        settle(i, work, draw)
        work.whole[LIVING, i] = i
    for i in range(1, n):  # insertion sort of the agents
        own, at = work.whole[LIVING, i], i
        while at > 0 and comes_before(own, work.whole[LIVING, at - 1], work):
            work.whole[LIVING, at] = work.whole[LIVING, at - 1]
            at -= 1
        work.whole[LIVING, at] = own
    kinds = draw.bounds.shape[0]
    for i in range(m):
        who = work.whole[LIVING, i]
        slots[i] = draw.catalog[work.whole[INTENT, who] + (0 if i < n else kinds)]
        slots[i].rank = i if i < n else i - n
        start[0, i], start[1, i] = work.real[PLACE_X, who], work.real[PLACE_Y, who]
