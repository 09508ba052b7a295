"""What agents see and may do: SMAC's observations, state and action masks, slot by slot.

Source: SMAC, StarCraft2Env.get_obs_agent, get_state and get_avail_agent_actions. Its quirks are kept:
an enemy's "available" flag comes from the action mask, which for a medivac holds heal targets, and the
timestep is appended after a slot already reserved for it.
"""

from __future__ import annotations

import math

import numpy as np

from . import rng
from .jit import inlined, inner
from .layout import COOLDOWN, ENERGY, HEALTH, SHIELD, Array, Real, X, Y
from .rules import MAP_SIZE, Features, Rules
from .terrain import HEIGHT, PATHABLE, Terrain, inside
from .units import Slots

# Cells whose ground an agent can sense, in SMAC's order; the last one only for heights.
NEAR = np.array(
    [[0, 4], [0, -4], [4, 0], [-4, 0], [2, 2], [-2, -2], [2, -2], [-2, 2], [0, 0]], dtype=np.int64
)
_HALF = MAP_SIZE / 2
_EPS = 1e-7  # SMACv2's guard against division by zero


@inner
def write_mask(
    i: int, avail: Array, facing: Array, units: Real, stats: Slots, rules: Rules, terrain: Terrain
) -> None:
    """Fill agent i's row (A,) of available actions."""
    avail[:] = 0
    if units[HEALTH, i] <= 0.0:
        avail[0] = 1
        return
    x, y = units[X, i], units[Y, i]
    ahead = rules.move_amount / 2
    avail[1] = 1
    avail[2] = can_walk(x, y + ahead, terrain)
    avail[3] = can_walk(x, y - ahead, terrain)
    avail[4] = can_walk(x + ahead, y, terrain)
    avail[5] = can_walk(x - ahead, y, terrain)
    for a in range(rules.first_attack - rules.looks, rules.first_attack):
        avail[a] = 1
    first, last = rules.n_allies, rules.n_allies + rules.n_enemies
    medic = rules.medics and stats[i].heal_rate > 0.0
    if medic:
        first, last = 0, rules.n_allies
    attack = rules.first_attack - first
    if rules.looks == 0 and rules.action_mask and not medic:
        # One test without branches where nothing special is asked for: it is the innermost loop.
        shoot = stats[i].shoot
        for j in range(first, last):
            dx, dy = units[X, j] - x, units[Y, j] - y
            near = math.sqrt(dx * dx + dy * dy) <= shoot
            avail[attack + j] = near & (units[HEALTH, j] > 0.0)
        return
    for j in range(first, last):
        if units[HEALTH, j] <= 0.0 or (medic and stats[j].heal_rate > 0.0):
            continue
        if not rules.action_mask or may_target(i, j, facing, units, stats, rules):
            avail[attack + j] = 1


@inner
def may_target(i: int, j: int, facing: Array, units: Real, stats: Slots, rules: Rules) -> bool:
    """Whether j is near enough, and in view, for agent i to attack or heal it."""
    dx, dy = units[X, j] - units[X, i], units[Y, j] - units[Y, i]
    near = math.sqrt(dx * dx + dy * dy) <= stats[i].shoot
    if rules.looks > 0 and near:
        return in_cone(dx, dy, facing[i], rules)
    return bool(near)


@inner
def in_cone(dx: float, dy: float, look: int, rules: Rules) -> bool:
    """SMACv2's test whether (dx, dy) lies in the cone around a direction of sight.

    It compares slopes and not directions, with the horizontal part of the look turned to the target's
    side; so one who looks exactly west or east sees both ways.
    """
    dx = max(dx, _EPS) if dx > 0.0 else min(dx, -_EPS)
    angle = 2.0 * math.pi * look / rules.looks
    x = max(math.cos(angle), _EPS) if dx > 0.0 else min(math.cos(angle), -_EPS)
    off = math.atan(dy / dx) - math.atan(math.sin(angle) / x)
    return abs(off) < math.pi / rules.looks


@inner
def in_sight(
    i: int, dx: float, dy: float, distance: float, facing: Array, stats: Slots, rules: Rules
) -> bool:
    """Whether agent i sees what is this far away."""
    if rules.sees_all:
        return True
    if rules.looks > 0:
        return bool(distance <= stats[i].sight) and in_cone(dx, dy, facing[i], rules)
    return bool(distance < stats[i].sight)


