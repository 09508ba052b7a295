"""Walking: straight toward the goal, hard bodies, ways around whoever stands firm.

Every unit first steps as it likes; then overlaps are resolved by moving whoever has to give way. A unit
that attacks, starts a shot or belongs to the other side stands firm; two friends on the move share the
correction; an idle friend gives way. A mover that would still be inside someone firm stays where it was.
Who gets nowhere looks for the free direction nearest to its way, on one side first, and so finds a place
around a target that others already surround.
"""

from __future__ import annotations

import math

import numpy as np

from .jit import count, inlined, inner
from .layout import (
    ATTACK,
    HEALTH,
    MARCH,
    ORDER,
    SIDE,
    SIDE_LOOPS,
    STAND,
    TARGET,
    VEL_X,
    VEL_Y,
    Bodies,
    Pairs,
    Real,
    Whole,
    Work,
    X,
    Y,
)
from .orders import ANCHOR, IDLE, MOVER
from .rules import MAP_SIZE, Rules
from .terrain import CLIMBERS, STRAIGHT, WALKERS, WALL, Ground, cell_number, off_walls
from .units import AIR, COLOSSUS, GROUND, Slots

PASSES = 2  # over all overlapping pairs
MARGIN = 0.25  # pairs this near are watched, since corrections may bring them together
DEPTH_ALLOWED = 1e-3  # into someone firm, left over by the passes
KEEP_SIDE_LOOPS = 6  # a way around is kept this long after the last contact
BLOCKED_SHARE = 0.5  # of a full step: less progress than this counts as blocked
LOOK_AHEAD = 4.0  # steps: a direction is free if nobody firm stands in it this far
SQUEEZE = 0.9  # share of the distance between two bodies that counts as standing in the way
TOUCH_GAP = 0.3  # someone nearer than this may be what blocks
HEAD_ON = 1e-6  # straight into someone: even units pass on the left, odd ones on the right
AHEAD = 0.1  # cosine: how far ahead someone must be to be in the way

# Cosine and sine of the turns that are tried: first to the side that was chosen, then to the other.
_STEPS = np.deg2rad([0.0, 30, 60, 90, 120, -30, -60, -90, -120])
_TURNS = np.stack([np.cos(_STEPS), np.sin(_STEPS)], axis=1)


@inlined
def move(
    n: int, forward: bool, work: Work, bodies: Bodies, pairs: Pairs, units: Real, flags: Whole,
    stats: Slots, rules: Rules, ground: Ground,
) -> None:  # fmt: skip
    """Move all living units by one loop, as their intents say.

    ``forward``: whether overlaps are resolved from west to east or the other way; drawn in each loop.
    """
    movers = False
    for a in count(0, n):
        i = work[a].turn
        if units[HEALTH, i] <= 0.0:
            work[i].intent = IDLE
        if not rules.convex and work[i].intent == MOVER and work[i].plane == GROUND:
            find_way(i, work, units, ground)
        step(i, work, bodies, units, flags, stats, rules, ground)
        if work[i].intent == MOVER:
            movers = True
    living = line_up(n, work, bodies, units)
    if not movers:
        return
    soft, hard = pair_up(living, bodies, pairs, rules)
    overlaps = False
    for turn in range(PASSES):
        overlaps = False
        for p in range(soft):
            overlaps |= separate(0, np.uint64(p if forward else soft - 1 - p), bodies, pairs)
        for p in range(hard):
            overlaps |= separate(1, np.uint64(p if forward else hard - 1 - p), bodies, pairs)
        if turn == 0 or overlaps:
            for a in count(0, living):
                if bodies[0, a].intent != ANCHOR:
                    confine(a, bodies, units, rules, ground)
        if not overlaps:
            break
    if overlaps:
        for _ in range(PASSES):  # who was put back may be in the way of another
            for p in range(hard):
                hold_back(np.uint64(p if forward else hard - 1 - p), bodies, pairs, units)
    # All look from where they stood, or whoever comes later would see some gone ahead and some not.
    for turn in range(living):
        a = np.uint64(turn if forward else living - 1 - turn)
        if bodies[0, a].intent == MOVER:
            look_around(a, living, work, bodies, units, flags, stats)
    for a in count(0, living):
        i = bodies[0, a].unit
        units[X, i] = bodies[0, a].x
        units[Y, i] = bodies[0, a].y


@inner
def find_way(i: int, work: Work, units: Real, ground: Ground) -> None:
    """Where a wall stands between mover i and its goal, let it walk to the next corner."""
    goal = cell_number(work[i].goal_x, work[i].goal_y)
    hop = ground.hops[goal, cell_number(units[X, i], units[Y, i])]
    if hop != STRAIGHT:
        work[i].goal_x, work[i].goal_y = ground.stops[hop, 0], ground.stops[hop, 1]


