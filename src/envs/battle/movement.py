"""Walking: straight toward the goal, hard bodies, sliding around whoever stands firm.

Every unit first steps as it likes; then overlaps are resolved by moving whoever has to give way. A unit
that attacks, starts a shot or belongs to the other side stands firm; two friends on the move share the
correction; an idle friend gives way. A mover that would still be inside someone firm stays where it was.
"""

from __future__ import annotations

import math

from .jit import inlined, inner
from .layout import (
    BLOCKER,
    HEALTH,
    MARCH,
    ORDER,
    SIDE,
    SIDE_LOOPS,
    STAND,
    VEL_X,
    VEL_Y,
    Pairs,
    Real,
    Whole,
    Work,
    X,
    Y,
)
from .orders import ANCHOR, IDLE, MOVER
from .rules import MAP_SIZE, Rules
from .terrain import CLIMBERS, STRAIGHT, WALKERS, Ground, cell_number, off_walls
from .units import AIR, COLOSSUS, GROUND, Slots

PASSES = 2  # over all overlapping pairs
MARGIN = 0.25  # pairs this near are watched, since corrections may bring them together
DEPTH_ALLOWED = 1e-3  # into someone firm, left over by the passes
KEEP_SIDE_LOOPS = 6  # a way around is kept this long after the last contact
BLOCKED_SHARE = 0.5  # of a full step: less progress than this counts as blocked
STUCK_SHARE = 0.2  # less movement than this while sliding: try the other side
SLIDE_GAP = 0.3  # someone nearer than this is still in the way
HEAD_ON = 1e-6  # straight into someone: even units pass on the left, odd ones on the right
AHEAD = 0.1  # cosine: how far ahead someone must be to be in the way


@inlined
def move(
    n: int, work: Work, pairs: Pairs, units: Real, flags: Whole,
    stats: Slots, rules: Rules, ground: Ground,
) -> None:  # fmt: skip
    """Move all living units by one loop, as their intents say."""
    movers = False
    for a in range(n):
        i = work[a].turn
        if units[HEALTH, i] <= 0.0:
            work[i].intent = IDLE
        if not rules.convex and work[i].intent == MOVER and stats[i].plane == GROUND:
            find_way(i, work, units, ground)
        step(i, work, units, flags, stats)
        if work[i].intent == MOVER:
            movers = True
    if not movers:
        return
    soft, hard = pair_up(n, work, pairs, units, stats)
    for _ in range(PASSES):
        for p in range(soft):
            separate(pairs[0, p, 0], pairs[0, p, 1], work, stats)
        for p in range(hard):
            separate(pairs[1, p, 0], pairs[1, p, 1], work, stats)
        for a in range(n):
            i = work[a].turn
            if work[i].intent != ANCHOR:
                confine(i, work, units, stats, rules, ground)
    for p in range(hard):
        hold_back(pairs[1, p, 0], pairs[1, p, 1], work, units, stats)
    for a in range(n):
        i = work[a].turn
        if work[i].intent == MOVER:
            look_around(i, work, units, flags, stats)
        units[X, i] = work[i].place_x
        units[Y, i] = work[i].place_y


@inner
def find_way(i: int, work: Work, units: Real, ground: Ground) -> None:
    """Where a wall stands between mover i and its goal, let it walk to the next corner."""
    goal = cell_number(work[i].goal_x, work[i].goal_y)
    hop = ground.hops[goal, cell_number(units[X, i], units[Y, i])]
    if hop != STRAIGHT:
        work[i].goal_x, work[i].goal_y = ground.stops[hop, 0], ground.stops[hop, 1]


