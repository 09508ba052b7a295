"""Hard bodies: whoever has to gives way, and nobody stands in a wall.

A unit that attacks, starts a shot or belongs to the other side stands firm; two friends on the move share the
correction; an idle friend gives way. A mover that would still be inside someone firm stays where it was.
"""

from __future__ import annotations

import math

import numpy as np

from .jit import count, inlined
from .layout import (
    BODY_ENEMY,
    BODY_INTENT,
    BODY_PLANE,
    BODY_RIM,
    BODY_UNIT,
    BODY_X,
    BODY_Y,
    ENEMY,
    HEALTH,
    INTENT,
    PLACE_X,
    PLACE_Y,
    PLANE,
    RIM,
    Real,
    Work,
    X,
    Y,
)
from .orders import ANCHOR, IDLE, MOVER
from .pitch import lanes
from .rules import MAP_SIZE, Rules
from .terrain import CLIMBERS, WALKERS, Ground, off_walls
from .units import AIR, COLOSSUS, GROUND

SOFT, HARD, CLOSE = 0, 1, 2  # rows of pairs: both give way; someone is firm; all that are close
PASSES = 2  # over all overlapping pairs
MARGIN = 0.25  # pairs this near are watched, since corrections may bring them together
DEPTH_ALLOWED = 1e-3  # into someone firm, left over by the passes


@inlined
def collide(n: int, forward: bool, work: Work, units: Real, rules: Rules, ground: Ground) -> None:
    """Move the n bodies in line so far apart, and off walls, that none is inside another.

    ``forward``: whether that is done from west to east or the other way.
    """
    soft, hard = pair_up(n, work, rules)
    overlaps = False
    for turn in range(PASSES):
        overlaps = False
        for p in range(soft):
            overlaps |= separate(SOFT, np.uint64(p if forward else soft - 1 - p), work)
        for p in range(hard):
            overlaps |= separate(HARD, np.uint64(p if forward else hard - 1 - p), work)
        if turn == 0 or overlaps:
            confine(n, work, units, rules, ground)
        if not overlaps:
            break
    if overlaps:
        for _ in range(PASSES):  # who was put back may be in the way of another
            for p in range(hard):
                hold_back(np.uint64(p if forward else hard - 1 - p), work, units)


@inlined
def line_up(n: int, work: Work, units: Real) -> int:
    """Fill in the living from west to east, where they mean to step; returns how many there are.

    The list is nearly sorted already: it is the last loop's. Equal places go by number, so that the
    result does not depend on what was there before.
    """
    living = 0
    for a in count(0, n):
        i = work.whole[BODY_UNIT, a]
        if units[HEALTH, i] <= 0.0:
            continue
        x, at = work.real[PLACE_X, i], np.uint64(living)
        while at > 0:
            before = at - np.uint64(1)
            west, neighbour = work.real[BODY_X, before], work.whole[BODY_UNIT, before]
            if west < x or (west == x and neighbour < i):
                break
            work.real[BODY_X, at] = west
            work.whole[BODY_UNIT, at] = neighbour
            at = before
        work.real[BODY_X, at] = x
        work.whole[BODY_UNIT, at] = i
        living += 1
    for a in count(0, living):
        i = work.whole[BODY_UNIT, a]
        work.real[BODY_Y, a], work.real[BODY_RIM, a] = work.real[PLACE_Y, i], work.real[RIM, i]
        work.whole[BODY_ENEMY, a] = work.whole[ENEMY, i]
        work.whole[BODY_PLANE, a] = work.whole[PLANE, i]
        work.whole[BODY_INTENT, a] = work.whole[INTENT, i]
    return living


@inlined
def pair_up(n: int, work: Work, rules: Rules) -> tuple[int, int]:
    """Collect pairs that touch or might after corrections; returns how many soft and hard ones.

    In soft pairs both give way; in hard ones somebody stands firm, or one friend yields to another.
    """
    found = 0
    for a in count(0, n):
        x, y, reach = work.real[BODY_X, a], work.real[BODY_Y, a], work.real[BODY_RIM, a] + MARGIN
        plane, one = work.whole[BODY_PLANE, a], work.whole[BODY_INTENT, a]
        most = reach + widest(plane, rules)
        for b in count(a + np.uint64(1), n):
            dx = work.real[BODY_X, b] - x
            if dx > most:
                break
            # Selections, no branches: who is near is hard to foresee for a processor. What is written
            # of the others is written over.
            far = reach + work.real[BODY_RIM, b]
            dy = work.real[BODY_Y, b] - y
            near = dx * dx + dy * dy <= far * far
            near &= (work.whole[BODY_PLANE, b] == plane) & (
                (one | work.whole[BODY_INTENT, b]) != ANCHOR
            )
            work.pairs[CLOSE, np.uint64(found)].a = a
            work.pairs[CLOSE, np.uint64(found)].b = b
            found += near
    soft, hard = 0, 0
    for p in count(0, found):
        a, b = work.pairs[CLOSE, p].a, work.pairs[CLOSE, p].b
        one, other = work.whole[BODY_INTENT, a], work.whole[BODY_INTENT, b]
        friends = work.whole[BODY_ENEMY, b] == work.whole[BODY_ENEMY, a]
        alike = one == other
        mutual = friends & alike
        # Anchors never move. Idle units give way to friends but not to foes.
        courteous = friends & (one + other == IDLE + MOVER)
        yields = one == IDLE if courteous else one > other
        kind = np.uint64(SOFT if mutual else HARD)
        place = np.uint64(soft if mutual else hard)
        work.pairs[kind, place].a = a
        work.pairs[kind, place].b = b
        work.pairs[kind, place].far = work.real[BODY_RIM, a] + work.real[BODY_RIM, b]
        work.pairs[kind, place].back = 0.5 if alike else (1.0 if yields else 0.0)
        soft += mutual
        hard += not mutual
    return soft, hard