@inlined
def step(
    i: int, work: Work, bodies: Bodies, units: Real, flags: Whole, stats: Slots, rules: Rules,
    ground: Ground,
) -> None:  # fmt: skip
    """Tentative position of unit i, no one else considered but those it walks around."""
    x, y = units[X, i], units[Y, i]
    work[i].place_x, work[i].place_y = x, y
    length, hx, hy = 0.0, 0.0, 0.0
    if work[i].intent == MOVER:
        hx, hy = work[i].goal_x - x, work[i].goal_y - y
        length = math.sqrt(hx * hx + hy * hy)
        if length > 0.0:
            hx, hy = hx / length, hy / length
    if stats[i].acceleration > 0.0:
        glide(i, length, hx, hy, work, units, stats)
        return
    if work[i].intent != MOVER:
        return
    pace = min(work[i].pace, length)
    work[i].heading_x, work[i].heading_y = hx, hy
    work[i].stride = pace
    work[i].turned = 0
    if flags[SIDE, i] != 0:
        look = min(LOOK_AHEAD * work[i].pace, length)
        turn = skirt(i, look, hx, hy, work, bodies, units, flags, rules, ground)
        work[i].turned = turn != 0
        if turn < 0:
            work[i].stride = 0.0
            return
        sine = _TURNS[turn, 1] * flags[SIDE, i]
        hx, hy = hx * _TURNS[turn, 0] - hy * sine, hx * sine + hy * _TURNS[turn, 0]
        if turn > len(_TURNS) // 2:
            flags[SIDE, i] = -flags[SIDE, i]
    work[i].place_x = x + pace * hx
    work[i].place_y = y + pace * hy


@inner
def skirt(
    i: int, look: float, hx: float, hy: float,
    work: Work, bodies: Bodies, units: Real, flags: Whole, rules: Rules, ground: Ground,
) -> int:  # fmt: skip
    """Row of the turn by which unit i, heading (hx, hy), gets past those who stand firm; or -1.

    Friends who are idle or on the move are no obstacle, unless they look for their way around on the
    other side; nor is who the unit is out to hit.
    """
    x, y, rim, plane = units[X, i], units[Y, i], work[i].rim, work[i].plane
    target = flags[TARGET, i] if flags[ORDER, i] == ATTACK else -1
    reach = look + rim
    most = reach + widest(plane, rules)
    near = 0
    for j in count(0, units.shape[1]):
        dx = units[X, j] - x
        # Most units fail this test, for which one number of each is read, the next beside the last.
        if dx > most or dx < -most:
            continue
        far = reach + work[j].rim
        dy = units[Y, j] - y
        if dx * dx + dy * dy > far * far or work[j].plane != plane or j == target:
            continue
        if units[HEALTH, j] <= 0.0 or j == i:
            continue
        against = work[j].intent == MOVER and flags[SIDE, j] == -flags[SIDE, i]
        if work[j].enemy == work[i].enemy and work[j].intent != ANCHOR and not against:
            continue
        bodies[1, near].x, bodies[1, near].y, bodies[1, near].rim = dx, dy, work[j].rim
        near += 1
    for turn in range(len(_TURNS)):
        sine = _TURNS[turn, 1] * flags[SIDE, i]
        dx, dy = hx * _TURNS[turn, 0] - hy * sine, hx * sine + hy * _TURNS[turn, 0]
        if not walkable(i, x + look * dx, y + look * dy, work, rules, ground):
            continue
        free = True
        for a in range(near):
            bx, by = bodies[1, a].x, bodies[1, a].y
            along = bx * dx + by * dy
            if along <= 0.0:
                continue
            along = min(along, look)
            bx, by = bx - along * dx, by - along * dy
            far = SQUEEZE * (rim + bodies[1, a].rim)
            if bx * bx + by * by < far * far:
                free = False
                break
        if free:
            return turn
    return -1


@inlined
def widest(plane: int, rules: Rules) -> float:
    """Largest separation radius of those whom a unit can run into."""
    return rules.widest if plane == GROUND else rules.widest_other


@inlined
def walkable(i: int, x: float, y: float, work: Work, rules: Rules, ground: Ground) -> bool:
    """Whether unit i can stand about there, as far as the ground goes."""
    if x < rules.left or x > rules.right or y < rules.bottom or y > rules.top:
        return False
    if rules.convex or work[i].plane != GROUND:
        return True
    return bool(ground.walls[WALKERS, int(x) + 1, int(y) + 1] != WALL)