@inner
def spot(
    key: np.uint64, step: int, facing: Array, spotted: Array, spotter: Array,
    units: Real, stats: Slots, rules: Rules,
) -> None:  # fmt: skip
    """Draw who gets to see newly seen enemies (SMACv2's partial observability).

    The first agent to see an enemy sees it from then on, each other one with a probability, until the
    first one or the enemy dies. Who comes first among those who see it at once is drawn.

    Args:
        spotted: (E, N), 1 who may see whom. spotter: (E,), who saw it first, or -1.
    """
    for e in range(rules.n_enemies):
        finder = spotter[e]
        dead = units[HEALTH, rules.n_allies + e] <= 0.0
        if dead or (finder >= 0 and units[HEALTH, finder] <= 0.0):
            spotter[e] = -1
            spotted[e, :] = 0
    for i in range(rules.n_allies):
        if units[HEALTH, i] <= 0.0:
            spotted[:, i] = 0
    offset = int(rules.n_allies * rng.uniform(key, step, 0, rng.TURN))
    for turn in range(rules.n_allies):
        i = (turn + offset) % rules.n_allies
        if units[HEALTH, i] <= 0.0:
            continue
        for e in range(rules.n_enemies):
            j = rules.n_allies + e
            if spotter[e] >= 0 or (units[HEALTH, j] <= 0.0 and not rules.strict_smacv2):
                continue
            dx, dy = units[X, j] - units[X, i], units[Y, j] - units[Y, i]
            if not in_sight(i, dx, dy, math.sqrt(dx * dx + dy * dy), facing, stats, rules):
                continue
            spotter[e] = i
            for a in range(rules.n_allies):
                if units[HEALTH, a] > 0.0:
                    chance = rng.uniform(key, step, a, rng.SPOT + e)
                    if a == i or chance < rules.prob_obs_enemy:
                        spotted[e, a] = 1


@inlined
def can_walk(x: float, y: float, terrain: Terrain) -> bool:
    """SMAC's test of a step: coordinates truncated, cell on the map and pathable."""
    cell_x, cell_y = int(x), int(y)
    return inside(cell_x, cell_y) and terrain[PATHABLE, cell_x, cell_y] > 0.0


@inner
def write_obs(
    i: int, row: Array, avail: Array, last_action: Array, seen: Array, clock: float,
    facing: Array, spotted: Array, units: Real, stats: Slots, rules: Rules, terrain: Terrain, shape: Features,
) -> None:  # fmt: skip
    """Fill agent i's observation (O,) and whom of its team it sees (N,); spotted (E, N) or empty."""
    row[:] = 0.0
    seen[:] = False
    if shape.timestep:
        row[shape.obs_dim - 1] = clock
    if units[HEALTH, i] <= 0.0:
        return
    x, y, sight = units[X, i], units[Y, i], stats[i].sight
    for c in range(4):
        row[c] = avail[2 + c]
    at = 4
    if shape.pathing_grid or shape.terrain_height:
        at = sense_ground(row, at, x, y, terrain, shape)
    plain = rules.looks == 0 and not rules.sees_all and not rules.partial
    width = 4 + shape.type_bits
    if shape.all_health:
        width += 2 if shape.enemy_shields else 1
    for e in range(rules.n_enemies):
        j = rules.n_allies + e
        dx, dy = units[X, j] - x, units[Y, j] - y
        distance = math.sqrt(dx * dx + dy * dy)
        visible = distance < sight
        if not plain:
            visible = in_sight(i, dx, dy, distance, facing, stats, rules)
            visible &= not rules.partial or spotted[e, i] == 1 or rules.sees_all
        if visible and units[HEALTH, j] > 0.0:
            row[at] = avail[rules.first_attack + e]
            row[at + 1] = distance / sight
            row[at + 2] = dx / sight
            row[at + 3] = dy / sight
            write_kind(
                j, row, at + 4, 0, shape.all_health, shape.enemy_shields, True, units, stats, shape
            )
        at += width
        if rules.strict_smacv2 and spotted[e, i] == 0:
            row[at - (e + 1) * width : at] = 0.0
    width = 4 + shape.type_bits
    if shape.all_health:
        width += 2 if shape.ally_shields else 1
    about = at + width
    if shape.last_action:
        width += shape.n_actions
    for j in range(rules.n_allies):
        if j == i:
            continue
        dx, dy = units[X, j] - x, units[Y, j] - y
        distance = math.sqrt(dx * dx + dy * dy)
        visible = distance < sight if plain else in_sight(i, dx, dy, distance, facing, stats, rules)
        if visible and units[HEALTH, j] > 0.0:
            seen[j] = True
            row[at] = 1.0
            row[at + 1] = distance / sight
            row[at + 2] = dx / sight
            row[at + 3] = dy / sight
            write_kind(
                j, row, at + 4, 0, shape.all_health, shape.ally_shields, shape.ally_types,
                units, stats, shape,
            )  # fmt: skip
            if shape.last_action and last_action[j] >= 0:
                row[about + last_action[j]] = 1.0
        at += width
        about += width
    seen[i] = True
    gap = 2 * shape.own_pos + 2 * shape.facing
    write_kind(i, row, at, gap, shape.own_health, shape.ally_shields, True, units, stats, shape)
    if shape.own_health:
        at += 2 if shape.ally_shields else 1
    if shape.own_pos:
        row[at] = x / MAP_SIZE
        row[at + 1] = y / MAP_SIZE
        at += 2
    if shape.facing:
        write_look(row, at, facing[i], rules)


