"""The enemy's rules: attack-move to a point, fight what comes near, answer those who hit.

After the game's automatic targeting: among living opponents in scan range that the weapon can hit, those
that threaten the unit come first, then the nearest; a target is kept until it dies or leaves weapon range
while another is in it. When exactly the game drops a chase is not known; the constants are below.
"""

from __future__ import annotations

import math

import numpy as np

from .combat import can_hit, threatens, within
from .jit import count, inlined, inner
from .layout import (
    ALERT,
    ATTACK,
    ATTACKER,
    ENERGY,
    GOAL_X,
    GOAL_Y,
    HEAL,
    HEALTH,
    HOME_X,
    HOME_Y,
    LEASHED,
    LIVING,
    MARCH,
    ORDER,
    PACE,
    RADIUS,
    SIDE,
    STAND,
    TARGET,
    WINDUP,
    Real,
    Whole,
    Work,
    X,
    Y,
)
from .units import Slots

RESCAN_LOOPS = 4  # how often a unit out of range looks for a better target
CHASE_SLACK = 2.0  # a target this far beyond scan range is dropped, unless it hit last
LEASH = 21.0  # a chase that led this far from where it began is given up
LEASH_RESET = 5.0  # and only who hits is fought until back this near, or at the point
CALL_RADIUS = 4.0  # friends this near are called when hit
ARRIVED = 0.5  # the march is over this near the point
ESCORT_RADIUS = 6.0  # a marching medivac is no faster than the slowest patient this near


@inner
def acquire(
    i: int, reach: float, first: int, last: int,
    work: Work, units: Real, stats: Slots,
) -> int:  # fmt: skip
    """Best target among living[first:last] at most ``reach`` from rim to rim, or -1."""
    best, best_threat, best_square = -1, False, 0.0
    x, y, own = units[X, i], units[Y, i], reach + stats[i].radius
    if first == last:
        return best
    # Most searches find nobody. Whether this one does is asked of several opponents at once: a side's
    # numbers follow on each other, the dead between the living.
    anyone, one = False, np.uint64(1)
    lowest = work.whole[LIVING, np.uint64(first)]
    highest = work.whole[LIVING, np.uint64(last) - one]
    for j in count(lowest, highest + one):
        dx, dy = units[X, j] - x, units[Y, j] - y
        far = own + work.real[RADIUS, j]
        anyone |= (dx * dx + dy * dy <= far * far) & (units[HEALTH, j] > 0.0)
    if not anyone:
        return best
    for a in count(first, last):
        j = work.whole[LIVING, a]
        far = own + stats[j].radius
        dx = units[X, j] - x
        if dx > far or dx < -far:
            continue
        dy = units[Y, j] - y
        square = dx * dx + dy * dy
        if square > far * far or units[HEALTH, j] <= 0.0 or not can_hit(i, j, stats):
            continue
        threat = threatens(j, i, stats)
        if best >= 0 and best_threat == threat and square >= best_square:
            continue
        if best >= 0 and best_threat and not threat:
            continue
        best, best_threat, best_square = j, threat, square
    return best


@inlined
def can_answer(i: int, j: int, units: Real, stats: Slots) -> bool:
    """Whether i may turn on attacker j."""
    return j >= 0 and units[HEALTH, j] > 0.0 and can_hit(i, j, stats)


@inner
def called(
    i: int, first: int, last: int, work: Work, units: Real, flags: Whole, stats: Slots
) -> int:
    """Attacker of the nearest friend that was hit lately, or -1."""
    best, best_square = -1, CALL_RADIUS * CALL_RADIUS
    for a in count(first, last):
        friend = work.whole[LIVING, a]
        if flags[ALERT, friend] == 0 or friend == i:
            continue
        if not can_answer(i, flags[ATTACKER, friend], units, stats):
            continue
        dx, dy = units[X, friend] - units[X, i], units[Y, friend] - units[Y, i]
        square = dx * dx + dy * dy
        if square <= best_square:
            best, best_square = flags[ATTACKER, friend], square
    return best