@inner
def glide(
    i: int, length: float, hx: float, hy: float, work: Work, units: Real, stats: Slots
) -> None:
    """A step of a unit that gathers speed, and brakes in time to stop at its goal."""
    rate = stats[i].acceleration
    wanted = 0.0
    if work[i].intent == MOVER:
        wanted = min(work[i].pace, math.sqrt(2.0 * rate * length), length)
    dx, dy = wanted * hx - units[VEL_X, i], wanted * hy - units[VEL_Y, i]
    change = math.sqrt(dx * dx + dy * dy)
    if change > rate:
        dx, dy = dx * rate / change, dy * rate / change
    units[VEL_X, i] += dx
    units[VEL_Y, i] += dy
    work[i].place_x += units[VEL_X, i]
    work[i].place_y += units[VEL_Y, i]
    if units[VEL_X, i] != 0.0 or units[VEL_Y, i] != 0.0:
        work[i].intent = MOVER


@inlined
def line_up(n: int, work: Work, bodies: Bodies, units: Real) -> int:
    """Fill in the living from west to east, where they mean to step; returns how many there are.

    The list is nearly sorted already: it is the last loop's. Equal places go by number, so that the
    result does not depend on what was there before.
    """
    living = 0
    for a in range(n):
        i = bodies[0, a].unit
        if units[HEALTH, i] <= 0.0:
            continue
        x, at = work[i].place_x, living
        while at > 0:
            west = bodies[0, at - 1].x
            if west < x or (west == x and bodies[0, at - 1].unit < i):
                break
            bodies[0, at] = bodies[0, at - 1]
            at -= 1
        bodies[0, at].unit = i
        bodies[0, at].enemy = work[i].enemy
        bodies[0, at].plane = work[i].plane
        bodies[0, at].intent = work[i].intent
        bodies[0, at].rim = work[i].rim
        bodies[0, at].x = x
        bodies[0, at].y = work[i].place_y
        living += 1
    return living


@inlined
def pair_up(n: int, bodies: Bodies, pairs: Pairs, rules: Rules) -> tuple[int, int]:
    """Collect pairs that touch or might after corrections; returns how many soft and hard ones.

    In soft pairs both give way; in hard ones somebody stands firm, or one friend yields to another.
    """
    soft, hard = 0, 0
    for a in count(0, n):
        x, y, rim = bodies[0, a].x, bodies[0, a].y, bodies[0, a].rim
        plane, one, side = bodies[0, a].plane, bodies[0, a].intent, bodies[0, a].enemy
        most = rim + widest(plane, rules) + MARGIN
        for b in count(a + np.uint64(1), n):
            dx = bodies[0, b].x - x
            if dx > most:
                break
            # Selections, no branches: which pairs count is hard to foresee for a processor. What is
            # written of the others is written over.
            far = rim + bodies[0, b].rim
            dy = bodies[0, b].y - y
            other = bodies[0, b].intent
            near = dx * dx + dy * dy <= (far + MARGIN) ** 2
            near &= (bodies[0, b].plane == plane) & ((one != ANCHOR) | (other != ANCHOR))
            friends = bodies[0, b].enemy == side
            alike = one == other
            mutual = friends & alike
            # Anchors never move. Idle units give way to friends but not to foes.
            courteous = friends & (one + other == IDLE + MOVER)
            yields = one == IDLE if courteous else one > other
            back = 0.5 if alike else (1.0 if yields else 0.0)
            kind = np.uint64(0 if mutual else 1)
            place = np.uint64(soft if mutual else hard)
            pairs[kind, place].a = a
            pairs[kind, place].b = b
            pairs[kind, place].far = far
            pairs[kind, place].back = back
            soft += near & mutual
            hard += near & (not mutual)
    return soft, hard


@inlined
def separate(kind: int, p: int, bodies: Bodies, pairs: Pairs) -> bool:
    """Move two overlapping units apart until they touch; returns whether they did overlap."""
    a, b, far = pairs[kind, p].a, pairs[kind, p].b, pairs[kind, p].far
    dx = bodies[0, b].x - bodies[0, a].x
    dy = bodies[0, b].y - bodies[0, a].y
    square = dx * dx + dy * dy
    if square >= far * far:
        return False
    apart = math.sqrt(square)
    if apart > 1e-9:
        dx, dy = dx / apart, dy / apart
    else:
        dx, dy = 1.0, 0.0
    back = pairs[kind, p].back * (far - apart)
    forth = far - apart - back
    bodies[0, a].x -= back * dx
    bodies[0, a].y -= back * dy
    bodies[0, b].x += forth * dx
    bodies[0, b].y += forth * dy
    return True


