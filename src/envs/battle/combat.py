"""Weapons: starting a shot, its damage, missiles and second blades, shields and wounds.

A shot starts when the cooldown has run out and the target is in range, needs the weapon's damage point
standing still, and is lost if by then the target is farther than range plus slop. The cooldown counts
from the shot's start; fractions of a loop carry over from shot to shot, so that rates of fire are exact.
"""

from __future__ import annotations

import math

import numpy as np

from . import rng
from .jit import count, inlined, inner
from .layout import (
    ALERT,
    ATTACKER,
    BACKSWING,
    COOLDOWN,
    DUE,
    ENERGY,
    EXPLODED,
    HEALED,
    HEALTH,
    QUEUED,
    SHIELD,
    SHIELD_WAIT,
    SOURCE,
    SWING,
    SWING_TARGET,
    TURN,
    VICTIM,
    WINDUP,
    Real,
    Whole,
    Work,
    X,
    Y,
)
from .pitch import lanes
from .rules import Rules
from .units import (
    BURST,
    GROUND_LAYER,
    LINE,
    MISSILE,
    SHIELD_DELAY,
    SHIELD_RATE,
    STRUCTURE,
    Slots,
)

ALERT_LOOPS = 32  # a hit is answered, and friends called, for two normal seconds

# The colossus' two beams run along a line of sample points, in opposite directions.
LINE_SAMPLES = 11
LINE_STEP = 0.25
LINE_REACH = 0.15
LINE_STEP_LOOPS = 0.0312 * 16
LINE_DELAY_LOOPS = 4.0
LINE_MAIN_LOOPS = 6.0


@inlined
def edge_distance(i: int, j: int, units: Real, stats: Slots) -> float:
    """Distance between two units' rims, negative where they overlap."""
    dx, dy = units[X, j] - units[X, i], units[Y, j] - units[Y, i]
    return float(math.sqrt(dx * dx + dy * dy) - stats[i].radius - stats[j].radius)


@inlined
def within(i: int, j: int, reach: float, units: Real, stats: Slots) -> bool:
    """Whether j's rim is at most ``reach`` from i's."""
    dx, dy = units[X, j] - units[X, i], units[Y, j] - units[Y, i]
    far = reach + stats[i].radius + stats[j].radius
    return bool(dx * dx + dy * dy <= far * far)


@inlined
def can_hit(i: int, j: int, stats: Slots) -> bool:
    """Whether i's weapon reaches what j is: ground, air or (a colossus) both."""
    return bool(stats[i].targets & stats[j].layers != 0)


@inlined
def threatens(i: int, j: int, stats: Slots) -> bool:
    """Whether i counts as a threat to j: it can hit it, or heals."""
    return can_hit(i, j, stats) or bool(stats[i].heal_rate > 0.0)


@inlined
def damage_of(i: int, j: int, stats: Slots) -> float:
    """One hit of i on j before armor, with the bonus against j's attributes."""
    if stats[i].bonus_attributes & stats[j].attributes != 0:
        return float(stats[i].damage + stats[i].bonus)
    return float(stats[i].damage)


@inner
def strike(i: int, j: int, units: Real, flags: Whole, stats: Slots) -> None:
    """One hit of i's weapon on j."""
    wound(i, j, damage_of(i, j, stats), units, flags, stats)


@inlined
def wound(i: int, j: int, damage: float, units: Real, flags: Whole, stats: Slots) -> None:
    """Damage of i to j: shield first, the rest less armor, at least 0.5."""
    if units[SHIELD, j] >= damage:
        units[SHIELD, j] -= damage
    else:
        damage = max(damage - units[SHIELD, j] - stats[j].armor, 0.5)
        units[SHIELD, j] = 0.0
        units[HEALTH, j] -= damage
        if units[HEALTH, j] <= 0.0:
            units[HEALTH, j] = 0.0
    flags[SHIELD_WAIT, j] = SHIELD_DELAY
    flags[ATTACKER, j] = i
    flags[ALERT, j] = ALERT_LOOPS