@inlined
def widest(plane: int, rules: Rules) -> float:
    """Largest separation radius of those whom a unit can run into."""
    return rules.widest if plane == GROUND else rules.widest_other


@inlined
def separate(kind: int, p: int, work: Work) -> bool:
    """Move two overlapping units apart until they touch; returns whether they did overlap."""
    a, b, far = work.pairs[kind, p].a, work.pairs[kind, p].b, work.pairs[kind, p].far
    dx = work.real[BODY_X, b] - work.real[BODY_X, a]
    dy = work.real[BODY_Y, b] - work.real[BODY_Y, a]
    square = dx * dx + dy * dy
    if square >= far * far:
        return False
    apart = math.sqrt(square)
    if apart > 1e-9:
        dx, dy = dx / apart, dy / apart
    else:
        dx, dy = 1.0, 0.0
    back = work.pairs[kind, p].back * (far - apart)
    forth = far - apart - back
    work.real[BODY_X, a] -= back * dx
    work.real[BODY_Y, a] -= back * dy
    work.real[BODY_X, b] += forth * dx
    work.real[BODY_Y, b] += forth * dy
    return True


@inlined
def confine(n: int, work: Work, units: Real, rules: Rules, ground: Ground) -> None:
    """Keep bodies' rims on walkable ground; flyers may go wherever the map reaches."""
    if not rules.convex:
        for a in count(0, n):
            if work.whole[BODY_INTENT, a] != ANCHOR:
                slide(a, work, units, rules, ground)
        return
    # On convex ground all are done alike, those that stand firm in vain: so the compiler can do several at
    # once.
    left, right, bottom, top = rules.left, rules.right, rules.bottom, rules.top
    low_sum, high_sum = rules.low_sum, rules.high_sum
    low_difference, high_difference = rules.low_difference, rules.high_difference
    for a in count(0, lanes(n)):
        old_x, old_y = work.real[BODY_X, a], work.real[BODY_Y, a]
        rim = work.real[BODY_RIM, a]
        x, y = min(max(old_x, left + rim), right - rim), min(max(old_y, bottom + rim), top - rim)
        far = math.sqrt(2.0) * rim
        # Half of what is missing, along either axis, leads straight off a diagonal wall.
        lift = max(low_sum + far - x - y, 0.0) - max(x + y + far - high_sum, 0.0)
        x, y = x + 0.5 * lift, y + 0.5 * lift
        lift = max(low_difference + far - x + y, 0.0) - max(x - y + far - high_difference, 0.0)
        x, y = x + 0.5 * lift, y - 0.5 * lift
        flies = work.whole[BODY_PLANE, a] == AIR
        x = min(max(old_x, rim), MAP_SIZE - rim) if flies else x
        y = min(max(old_y, rim), MAP_SIZE - rim) if flies else y
        firm = work.whole[BODY_INTENT, a] == ANCHOR
        work.real[BODY_X, a] = old_x if firm else x
        work.real[BODY_Y, a] = old_y if firm else y


@inlined
def slide(a: int, work: Work, units: Real, rules: Rules, ground: Ground) -> None:
    """Keep one body on ground that has walls inside."""
    x, y, rim = work.real[BODY_X, a], work.real[BODY_Y, a], work.real[BODY_RIM, a]
    if work.whole[BODY_PLANE, a] == AIR:
        x, y = min(max(x, rim), MAP_SIZE - rim), min(max(y, rim), MAP_SIZE - rim)
    else:
        x = min(max(x, rules.left + rim), rules.right - rim)
        y = min(max(y, rules.bottom + rim), rules.top - rim)
        walker = CLIMBERS if work.whole[BODY_PLANE, a] == COLOSSUS else WALKERS
        x, y, free = off_walls(x, y, rim, walker, ground)
        if not free:
            i = work.whole[BODY_UNIT, a]
            x, y = units[X, i], units[Y, i]
    work.real[BODY_X, a], work.real[BODY_Y, a] = x, y


@inlined
def hold_back(p: int, work: Work, units: Real) -> None:
    """Undo the step of whoever is still inside someone firm."""
    a, b = work.pairs[HARD, p].a, work.pairs[HARD, p].b
    far = work.pairs[HARD, p].far - DEPTH_ALLOWED
    dx = work.real[BODY_X, b] - work.real[BODY_X, a]
    dy = work.real[BODY_Y, b] - work.real[BODY_Y, a]
    square = dx * dx + dy * dy
    if square >= far * far:
        return
    i, j = work.whole[BODY_UNIT, a], work.whole[BODY_UNIT, b]
    ox, oy = units[X, j] - units[X, i], units[Y, j] - units[Y, i]
    if square >= ox * ox + oy * oy:
        return  # they were closer before: let them come apart
    if work.whole[BODY_INTENT, a] != ANCHOR:
        work.real[BODY_X, a], work.real[BODY_Y, a] = units[X, i], units[Y, i]
    if work.whole[BODY_INTENT, b] != ANCHOR:
        work.real[BODY_X, b], work.real[BODY_Y, b] = units[X, j], units[Y, j]