@inlined
def confine(a: int, bodies: Bodies, units: Real, rules: Rules, ground: Ground) -> None:
    """Keep a body's rim on walkable ground; flyers may go wherever the map reaches."""
    rim = bodies[0, a].rim
    if bodies[0, a].plane == AIR:
        bodies[0, a].x = min(max(bodies[0, a].x, rim), MAP_SIZE - rim)
        bodies[0, a].y = min(max(bodies[0, a].y, rim), MAP_SIZE - rim)
        return
    x, y = bodies[0, a].x, bodies[0, a].y
    x = min(max(x, rules.left + rim), rules.right - rim)
    y = min(max(y, rules.bottom + rim), rules.top - rim)
    if rules.convex:
        far = math.sqrt(2.0) * rim
        # Half of what is missing, along either axis, leads straight off a diagonal wall.
        lift = max(rules.low_sum + far - x - y, 0.0) - max(x + y + far - rules.high_sum, 0.0)
        x, y = x + 0.5 * lift, y + 0.5 * lift
        lift = max(rules.low_difference + far - x + y, 0.0)
        lift -= max(x - y + far - rules.high_difference, 0.0)
        x, y = x + 0.5 * lift, y - 0.5 * lift
    else:
        walker = CLIMBERS if bodies[0, a].plane == COLOSSUS else WALKERS
        x, y, free = off_walls(x, y, rim, walker, ground)
        if not free:
            i = bodies[0, a].unit
            x, y = units[X, i], units[Y, i]
    bodies[0, a].x, bodies[0, a].y = x, y


@inlined
def hold_back(p: int, bodies: Bodies, pairs: Pairs, units: Real) -> None:
    """Undo the step of whoever is still inside someone firm."""
    a, b, far = pairs[1, p].a, pairs[1, p].b, pairs[1, p].far - DEPTH_ALLOWED
    dx = bodies[0, b].x - bodies[0, a].x
    dy = bodies[0, b].y - bodies[0, a].y
    square = dx * dx + dy * dy
    if square >= far * far:
        return
    i, j = bodies[0, a].unit, bodies[0, b].unit
    ox, oy = units[X, j] - units[X, i], units[Y, j] - units[Y, i]
    if square >= ox * ox + oy * oy:
        return  # they were closer before: let them come apart
    if bodies[0, a].intent != ANCHOR:
        bodies[0, a].x, bodies[0, a].y = units[X, i], units[Y, i]
    if bodies[0, b].intent != ANCHOR:
        bodies[0, b].x, bodies[0, b].y = units[X, j], units[Y, j]


@inlined
def look_around(
    a: int, n: int, work: Work, bodies: Bodies, units: Real, flags: Whole, stats: Slots
) -> None:
    """After the step: find out whether the unit is blocked, and by which side to pass."""
    i = bodies[0, a].unit
    if stats[i].acceleration > 0.0:
        return
    mx, my = bodies[0, a].x - units[X, i], bodies[0, a].y - units[Y, i]
    enough = BLOCKED_SHARE * work[i].stride
    if work[i].stride > 0.0 and mx * mx + my * my >= enough * enough:
        if flags[SIDE, i] != 0 and work[i].turned == 0:
            flags[SIDE_LOOPS, i] -= 1
            if flags[SIDE_LOOPS, i] <= 0:
                flags[SIDE, i] = 0
        return
    b = obstacle(i, n, work, bodies, units)
    if b < 0:
        return
    if flags[ORDER, i] == MARCH and flags[ORDER, b] == STAND and work[b].enemy == work[i].enemy:
        flags[ORDER, i] = STAND  # friends already there fill the point
        flags[SIDE, i] = 0
        return
    if flags[SIDE, i] == 0:
        bx, by = units[X, b] - units[X, i], units[Y, b] - units[Y, i]
        turn = bx * work[i].heading_y - by * work[i].heading_x
        if abs(turn) < HEAD_ON:
            turn = 1.0 if stats[i].rank % 2 == 0 else -1.0
        flags[SIDE, i] = 1 if turn > 0.0 else -1
    flags[SIDE_LOOPS, i] = KEEP_SIDE_LOOPS


@inner
def obstacle(i: int, n: int, work: Work, bodies: Bodies, units: Real) -> int:
    """Who stands most squarely in mover i's way to its goal, in touch with it; or -1."""
    x, y, rim, plane = units[X, i], units[Y, i], work[i].rim, work[i].plane
    most, found = AHEAD, -1
    for a in count(0, n):
        j = bodies[0, a].unit
        far = rim + bodies[0, a].rim + TOUCH_GAP
        dx = units[X, j] - x
        if dx > far or dx < -far:
            continue
        dy = units[Y, j] - y
        square = dx * dx + dy * dy
        if square > far * far or bodies[0, a].plane != plane or square == 0.0 or j == i:
            continue
        ahead = (dx * work[i].heading_x + dy * work[i].heading_y) / math.sqrt(square)
        if ahead > most:
            most, found = ahead, j
    return found
