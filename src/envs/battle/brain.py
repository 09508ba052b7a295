"""The enemy's rules: attack-move to a point, fight what comes near, answer those who hit.

After the game's automatic targeting: among living opponents in scan range that the weapon can hit, those
that threaten the unit come first, then the nearest; a target is kept until it dies or leaves weapon range
while another is in it. When exactly the game drops a chase is not known; the constants are below.
"""

from __future__ import annotations

from .combat import within
from .jit import inner
from .layout import (
    ALERT,
    ATTACK,
    ATTACKER,
    ENERGY,
    HEAL,
    HEALTH,
    MARCH,
    ORDER,
    STAND,
    TARGET,
    WINDUP,
    Real,
    Scratch,
    Whole,
    X,
    Y,
)
from .units import Stats

RESCAN_LOOPS = 4  # how often a unit out of range looks for a better target
CHASE_SLACK = 2.0  # a target this far beyond scan range is dropped, unless it hit last
CALL_RADIUS = 4.0  # friends this near are called when hit
ARRIVED = 0.5  # the march is over this near the point
ESCORT_RADIUS = 6.0  # a marching medivac is no faster than the slowest patient this near


@inner
def acquire(
    i: int, reach: float, first: int, last: int,
    scratch: Scratch, units: Real, stats: Stats,
) -> int:  # fmt: skip
    """Best target among living[first:last] at most ``reach`` from rim to rim, or -1."""
    best, best_threat, best_square = -1, False, 0.0
    x, y, kind, own = units[X, i], units[Y, i], stats.kind[i], reach + stats.radius[i]
    for a in range(first, last):
        j = scratch.living[a]
        far = own + stats.radius[j]
        dx = units[X, j] - x
        if dx > far or dx < -far:
            continue
        dy = units[Y, j] - y
        square = dx * dx + dy * dy
        if square > far * far or units[HEALTH, j] <= 0.0 or not stats.can_hit[kind, stats.kind[j]]:
            continue
        threat = stats.threat[kind, stats.kind[j]]
        if best >= 0 and best_threat == threat and square >= best_square:
            continue
        if best >= 0 and best_threat and not threat:
            continue
        best, best_threat, best_square = j, threat, square
    return best


@inner
def can_answer(i: int, j: int, units: Real, stats: Stats) -> bool:
    """Whether i may turn on attacker j."""
    return j >= 0 and units[HEALTH, j] > 0.0 and stats.can_hit[stats.kind[i], stats.kind[j]]


@inner
def called(
    i: int, first: int, last: int, scratch: Scratch, units: Real, flags: Whole, stats: Stats
) -> int:
    """Attacker of the nearest friend that was hit lately, or -1."""
    best, best_square = -1, CALL_RADIUS * CALL_RADIUS
    for a in range(first, last):
        friend = scratch.living[a]
        if flags[ALERT, friend] == 0 or friend == i:
            continue
        if not can_answer(i, flags[ATTACKER, friend], units, stats):
            continue
        dx, dy = units[X, friend] - units[X, i], units[Y, friend] - units[Y, i]
        square = dx * dx + dy * dy
        if square <= best_square:
            best, best_square = flags[ATTACKER, friend], square
    return best