@inner
def explode(n: int, work: Work, units: Real, flags: Whole, stats: Slots) -> None:
    """Let whoever bursts and died in this loop explode; whom that kills explodes in turn.

    Only the other side's ground units are hurt, up to the radius from their rim.
    """
    for a in range(n):
        work.whole[EXPLODED, work.whole[TURN, a]] = 0
    again = True
    while again:
        again = False
        for a in range(n):
            i = work.whole[TURN, a]
            if stats[i].delivery != BURST or units[HEALTH, i] > 0.0 or work.whole[EXPLODED, i] == 1:
                continue
            work.whole[EXPLODED, i] = 1
            again = True
            for b in range(n):
                j = work.whole[TURN, b]
                if units[HEALTH, j] <= 0.0 or stats[j].enemy == stats[i].enemy:
                    continue
                if stats[j].layers & GROUND_LAYER == 0:
                    continue
                dx, dy = units[X, j] - units[X, i], units[Y, j] - units[Y, i]
                far = stats[i].burst_radius + stats[j].radius
                if dx * dx + dy * dy > far * far:
                    continue
                damage = damage_of(i, j, stats)
                if stats[j].attributes & STRUCTURE != 0:
                    damage = stats[i].burst_structures
                wound(i, j, damage, units, flags, stats)


@inlined
def stabs(i: int, j: int, units: Real, stats: Slots) -> bool:
    """Whether i's attack on j is its second, in melee (hydralisks): slower, without a missile."""
    return bool(stats[i].melee_reach > 0.0) and within(i, j, stats[i].melee_reach, units, stats)


@inlined
def run_clocks(n: int, units: Real, flags: Whole) -> None:
    """Advance the first n units' clocks by one loop; those of the dead stand still.

    Selections, no branches, for several units at once.
    """
    for i in count(0, lanes(n)):
        alive = units[HEALTH, i] > 0.0
        cooldown, backswing, alert = units[COOLDOWN, i], units[BACKSWING, i], flags[ALERT, i]
        runs = (cooldown > 0.0) | (flags[WINDUP, i] == 1)
        left = cooldown - 1.0 if runs else 0.0
        units[COOLDOWN, i] = left if alive else cooldown
        units[BACKSWING, i] = backswing - 1.0 if alive & (backswing > 0.0) else backswing
        flags[ALERT, i] = alert - 1 if alive & (alert > 0) else alert


@inlined
def recover(i: int, units: Real, flags: Whole, stats: Slots) -> None:
    """One loop of what comes back to a living unit: shield, health, energy."""
    if stats[i].shield > 0.0:
        if flags[SHIELD_WAIT, i] > 0:
            flags[SHIELD_WAIT, i] -= 1
        elif units[SHIELD, i] < stats[i].shield:
            units[SHIELD, i] = min(units[SHIELD, i] + SHIELD_RATE, stats[i].shield)
    if stats[i].health_regen > 0.0 and units[HEALTH, i] < stats[i].health:
        units[HEALTH, i] = min(units[HEALTH, i] + stats[i].health_regen, stats[i].health)
    if stats[i].energy_regen > 0.0 and units[ENERGY, i] < stats[i].energy:
        units[ENERGY, i] = min(units[ENERGY, i] + stats[i].energy_regen, stats[i].energy)


@inner
def land(loop: int, units: Real, flags: Whole, battle: Whole, queue: Whole, stats: Slots) -> None:
    """Let the queued hits land that are due. What flies at a dead target is wasted."""
    kept = 0
    for q in range(battle[QUEUED]):
        if queue[q, DUE] > loop:
            queue[kept, DUE] = queue[q, DUE]
            queue[kept, SOURCE] = queue[q, SOURCE]
            queue[kept, VICTIM] = queue[q, VICTIM]
            kept += 1
        elif units[HEALTH, queue[q, VICTIM]] > 0.0:
            strike(queue[q, SOURCE], queue[q, VICTIM], units, flags, stats)
    battle[QUEUED] = kept


@inlined
def swing(i: int, units: Real, flags: Whole, stats: Slots) -> None:
    """Second blade of a two-hit attack: lost if its target is dead or gone."""
    if units[SWING, i] <= 0.0:
        return
    units[SWING, i] -= 1.0
    if units[SWING, i] <= 0.0:
        units[SWING, i] = 0.0
        j = flags[SWING_TARGET, i]
        if units[HEALTH, j] > 0.0 and within(i, j, stats[i].reach + stats[i].slop, units, stats):
            strike(i, j, units, flags, stats)


