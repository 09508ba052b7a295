"""How an episode begins: places, life and the map script's first orders."""

from __future__ import annotations

import numpy as np

from . import rng
from .generation import Draw, generate
from .jit import inner
from .layout import (
    ATTACKER,
    ENERGY,
    EPISODE,
    GOAL_X,
    GOAL_Y,
    HEALTH,
    LOOP,
    MARCH,
    ORDER,
    OVER,
    QUEUED,
    SHIELD,
    STAND,
    STEP,
    SWING_TARGET,
    TARGET,
    Real,
    State,
    Whole,
    Work,
    X,
    Y,
)
from .rules import Rules
from .units import Slots


@inner
def restart(
    b: int, seed: int, index: int, state: State, work: Work, draw: Draw,
    start: Real, stats: Slots, rules: Rules,
) -> None:  # fmt: skip
    """Begin the next episode of battle b. ``start`` (2, M) holds the start positions."""
    state.battle[b, EPISODE] += 1
    key = rng.episode_key(seed, index, state.battle[b, EPISODE])
    if rules.generated:
        generate(key, work, draw, stats, start, rules)
    begin(b, key, state, start, stats, rules)


@inner
def begin(b: int, key: np.uint64, state: State, start: Real, stats: Slots, rules: Rules) -> None:
    """Put everything of battle b at the beginning of the episode it is in."""
    units, flags, battle = state.units[b], state.flags[b], state.battle[b]
    battle[STEP], battle[LOOP], battle[OVER], battle[QUEUED] = 0, 0, 0, 0
    units[:] = 0.0
    flags[:] = 0
    goal_share = rng.uniform(key, 0, 0, rng.GOAL)
    for i in range(rules.n_allies + rules.n_enemies):
        units[X, i], units[Y, i] = start[X, i], start[Y, i]
        if rules.start_jitter > 0.0:
            units[X, i] += rules.start_jitter * (2.0 * rng.uniform(key, 0, i, rng.START_X) - 1.0)
            units[Y, i] += rules.start_jitter * (2.0 * rng.uniform(key, 0, i, rng.START_Y) - 1.0)
        units[HEALTH, i], units[SHIELD, i] = stats[i].health, stats[i].shield
        units[ENERGY, i] = stats[i].energy_start
        for field in (TARGET, SWING_TARGET, ATTACKER):
            flags[field, i] = -1
        give_first_order(i, goal_share, units, flags, stats, rules)
    state.last_action[b] = -1
    state.chosen[b] = -1
    state.returned[b] = 0.0
    state.facing[b] = 0
    if rules.partial:
        state.spotted[b] = 0
        state.spotter[b] = -1


@inner
def give_first_order(
    i: int, goal_share: float, units: Real, flags: Whole, stats: Slots, rules: Rules
) -> None:
    """The map script's order: enemies (and scripted allies) attack-move, agents wait.

    ``goal_share`` says where on its segment the enemies' goal lies in this episode.
    """
    if stats[i].enemy == 1:
        flags[ORDER, i] = MARCH if rules.enemy_marches else STAND
        units[GOAL_X, i] = rules.enemy_x + goal_share * (rules.enemy_end_x - rules.enemy_x)
        units[GOAL_Y, i] = rules.enemy_y + goal_share * (rules.enemy_end_y - rules.enemy_y)
    elif rules.scripted:
        flags[ORDER, i] = MARCH if rules.ally_marches else STAND
        units[GOAL_X, i], units[GOAL_Y, i] = rules.ally_x, rules.ally_y