@inlined
def think(
    i: int, beat: int, own_first: int, own_last: int, foe_first: int, foe_last: int, alarm: bool,
    marches: bool, hunts: bool,
    work: Work, units: Real, flags: Whole, stats: Slots,
) -> None:  # fmt: skip
    """Choose unit i's order for this loop.

    Args:
        beat: counts loops; every few it is unit i's turn to look around.
        own_first, own_last, foe_first, foe_last: where its side and the other stand in LIVING.
        alarm: whether anyone of its side was hit lately.
        marches: whether it has an attack-move to its goal.
        hunts: whether the goal is the nearest opponent, wherever that is.
    """
    if hunts and (beat + stats[i].rank) % RESCAN_LOOPS == 0:
        seek(i, foe_first, foe_last, work, units, flags, stats)
    if stats[i].heal_rate > 0.0:
        tend(i, own_first, own_last, marches or hunts, work, units, flags, stats)
        return
    target = flags[TARGET, i]
    if target >= 0 and units[HEALTH, target] <= 0.0:
        target = -1
        flags[WINDUP, i] = 0
    if target >= 0 and flags[WINDUP, i] == 1:
        return
    due = (beat + stats[i].rank) % RESCAN_LOOPS == 0
    if target >= 0 and due and not within(i, target, stats[i].reach, units, stats):
        other = acquire(i, stats[i].reach, foe_first, foe_last, work, units, stats)
        hit_by_target = flags[ALERT, i] > 0 and flags[ATTACKER, i] == target
        if other < 0 and flags[SIDE, i] != 0:
            other = acquire(i, stats[i].scan, foe_first, foe_last, work, units, stats)
        if other >= 0:
            target = other
        elif not hit_by_target and not within(i, target, stats[i].scan + CHASE_SLACK, units, stats):
            target = -1
        elif marches and from_home(i, units) > LEASH * LEASH:
            target = -1
            flags[LEASHED, i] = 1
    if target < 0:
        if flags[LEASHED, i] == 1 and from_home(i, units) <= LEASH_RESET * LEASH_RESET:
            flags[LEASHED, i] = 0
        if flags[LEASHED, i] == 0:
            target = acquire(i, stats[i].scan, foe_first, foe_last, work, units, stats)
        if target < 0 and flags[ALERT, i] > 0 and can_answer(i, flags[ATTACKER, i], units, stats):
            target = flags[ATTACKER, i]
        if target < 0 and alarm and flags[LEASHED, i] == 0:
            target = called(i, own_first, own_last, work, units, flags, stats)
        if target >= 0 and flags[ORDER, i] != ATTACK and flags[LEASHED, i] == 0:
            units[HOME_X, i], units[HOME_Y, i] = units[X, i], units[Y, i]
    flags[TARGET, i] = target
    if target >= 0:
        flags[ORDER, i] = ATTACK
    else:
        march(i, marches or hunts, units, flags)


@inlined
def from_home(i: int, units: Real) -> float:
    """Square of the distance to where the unit took up its chase."""
    dx, dy = units[X, i] - units[HOME_X, i], units[Y, i] - units[HOME_Y, i]
    return float(dx * dx + dy * dy)


@inner
def seek(
    i: int, first: int, last: int, work: Work, units: Real, flags: Whole, stats: Slots
) -> None:
    """Make the nearest opponent, at any distance, the point that unit i goes to."""
    least = math.inf
    for a in range(first, last):
        j = work.whole[LIVING, a]
        dx, dy = units[X, j] - units[X, i], units[Y, j] - units[Y, i]
        if dx * dx + dy * dy < least and (can_hit(i, j, stats) or stats[i].heal_rate > 0.0):
            least = dx * dx + dy * dy
            units[GOAL_X, i], units[GOAL_Y, i] = units[X, j], units[Y, j]
    if flags[ORDER, i] == STAND and least < math.inf:
        flags[ORDER, i] = MARCH


@inlined
def march(i: int, marches: bool, units: Real, flags: Whole) -> None:
    """Go on to the point, unless there. A unit that stands stays until it has fought again."""
    if not marches:
        flags[ORDER, i] = STAND
    elif flags[ORDER, i] != STAND:
        dx, dy = units[GOAL_X, i] - units[X, i], units[GOAL_Y, i] - units[Y, i]
        flags[ORDER, i] = MARCH
        if dx * dx + dy * dy <= ARRIVED * ARRIVED:
            flags[ORDER, i] = STAND
            flags[LEASHED, i] = 0


@inner
def tend(
    i: int, first: int, last: int, marches: bool,
    work: Work, units: Real, flags: Whole, stats: Slots,
) -> None:  # fmt: skip
    """A medivac heals whoever of its side is worst off nearby, else goes along with the others."""
    work.real[PACE, i] = stats[i].speed
    patient = flags[TARGET, i]
    if patient >= 0 and (
        units[HEALTH, patient] <= 0.0
        or units[HEALTH, patient] >= stats[patient].health
        or units[ENERGY, i] <= 0.0
        or not within(i, patient, stats[i].heal_search, units, stats)
    ):
        patient = -1
    if patient < 0 and units[ENERGY, i] >= stats[i].heal_minimum:
        patient = choose_patient(i, first, last, work, units, flags, stats)
    flags[TARGET, i] = patient
    if patient >= 0:
        flags[ORDER, i] = HEAL
        return
    march(i, marches, units, flags)
    if flags[ORDER, i] == MARCH:
        for a in range(first, last):
            j = work.whole[LIVING, a]
            dx, dy = units[X, j] - units[X, i], units[Y, j] - units[Y, i]
            if stats[j].heal_rate == 0.0 and dx * dx + dy * dy <= ESCORT_RADIUS * ESCORT_RADIUS:
                work.real[PACE, i] = min(work.real[PACE, i], stats[j].speed)


@inner
def choose_patient(
    i: int, first: int, last: int, work: Work, units: Real, flags: Whole, stats: Slots
) -> int:
    """Hurt biological friend in search range with the least life, nobody else's patient; or -1."""
    best, best_share, best_square = -1, 1.0, 0.0
    for a in range(first, last):
        j = work.whole[LIVING, a]
        share = units[HEALTH, j] / stats[j].health
        if j == i or share >= 1.0 or share <= 0.0 or stats[j].biological == 0:
            continue
        if not within(i, j, stats[i].heal_search, units, stats):
            continue
        taken = False
        for b in range(first, last):
            other = work.whole[LIVING, b]
            if other != i and flags[ORDER, other] == HEAL and flags[TARGET, other] == j:
                taken = True
        dx, dy = units[X, j] - units[X, i], units[Y, j] - units[Y, i]
        square = dx * dx + dy * dy
        nearer = share == best_share and square < best_square
        if not taken and (best < 0 or share < best_share or nearer):
            best, best_share, best_square = j, share, square
    return best