@inlined
def step(i: int, work: Work, units: Real, flags: Whole, stats: Slots) -> None:
    """Tentative position of unit i, no one else considered but the one it walks around."""
    x, y = units[X, i], units[Y, i]
    work[i].place_x, work[i].place_y = x, y
    work[i].obstacle, work[i].against = -1, 0.0
    length, hx, hy = 0.0, 0.0, 0.0
    if work[i].intent == MOVER:
        hx, hy = work[i].goal_x - x, work[i].goal_y - y
        length = math.sqrt(hx * hx + hy * hy)
        if length > 0.0:
            hx, hy = hx / length, hy / length
        work[i].heading_x, work[i].heading_y = hx, hy
    if stats[i].acceleration > 0.0:
        glide(i, length, hx, hy, work, units, stats)
        return
    if work[i].intent != MOVER:
        return
    pace = min(work[i].pace, length)
    if flags[SIDE, i] != 0:
        b = flags[BLOCKER, i]
        bx, by = units[X, b] - x, units[Y, b] - y
        apart = math.sqrt(bx * bx + by * by)
        near = apart < stats[i].separation + stats[b].separation + SLIDE_GAP
        if units[HEALTH, b] > 0.0 and near and apart > 0.0:
            bx, by = bx / apart, by / apart
            if hx * bx + hy * by > AHEAD:
                hx, hy = -by * flags[SIDE, i], bx * flags[SIDE, i]
    work[i].place_x = x + pace * hx
    work[i].place_y = y + pace * hy


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
        if work[i].intent != MOVER:
            work[i].heading_x, work[i].heading_y = 0.0, 0.0
        work[i].intent = MOVER


@inlined
def pair_up(n: int, work: Work, pairs: Pairs, units: Real, stats: Slots) -> tuple[int, int]:
    """Collect pairs that touch or might after corrections; returns how many soft and hard ones."""
    soft, hard = 0, 0
    for a in range(n):
        i = work[a].turn
        if units[HEALTH, i] <= 0.0:
            continue
        x, y, rim, plane = work[i].place_x, work[i].place_y, stats[i].separation, stats[i].plane
        firm_i = work[i].intent
        for b in range(a + 1, n):
            j = work[b].turn
            far = rim + stats[j].separation + MARGIN
            dx = work[j].place_x - x
            if dx > far or dx < -far:
                continue
            dy = work[j].place_y - y
            if dx * dx + dy * dy > far * far or stats[j].plane != plane:
                continue
            if units[HEALTH, j] <= 0.0:
                continue
            firm_j = work[j].intent
            friends = stats[i].enemy == stats[j].enemy
            if firm_i == firm_j and firm_i != ANCHOR and friends:
                pairs[0, soft, 0], pairs[0, soft, 1] = i, j
                soft += 1
            elif (firm_i != firm_j and friends) or firm_i == MOVER or firm_j == MOVER:
                pairs[1, hard, 0], pairs[1, hard, 1] = i, j
                hard += 1
    return soft, hard


@inlined
def share(i: int, j: int, work: Work, stats: Slots) -> float:
    """Part of a correction that i takes: 0 where it stands firm, 1 where j does."""
    a, b = work[i].intent, work[j].intent
    if stats[i].enemy != stats[j].enemy:
        a, b = a if a == MOVER else ANCHOR, b if b == MOVER else ANCHOR
    if a == b:
        return 0.0 if a == ANCHOR else 0.5
    if a == ANCHOR or b == ANCHOR:
        return 0.0 if a == ANCHOR else 1.0
    return 1.0 if a == IDLE else 0.0


@inlined
def separate(i: int, j: int, work: Work, stats: Slots) -> None:
    """Move two overlapping units apart until they touch."""
    dx = work[j].place_x - work[i].place_x
    dy = work[j].place_y - work[i].place_y
    far = stats[i].separation + stats[j].separation
    square = dx * dx + dy * dy
    if square >= far * far:
        return
    apart = math.sqrt(square)
    if apart > 1e-9:
        dx, dy = dx / apart, dy / apart
    else:
        dx, dy = 1.0, 0.0
    depth = far - apart
    back, forth = share(i, j, work, stats) * depth, share(j, i, work, stats) * depth
    work[i].place_x -= back * dx
    work[i].place_y -= back * dy
    work[j].place_x += forth * dx
    work[j].place_y += forth * dy
    note(i, j, dx, dy, work)
    note(j, i, -dx, -dy, work)