@inner
def think(
    i: int, loop: int, own_first: int, own_last: int, foe_first: int, foe_last: int, alarm: bool,
    marches: bool, goal_x: float, goal_y: float,
    scratch: Scratch, units: Real, flags: Whole, stats: Stats,
) -> None:  # fmt: skip
    """Choose unit i's order for this loop.

    Args:
        own_first, own_last, foe_first, foe_last: where its side and the other stand in ``living``.
        alarm: whether anyone of its side was hit lately.
        marches, goal_x, goal_y: the attack-move's point, if there is one.
    """
    if stats.heal_rate[i] > 0.0:
        tend(i, own_first, own_last, marches, goal_x, goal_y, scratch, units, flags, stats)
        return
    target = flags[TARGET, i]
    if target >= 0 and units[HEALTH, target] <= 0.0:
        target = -1
        flags[WINDUP, i] = 0
    if target >= 0 and flags[WINDUP, i] == 1:
        return
    if target >= 0 and (loop + i) % RESCAN_LOOPS == 0:
        if not within(i, target, stats.reach[i], units, stats):
            other = acquire(i, stats.reach[i], foe_first, foe_last, scratch, units, stats)
            if other >= 0:
                target = other
            elif not within(i, target, stats.scan[i] + CHASE_SLACK, units, stats) and not (
                flags[ALERT, i] > 0 and flags[ATTACKER, i] == target
            ):
                target = -1
    if target < 0:
        target = acquire(i, stats.scan[i], foe_first, foe_last, scratch, units, stats)
        if target < 0 and flags[ALERT, i] > 0 and can_answer(i, flags[ATTACKER, i], units, stats):
            target = flags[ATTACKER, i]
        if target < 0 and alarm:
            target = called(i, own_first, own_last, scratch, units, flags, stats)
    flags[TARGET, i] = target
    if target >= 0:
        flags[ORDER, i] = ATTACK
    else:
        march(i, marches, goal_x, goal_y, units, flags)


@inner
def march(i: int, marches: bool, x: float, y: float, units: Real, flags: Whole) -> None:
    """Go on to the point, unless there. A unit that stands stays until it has fought again."""
    if not marches:
        flags[ORDER, i] = STAND
    elif flags[ORDER, i] != STAND:
        dx, dy = x - units[X, i], y - units[Y, i]
        near = dx * dx + dy * dy <= ARRIVED * ARRIVED
        flags[ORDER, i] = STAND if near else MARCH


@inner
def tend(
    i: int, first: int, last: int, marches: bool, goal_x: float, goal_y: float,
    scratch: Scratch, units: Real, flags: Whole, stats: Stats,
) -> None:  # fmt: skip
    """A medivac heals whoever of its side is worst off nearby, else goes along with the others."""
    patient = flags[TARGET, i]
    if patient >= 0 and (
        units[HEALTH, patient] <= 0.0
        or units[HEALTH, patient] >= stats.health[patient]
        or units[ENERGY, i] <= 0.0
        or not within(i, patient, stats.heal_search[i], units, stats)
    ):
        patient = -1
    if patient < 0 and units[ENERGY, i] >= stats.heal_minimum[i]:
        patient = choose_patient(i, first, last, scratch, units, flags, stats)
    flags[TARGET, i] = patient
    if patient >= 0:
        flags[ORDER, i] = HEAL
        return
    march(i, marches, goal_x, goal_y, units, flags)
    if flags[ORDER, i] == MARCH:
        for a in range(first, last):
            j = scratch.living[a]
            dx, dy = units[X, j] - units[X, i], units[Y, j] - units[Y, i]
            if stats.heal_rate[j] == 0.0 and dx * dx + dy * dy <= ESCORT_RADIUS * ESCORT_RADIUS:
                scratch.pace[i] = min(scratch.pace[i], stats.speed[j])


@inner
def choose_patient(
    i: int, first: int, last: int, scratch: Scratch, units: Real, flags: Whole, stats: Stats
) -> int:
    """Hurt biological friend in search range with the least life, nobody else's patient; or -1."""
    best, best_share, best_square = -1, 1.0, 0.0
    for a in range(first, last):
        j = scratch.living[a]
        share = units[HEALTH, j] / stats.health[j]
        if j == i or share >= 1.0 or share <= 0.0 or stats.biological[j] == 0:
            continue
        if not within(i, j, stats.heal_search[i], units, stats):
            continue
        taken = False
        for b in range(first, last):
            other = scratch.living[b]
            if other != i and flags[ORDER, other] == HEAL and flags[TARGET, other] == j:
                taken = True
        dx, dy = units[X, j] - units[X, i], units[Y, j] - units[Y, i]
        square = dx * dx + dy * dy
        if not taken and (best < 0 or share < best_share or (share == best_share and square < best_square)):
            best, best_share, best_square = j, share, square
    return best
