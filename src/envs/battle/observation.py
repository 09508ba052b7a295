"""What agents see and may do: SMAC's observations, state and action masks, slot by slot.

Source: SMAC, StarCraft2Env.get_obs_agent, get_state and get_avail_agent_actions. Its quirks are kept:
an enemy's "available" flag comes from the action mask, which for a medivac holds heal targets, and the
timestep is appended after a slot already reserved for it.
"""

from __future__ import annotations

import math

import numpy as np

from .jit import inlined, inner
from .layout import COOLDOWN, ENERGY, HEALTH, SHIELD, Array, Real, X, Y
from .rules import ACTIONS_NO_ATTACK, MAP_SIZE, SHOOT_RANGE, SIGHT_RANGE, Features, Rules
from .terrain import HEIGHT, PATHABLE, Terrain, inside
from .units import Slots

# Cells whose ground an agent can sense, in SMAC's order; the last one only for heights.
NEAR = np.array(
    [[0, 4], [0, -4], [4, 0], [-4, 0], [2, 2], [-2, -2], [2, -2], [-2, 2], [0, 0]], dtype=np.int64
)
_HALF = MAP_SIZE / 2


@inner
def write_mask(
    i: int, avail: Array, units: Real, stats: Slots, rules: Rules, terrain: Terrain
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
    first, last = rules.n_allies, rules.n_allies + rules.n_enemies
    medic = rules.medics and stats[i].heal_rate > 0.0
    if medic:
        first, last = 0, rules.n_allies
    for j in range(first, last):
        if units[HEALTH, j] <= 0.0 or (medic and stats[j].heal_rate > 0.0):
            continue
        dx, dy = units[X, j] - x, units[Y, j] - y
        if math.sqrt(dx * dx + dy * dy) <= SHOOT_RANGE:
            avail[ACTIONS_NO_ATTACK + j - first] = 1


@inlined
def can_walk(x: float, y: float, terrain: Terrain) -> bool:
    """SMAC's test of a step: coordinates truncated, cell on the map and pathable."""
    cell_x, cell_y = int(x), int(y)
    return inside(cell_x, cell_y) and terrain[PATHABLE, cell_x, cell_y] > 0.0


@inner
def write_obs(
    i: int, row: Array, avail: Array, last_action: Array, seen: Array, clock: float,
    units: Real, stats: Slots, rules: Rules, terrain: Terrain, shape: Features,
) -> None:  # fmt: skip
    """Fill agent i's observation (O,) and whom of its team it sees (N,)."""
    row[:] = 0.0
    seen[:] = False
    if shape.timestep:
        row[shape.obs_dim - 1] = clock
    if units[HEALTH, i] <= 0.0:
        return
    x, y = units[X, i], units[Y, i]
    for c in range(4):
        row[c] = avail[2 + c]
    at = 4
    if shape.pathing_grid or shape.terrain_height:
        at = sense_ground(row, at, x, y, terrain, shape)
    width = 4 + shape.type_bits
    if shape.all_health:
        width += 2 if shape.enemy_shields else 1
    for e in range(rules.n_enemies):
        j = rules.n_allies + e
        dx, dy = units[X, j] - x, units[Y, j] - y
        distance = math.sqrt(dx * dx + dy * dy)
        if distance < SIGHT_RANGE and units[HEALTH, j] > 0.0:
            row[at] = avail[ACTIONS_NO_ATTACK + e]
            row[at + 1] = distance / SIGHT_RANGE
            row[at + 2] = dx / SIGHT_RANGE
            row[at + 3] = dy / SIGHT_RANGE
            write_kind(j, row, at + 4, shape.all_health, shape.enemy_shields, units, stats, shape)
        at += width
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
        if distance < SIGHT_RANGE and units[HEALTH, j] > 0.0:
            seen[j] = True
            row[at] = 1.0
            row[at + 1] = distance / SIGHT_RANGE
            row[at + 2] = dx / SIGHT_RANGE
            row[at + 3] = dy / SIGHT_RANGE
            write_kind(j, row, at + 4, shape.all_health, shape.ally_shields, units, stats, shape)
            if shape.last_action and last_action[j] >= 0:
                row[about + last_action[j]] = 1.0
        at += width
        about += width
    seen[i] = True
    write_kind(i, row, at, shape.own_health, shape.ally_shields, units, stats, shape)


@inlined
def write_kind(
    j: int, row: Array, at: int, health: bool, shields: bool,
    units: Real, stats: Slots, shape: Features,
) -> None:  # fmt: skip
    """Health and shield shares, where they are seen, and the type of unit j."""
    if health:
        row[at] = units[HEALTH, j] / stats[j].health
        at += 1
        if shields:
            row[at] = units[SHIELD, j] / stats[j].shown_shield
            at += 1
    if shape.type_bits > 0:
        row[at + stats[j].type_bit] = 1.0


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
    row: Array, obs: Array, last_action: Array, clock: float,
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
    last_action: Array, clock: float,
    units: Real, stats: Slots, rules: Rules, terrain: Terrain, shape: Features,
) -> None:  # fmt: skip
    """Fill all that one battle shows.

    obs (N, O), state (S,), avail (N, A), alive (N,), visibility (N, N): who sees whom.
    """
    for i in range(rules.n_allies):
        alive[i] = units[HEALTH, i] > 0.0
        write_mask(i, avail[i], units, stats, rules, terrain)
        write_obs(
            i, obs[i], avail[i], last_action, visibility[i], clock,
            units, stats, rules, terrain, shape,
        )  # fmt: skip
    write_state(state, obs, last_action, clock, units, stats, rules, shape)
