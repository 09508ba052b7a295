"""From actions to orders, and what each order makes a unit do in a loop.

The agents obey only: they neither shoot nor flee unasked, and stand still once their target is dead.
"""

from __future__ import annotations

import math

import numpy as np

from .combat import can_hit, fire, stabs, within
from .jit import inlined, inner
from .layout import (
    ATTACK,
    BACKSWING,
    COOLDOWN,
    GOAL_X,
    GOAL_Y,
    HEAL,
    HEALTH,
    INTENT,
    MARCH,
    MOVE,
    ORDER,
    PACE,
    STAND,
    SWING,
    TARGET,
    WINDUP,
    WISH_X,
    WISH_Y,
    Array,
    Real,
    Whole,
    Work,
    X,
    Y,
)
from .rules import Rules
from .units import Slots

FOLLOW_MARGIN = 1.0  # a healer stays this far inside its range, to keep up with its patient

ANCHOR, IDLE, MOVER = 0, 1, 2  # how a unit stands: firm, giving way to friends, walking


@inner
def obey(i: int, action: int, units: Real, flags: Whole, stats: Slots, rules: Rules) -> None:
    """Give agent i the order of an action. The same attack again does not interrupt a shot."""
    order, target = STAND, -1
    if 2 <= action <= 5:
        order = MOVE
        units[GOAL_X, i], units[GOAL_Y, i] = units[X, i], units[Y, i]
        if action == 2:
            units[GOAL_Y, i] += rules.move_amount
        elif action == 3:
            units[GOAL_Y, i] -= rules.move_amount
        elif action == 4:
            units[GOAL_X, i] += rules.move_amount
        else:
            units[GOAL_X, i] -= rules.move_amount
    elif action >= rules.first_attack:
        target = action - rules.first_attack
        if rules.medics and stats[i].heal_rate > 0.0:
            order = HEAL
        else:
            target += rules.n_allies
            order = ATTACK
            if not can_hit(i, target, stats):
                order, target = STAND, -1  # the game refuses such an order
    if order != ATTACK or flags[ORDER, i] != ATTACK or flags[TARGET, i] != target:
        flags[WINDUP, i] = 0
        units[SWING, i] = 0.0
    units[BACKSWING, i] = 0.0
    flags[ORDER, i] = order
    flags[TARGET, i] = target


@inner
def heuristic_action(
    i: int, avail: Array, chosen: Array, units: Real, flags: Whole, stats: Slots, rules: Rules
) -> int:
    """SMAC's built-in heuristic: stay on one target, the nearest at any distance.

    Returns -1 where it gives no order. With ``heuristic_rest`` an unavailable target turns into a step
    along the longer axis toward it.
    """
    medic = rules.medics and stats[i].heal_rate > 0.0
    base = 0 if medic else rules.n_allies
    count = rules.n_allies if medic else rules.n_enemies
    target = chosen[i]
    stale = target < 0 or units[HEALTH, base + target] <= 0.0
    if medic and not stale:
        stale = units[HEALTH, base + target] >= stats[base + target].health
    if stale:
        target, best = -1, math.inf
        for c in range(count):
            j = base + c
            if units[HEALTH, j] <= 0.0:
                continue
            if medic and (stats[j].heal_rate > 0.0 or units[HEALTH, j] >= stats[j].health):
                continue
            if not medic and not can_hit(i, j, stats):
                continue
            dx, dy = units[X, j] - units[X, i], units[Y, j] - units[Y, i]
            if dx * dx + dy * dy < best:
                target, best = c, dx * dx + dy * dy
        chosen[i] = target
    if target < 0:
        return -1
    action = rules.first_attack + target
    if rules.heuristic_rest and avail[action] == 0:
        dx = units[X, base + target] - units[X, i]
        dy = units[Y, base + target] - units[Y, i]
        if abs(dx) > abs(dy):
            return 4 if dx > 0 else 5
        return 2 if dy > 0 else 3
    return int(action)


@inlined
def act(
    i: int, loop: int, key: np.uint64,
    work: Work, units: Real, flags: Whole, battle: Array, queue: Whole,
    stats: Slots, rules: Rules,
) -> None:  # fmt: skip
    """Carry out unit i's order as far as it is not walking, and note where it wants to walk."""
    order, j = flags[ORDER, i], flags[TARGET, i]
    if order == ATTACK:
        if units[HEALTH, j] <= 0.0:
            flags[ORDER, i], flags[TARGET, i], flags[WINDUP, i] = STAND, -1, 0
            if stats[i].enemy == 1 or rules.scripted:
                flags[ORDER, i] = MARCH  # its brain decides next loop; until then it stands
            work.whole[INTENT, i] = IDLE
            return
        work.whole[INTENT, i] = ANCHOR
        near = within(i, j, stats[i].reach, units, stats)
        if flags[WINDUP, i] == 0 and near and units[COOLDOWN, i] <= 0.0:
            flags[WINDUP, i] = 1
        if flags[WINDUP, i] == 1:
            melee = stabs(i, j, units, stats)
            point = stats[i].melee_point if melee else stats[i].damage_point
            if units[COOLDOWN, i] <= -point:
                if near or within(i, j, stats[i].reach + stats[i].slop, units, stats):
                    fire(i, j, melee, loop, key, units, flags, battle, queue, stats, rules)
                else:
                    flags[WINDUP, i] = 0
        elif not near and units[SWING, i] <= 0.0 and units[BACKSWING, i] <= 0.0:
            head_for(i, units[X, j], units[Y, j], work)
    elif order == HEAL:
        work.whole[INTENT, i] = IDLE
        if units[HEALTH, j] <= 0.0:
            flags[ORDER, i], flags[TARGET, i] = STAND, -1
        elif units[HEALTH, j] < stats[j].health and not within(
            i, j, stats[i].heal_reach - FOLLOW_MARGIN, units, stats
        ):
            head_for(i, units[X, j], units[Y, j], work)
    elif order in (MOVE, MARCH):
        work.whole[INTENT, i] = IDLE
        if units[SWING, i] > 0.0 or units[BACKSWING, i] > 0.0:
            work.whole[INTENT, i] = ANCHOR
        elif units[X, i] != units[GOAL_X, i] or units[Y, i] != units[GOAL_Y, i]:
            head_for(i, units[GOAL_X, i], units[GOAL_Y, i], work)
    else:
        work.whole[INTENT, i] = IDLE
    if work.real[PACE, i] <= 0.0:
        work.whole[INTENT, i] = ANCHOR  # what cannot walk cannot be pushed


@inlined
def head_for(i: int, x: float, y: float, work: Work) -> None:
    """Make the unit a mover toward a point."""
    work.whole[INTENT, i] = MOVER
    work.real[WISH_X, i] = x
    work.real[WISH_Y, i] = y