@inlined
def write_look(row: Array, at: int, look: int, rules: Rules) -> None:
    """The unit vector of a direction of sight."""
    angle = 2.0 * math.pi * look / rules.looks
    row[at] = math.cos(angle)
    row[at + 1] = math.sin(angle)


@inlined
def write_kind(
    j: int, row: Array, at: int, gap: int, health: bool, shields: bool, kind: bool,
    units: Real, stats: Slots, shape: Features,
) -> None:  # fmt: skip
    """Health and shield shares, where they are seen, then ``gap`` slots, then the type of unit j."""
    if health:
        row[at] = units[HEALTH, j] / stats[j].health
        at += 1
        if shields:
            row[at] = units[SHIELD, j] / stats[j].shown_shield
            at += 1
    if shape.type_bits > 0 and kind:
        row[at + gap + stats[j].type_bit] = 1.0


@inner
def sense_ground(row: Array, at: int, x: float, y: float, terrain: Terrain, shape: Features) -> int:
    """Pathing and height of cells around; off the map both are 1. Returns the next free slot."""
    cell_x, cell_y = int(x), int(y)
    if shape.pathing_grid:
        for c in range(8):
            px, py = cell_x + NEAR[c, 0], cell_y + NEAR[c, 1]
            row[at] = terrain[PATHABLE, px, py] if inside(px, py) else 1.0
            at += 1
    if shape.terrain_height:
        for c in range(9):
            px, py = cell_x + NEAR[c, 0], cell_y + NEAR[c, 1]
            row[at] = terrain[HEIGHT, px, py] if inside(px, py) else 1.0
            at += 1
    return at


@inner
def write_state(
    row: Array, obs: Array, last_action: Array, clock: float, facing: Array,
    units: Real, stats: Slots, rules: Rules, shape: Features,
) -> None:  # fmt: skip
    """Fill the global state (S,). Dead units' rows are zero."""
    row[:] = 0.0
    if shape.obs_as_state:
        for i in range(rules.n_allies):
            for c in range(shape.obs_dim):
                row[i * shape.obs_dim + c] = obs[i, c]
        return
    at = 0
    for i in range(rules.n_allies + rules.n_enemies):
        ally = i < rules.n_allies
        shields = shape.ally_shields if ally else shape.enemy_shields
        width = (4 if ally else 3) + shields + shape.type_bits
        if ally and shape.facing:
            width += 2
        if units[HEALTH, i] > 0.0:
            c = at
            row[c] = units[HEALTH, i] / stats[i].health
            if ally:
                c += 1
                if rules.medics and stats[i].heal_rate > 0.0:
                    row[c] = units[ENERGY, i] / stats[i].max_cooldown
                else:
                    row[c] = max(units[COOLDOWN, i], 0.0) / stats[i].max_cooldown
            row[c + 1] = (units[X, i] - _HALF) / MAP_SIZE
            row[c + 2] = (units[Y, i] - _HALF) / MAP_SIZE
            if shields:
                row[c + 3] = units[SHIELD, i] / stats[i].shown_shield
            if ally and shape.facing:
                write_look(row, c + 3 + shields, facing[i], rules)
            if shape.type_bits > 0:
                row[at + width - shape.type_bits + stats[i].type_bit] = 1.0
        at += width
    if shape.state_last_action:
        for i in range(rules.n_allies):
            if last_action[i] >= 0:
                row[at + last_action[i]] = 1.0
            at += shape.n_actions
    if shape.state_timestep:
        row[at] = clock


@inlined
def look(
    obs: Array, state: Array, avail: Array, alive: Array, visibility: Array,
    last_action: Array, clock: float, facing: Array, spotted: Array,
    units: Real, stats: Slots, rules: Rules, terrain: Terrain, shape: Features,
) -> None:  # fmt: skip
    """Fill all that one battle shows.

    obs (N, O), state (S,), avail (N, A), alive (N,), visibility (N, N): who sees whom.
    """
    for i in range(rules.n_allies):
        alive[i] = units[HEALTH, i] > 0.0
        write_mask(i, avail[i], facing, units, stats, rules, terrain)
        write_obs(
            i, obs[i], avail[i], last_action, visibility[i], clock, facing, spotted,
            units, stats, rules, terrain, shape,
        )  # fmt: skip
    write_state(state, obs, last_action, clock, facing, units, stats, rules, shape)