@inlined
def note(i: int, j: int, dx: float, dy: float, work: Work) -> None:
    """Remember j if it stands most squarely in mover i's way; (dx, dy) points from i to j."""
    if work[i].intent == MOVER:
        against = work[i].heading_x * dx + work[i].heading_y * dy
        if against > work[i].against:
            work[i].against = against
            work[i].obstacle = j


@inlined
def confine(i: int, work: Work, units: Real, stats: Slots, rules: Rules, ground: Ground) -> None:
    """Keep a unit's rim on walkable ground; flyers may go wherever the map reaches."""
    rim = stats[i].separation
    if stats[i].plane == AIR:
        work[i].place_x = min(max(work[i].place_x, rim), MAP_SIZE - rim)
        work[i].place_y = min(max(work[i].place_y, rim), MAP_SIZE - rim)
        return
    x = min(max(work[i].place_x, rules.left + rim), rules.right - rim)
    y = min(max(work[i].place_y, rules.bottom + rim), rules.top - rim)
    if rules.convex:
        far = math.sqrt(2.0) * rim
        # Half of what is missing, along either axis, leads straight off a diagonal wall.
        lift = max(rules.low_sum + far - x - y, 0.0) - max(x + y + far - rules.high_sum, 0.0)
        x, y = x + 0.5 * lift, y + 0.5 * lift
        lift = max(rules.low_difference + far - x + y, 0.0)
        lift -= max(x - y + far - rules.high_difference, 0.0)
        x, y = x + 0.5 * lift, y - 0.5 * lift
    else:
        walker = CLIMBERS if stats[i].plane == COLOSSUS else WALKERS
        x, y, free = off_walls(x, y, rim, walker, ground)
        if not free:
            x, y = units[X, i], units[Y, i]
    work[i].place_x, work[i].place_y = x, y


@inlined
def hold_back(i: int, j: int, work: Work, units: Real, stats: Slots) -> None:
    """Undo the step of whoever is still inside someone firm."""
    dx = work[j].place_x - work[i].place_x
    dy = work[j].place_y - work[i].place_y
    far = stats[i].separation + stats[j].separation - DEPTH_ALLOWED
    square = dx * dx + dy * dy
    if square >= far * far:
        return
    ox, oy = units[X, j] - units[X, i], units[Y, j] - units[Y, i]
    if square >= ox * ox + oy * oy:
        return  # they were closer before: let them come apart
    if work[i].intent != ANCHOR:
        work[i].place_x, work[i].place_y = units[X, i], units[Y, i]
    if work[j].intent != ANCHOR:
        work[j].place_x, work[j].place_y = units[X, j], units[Y, j]


@inlined
def look_around(i: int, work: Work, units: Real, flags: Whole, stats: Slots) -> None:
    """After the step: find out whether the unit is blocked, and by which side to pass."""
    if stats[i].acceleration > 0.0:
        return
    hx, hy = work[i].heading_x, work[i].heading_y
    mx, my = work[i].place_x - units[X, i], work[i].place_y - units[Y, i]
    pace = work[i].pace
    b = work[i].obstacle
    if b >= 0 and hx * mx + hy * my < BLOCKED_SHARE * pace:
        if (
            flags[ORDER, i] == MARCH
            and flags[ORDER, b] == STAND
            and stats[b].enemy == stats[i].enemy
        ):
            flags[ORDER, i] = STAND  # friends already there fill the point
            flags[SIDE, i] = 0
            return
        if flags[SIDE, i] == 0:
            bx, by = units[X, b] - units[X, i], units[Y, b] - units[Y, i]
            turn = bx * hy - by * hx
            if abs(turn) < HEAD_ON:
                turn = 1.0 if stats[i].rank % 2 == 0 else -1.0
            flags[SIDE, i] = 1 if turn > 0.0 else -1
        elif mx * mx + my * my < (STUCK_SHARE * pace) ** 2:
            flags[SIDE, i] = -flags[SIDE, i]
        flags[BLOCKER, i] = b
        flags[SIDE_LOOPS, i] = KEEP_SIDE_LOOPS
    elif flags[SIDE, i] != 0:
        flags[SIDE_LOOPS, i] -= 1
        if flags[SIDE_LOOPS, i] <= 0:
            flags[SIDE, i] = 0