@inlined
def enqueue(due: int, i: int, j: int, battle: Whole, queue: Whole) -> None:
    """Remember a hit that lands later."""
    q = battle[QUEUED]
    queue[q, DUE] = due
    queue[q, SOURCE] = i
    queue[q, VICTIM] = j
    battle[QUEUED] = q + 1


@inner
def fire(
    i: int, j: int, melee: bool, loop: int, key: np.uint64,
    units: Real, flags: Whole, battle: Whole, queue: Whole, stats: Slots, rules: Rules,
) -> None:  # fmt: skip
    """Release a shot at j. Its fraction of a loop (``late``) is kept in what follows from it."""
    flags[WINDUP, i] = 0
    if stats[i].delivery == BURST:
        units[HEALTH, i] = 0.0  # it explodes with those who die in this loop
        return
    late = units[COOLDOWN, i] + (stats[i].melee_point if melee else stats[i].damage_point)
    units[COOLDOWN, i] += stats[i].period
    if rules.random_delay:
        units[COOLDOWN, i] += 3.0 * rng.uniform(key, loop, i, rng.DELAY) - 1.0
    units[BACKSWING, i] = stats[i].backswing
    if stats[i].delivery == MISSILE and not melee:
        flight = max(edge_distance(i, j, units, stats), 0.0) / stats[i].missile_speed
        enqueue(loop + max(math.ceil(flight + late), 1), i, j, battle, queue)
    elif stats[i].delivery == LINE:
        sweep(i, j, loop, units, battle, queue, stats, rules)
    else:
        strike(i, j, units, flags, stats)
        if stats[i].hits == 2:
            units[SWING, i] = stats[i].gap + late
            flags[SWING_TARGET, i] = j


@inner
def sweep(
    i: int, j: int, loop: int, units: Real, battle: Whole, queue: Whole, stats: Slots, rules: Rules
) -> None:
    """Queue the hits of two beams along the line through j, across the line of fire.

    Who is hit is decided when the beams start: a unit hardly moves in the five loops they run.
    """
    ax, ay = units[X, j] - units[X, i], units[Y, j] - units[Y, i]
    length = math.sqrt(ax * ax + ay * ay)
    if length > 0.0:
        ax, ay = -ay / length, ax / length
    else:
        ax, ay = 0.0, 1.0
    first, last = rules.n_allies, rules.n_allies + rules.n_enemies
    if stats[i].enemy == 1:
        first, last = 0, rules.n_allies
    for v in range(first, last):
        if units[HEALTH, v] <= 0.0 or not can_hit(i, v, stats):
            continue
        if v == j:
            due = loop + int(LINE_MAIN_LOOPS)
            enqueue(due, i, v, battle, queue)
            enqueue(due, i, v, battle, queue)
            continue
        reach = LINE_REACH + stats[v].radius
        low, high = LINE_SAMPLES, -1
        for sample in range(LINE_SAMPLES):
            along = (sample - LINE_SAMPLES // 2) * LINE_STEP
            dx = units[X, v] - units[X, j] - along * ax
            dy = units[Y, v] - units[Y, j] - along * ay
            if dx * dx + dy * dy <= reach * reach:
                low, high = min(low, sample), sample
        if high >= 0:
            there = LINE_DELAY_LOOPS + low * LINE_STEP_LOOPS
            back = LINE_DELAY_LOOPS + (LINE_SAMPLES - 1 - high) * LINE_STEP_LOOPS
            enqueue(loop + math.ceil(there), i, v, battle, queue)
            enqueue(loop + math.ceil(back), i, v, battle, queue)


@inlined
def heal(i: int, j: int, work: Work, units: Real, stats: Slots) -> None:
    """One loop of healing: only within range, one healer per patient, as far as energy reaches."""
    missing = stats[j].health - units[HEALTH, j]
    if missing <= 0.0 or units[HEALTH, j] <= 0.0 or work.whole[HEALED, j] == 1:
        return
    if not within(i, j, stats[i].heal_reach, units, stats):
        return
    amount = min(min(stats[i].heal_rate, missing), units[ENERGY, i] / stats[i].heal_cost)
    if amount <= 0.0:
        return
    work.whole[HEALED, j] = 1
    units[HEALTH, j] += amount
    units[ENERGY, i] = max(units[ENERGY, i] - amount * stats[i].heal_cost, 0.0)
