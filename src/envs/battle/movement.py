"""Walking: straight toward the goal, hard bodies, sliding around whoever stands firm.

Every unit first steps as it likes; then overlaps are resolved by moving whoever has to give way. A unit
that attacks, starts a shot or belongs to the other side stands firm; two friends on the move share the
correction; an idle friend gives way. A mover that would still be inside someone firm stays where it was.
"""

from __future__ import annotations

import math

from .jit import inner
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
    Real,
    Scratch,
    Whole,
    X,
    Y,
)
from .orders import ANCHOR, IDLE, MOVER
from .terrain import Terrain, confine
from .units import AIR, Stats

PASSES = 2  # over all overlapping pairs
MARGIN = 0.25  # pairs this near are watched, since corrections may bring them together
DEPTH_ALLOWED = 1e-3  # into someone firm, left over by the passes
KEEP_SIDE_LOOPS = 6  # a way around is kept this long after the last contact
BLOCKED_SHARE = 0.5  # of a full step: less progress than this counts as blocked
STUCK_SHARE = 0.2  # less movement than this while sliding: try the other side
SLIDE_GAP = 0.3  # someone nearer than this is still in the way
AHEAD = 0.1  # cosine: how far ahead someone must be to be in the way


@inner
def move(n: int, scratch: Scratch, units: Real, flags: Whole, stats: Stats, terrain: Terrain) -> None:
    """Move all living units by one loop, as their intents say."""
    movers = False
    for a in range(n):
        i = scratch.living[a]
        if units[HEALTH, i] <= 0.0:
            scratch.intent[i] = IDLE
        step(i, scratch, units, flags, stats)
        if scratch.intent[i] == MOVER:
            movers = True
    if not movers:
        return
    soft, hard = pair_up(n, scratch, units, stats)
    for sweep in range(PASSES):
        for p in range(soft):
            separate(scratch.soft[p, 0], scratch.soft[p, 1], scratch, stats)
        for p in range(hard):
            separate(scratch.hard[p, 0], scratch.hard[p, 1], scratch, stats)
        for a in range(n):
            i = scratch.living[a]
            if scratch.intent[i] != ANCHOR:
                bounds = terrain.air if stats.plane[i] == AIR else terrain.ground
                confine(scratch.place, i, stats.separation[i], bounds)
    for p in range(hard):
        hold_back(scratch.hard[p, 0], scratch.hard[p, 1], scratch, units, stats)
    for a in range(n):
        i = scratch.living[a]
        if scratch.intent[i] == MOVER:
            look_around(i, scratch, units, flags, stats)
        units[X, i] = scratch.place[X, i]
        units[Y, i] = scratch.place[Y, i]


@inner
def step(i: int, scratch: Scratch, units: Real, flags: Whole, stats: Stats) -> None:
    """Tentative position of unit i, no one else considered but the one it walks around."""
    x, y = units[X, i], units[Y, i]
    scratch.place[X, i], scratch.place[Y, i] = x, y
    scratch.obstacle[i], scratch.against[i] = -1, 0.0
    length, hx, hy = 0.0, 0.0, 0.0
    if scratch.intent[i] == MOVER:
        hx, hy = scratch.goal[X, i] - x, scratch.goal[Y, i] - y
        length = math.sqrt(hx * hx + hy * hy)
        if length > 0.0:
            hx, hy = hx / length, hy / length
        scratch.heading[X, i], scratch.heading[Y, i] = hx, hy
    if stats.acceleration[i] > 0.0:
        glide(i, length, hx, hy, scratch, units, stats)
        return
    if scratch.intent[i] != MOVER:
        return
    pace = min(scratch.pace[i], length)
    if flags[SIDE, i] != 0:
        b = flags[BLOCKER, i]
        bx, by = units[X, b] - x, units[Y, b] - y
        apart = math.sqrt(bx * bx + by * by)
        near = apart < stats.separation[i] + stats.separation[b] + SLIDE_GAP
        if units[HEALTH, b] > 0.0 and near and apart > 0.0:
            bx, by = bx / apart, by / apart
            if hx * bx + hy * by > AHEAD:
                hx, hy = -by * flags[SIDE, i], bx * flags[SIDE, i]
    scratch.place[X, i] = x + pace * hx
    scratch.place[Y, i] = y + pace * hy


@inner
def glide(
    i: int, length: float, hx: float, hy: float, scratch: Scratch, units: Real, stats: Stats
) -> None:
    """A step of a unit that gathers speed, and brakes in time to stop at its goal."""
    rate = stats.acceleration[i]
    wanted = 0.0
    if scratch.intent[i] == MOVER:
        wanted = min(scratch.pace[i], math.sqrt(2.0 * rate * length), length)
    dx, dy = wanted * hx - units[VEL_X, i], wanted * hy - units[VEL_Y, i]
    change = math.sqrt(dx * dx + dy * dy)
    if change > rate:
        dx, dy = dx * rate / change, dy * rate / change
    units[VEL_X, i] += dx
    units[VEL_Y, i] += dy
    scratch.place[X, i] += units[VEL_X, i]
    scratch.place[Y, i] += units[VEL_Y, i]
    if units[VEL_X, i] != 0.0 or units[VEL_Y, i] != 0.0:
        if scratch.intent[i] != MOVER:
            scratch.heading[X, i], scratch.heading[Y, i] = 0.0, 0.0
        scratch.intent[i] = MOVER


@inner
def pair_up(n: int, scratch: Scratch, units: Real, stats: Stats) -> tuple[int, int]:
    """Collect pairs that touch or might after corrections; returns how many soft and hard ones."""
    soft, hard = 0, 0
    for a in range(n):
        i = scratch.living[a]
        if units[HEALTH, i] <= 0.0:
            continue
        x, y, rim, plane = scratch.place[X, i], scratch.place[Y, i], stats.separation[i], stats.plane[i]
        firm_i = scratch.intent[i]
        for b in range(a + 1, n):
            j = scratch.living[b]
            far = rim + stats.separation[j] + MARGIN
            dx = scratch.place[X, j] - x
            if dx > far or dx < -far:
                continue
            dy = scratch.place[Y, j] - y
            if dx * dx + dy * dy > far * far or stats.plane[j] != plane:
                continue
            if units[HEALTH, j] <= 0.0:
                continue
            firm_j = scratch.intent[j]
            friends = stats.enemy[i] == stats.enemy[j]
            if firm_i == firm_j and firm_i != ANCHOR and friends:
                scratch.soft[soft, 0], scratch.soft[soft, 1] = i, j
                soft += 1
            elif firm_i != firm_j and friends or firm_i == MOVER or firm_j == MOVER:
                scratch.hard[hard, 0], scratch.hard[hard, 1] = i, j
                hard += 1
    return soft, hard


@inner
def share(i: int, j: int, scratch: Scratch, stats: Stats) -> float:
    """Part of a correction that i takes: 0 where it stands firm, 1 where j does."""
    a, b = scratch.intent[i], scratch.intent[j]
    if stats.enemy[i] != stats.enemy[j]:
        a, b = a if a == MOVER else ANCHOR, b if b == MOVER else ANCHOR
    if a == b:
        return 0.0 if a == ANCHOR else 0.5
    if a == ANCHOR or b == ANCHOR:
        return 0.0 if a == ANCHOR else 1.0
    return 1.0 if a == IDLE else 0.0


@inner
def separate(i: int, j: int, scratch: Scratch, stats: Stats) -> None:
    """Move two overlapping units apart until they touch."""
    dx = scratch.place[X, j] - scratch.place[X, i]
    dy = scratch.place[Y, j] - scratch.place[Y, i]
    far = stats.separation[i] + stats.separation[j]
    square = dx * dx + dy * dy
    if square >= far * far:
        return
    apart = math.sqrt(square)
    if apart > 1e-9:
        dx, dy = dx / apart, dy / apart
    else:
        dx, dy = 1.0, 0.0
    depth = far - apart
    back, forth = share(i, j, scratch, stats) * depth, share(j, i, scratch, stats) * depth
    scratch.place[X, i] -= back * dx
    scratch.place[Y, i] -= back * dy
    scratch.place[X, j] += forth * dx
    scratch.place[Y, j] += forth * dy
    note(i, j, dx, dy, scratch)
    note(j, i, -dx, -dy, scratch)


@inner
def note(i: int, j: int, dx: float, dy: float, scratch: Scratch) -> None:
    """Remember j if it stands most squarely in mover i's way; (dx, dy) points from i to j."""
    if scratch.intent[i] == MOVER:
        against = scratch.heading[X, i] * dx + scratch.heading[Y, i] * dy
        if against > scratch.against[i]:
            scratch.against[i] = against
            scratch.obstacle[i] = j


@inner
def hold_back(i: int, j: int, scratch: Scratch, units: Real, stats: Stats) -> None:
    """Undo the step of whoever is still inside someone firm."""
    dx = scratch.place[X, j] - scratch.place[X, i]
    dy = scratch.place[Y, j] - scratch.place[Y, i]
    far = stats.separation[i] + stats.separation[j] - DEPTH_ALLOWED
    square = dx * dx + dy * dy
    if square >= far * far:
        return
    ox, oy = units[X, j] - units[X, i], units[Y, j] - units[Y, i]
    if square >= ox * ox + oy * oy:
        return  # they were closer before: let them come apart
    if scratch.intent[i] != ANCHOR:
        scratch.place[X, i], scratch.place[Y, i] = units[X, i], units[Y, i]
    if scratch.intent[j] != ANCHOR:
        scratch.place[X, j], scratch.place[Y, j] = units[X, j], units[Y, j]


@inner
def look_around(i: int, scratch: Scratch, units: Real, flags: Whole, stats: Stats) -> None:
    """After the step: find out whether the unit is blocked, and by which side to pass."""
    if stats.acceleration[i] > 0.0:
        return
    hx, hy = scratch.heading[X, i], scratch.heading[Y, i]
    mx, my = scratch.place[X, i] - units[X, i], scratch.place[Y, i] - units[Y, i]
    pace = scratch.pace[i]
    b = scratch.obstacle[i]
    if b >= 0 and hx * mx + hy * my < BLOCKED_SHARE * pace:
        if flags[ORDER, i] == MARCH and flags[ORDER, b] == STAND and stats.enemy[b] == stats.enemy[i]:
            flags[ORDER, i] = STAND  # friends already there fill the point
            flags[SIDE, i] = 0
            return
        if flags[SIDE, i] == 0:
            bx, by = units[X, b] - units[X, i], units[Y, b] - units[Y, i]
            flags[SIDE, i] = 1 if bx * hy - by * hx >= 0.0 else -1
        elif mx * mx + my * my < (STUCK_SHARE * pace) ** 2:
            flags[SIDE, i] = -flags[SIDE, i]
        flags[BLOCKER, i] = b
        flags[SIDE_LOOPS, i] = KEEP_SIDE_LOOPS
    elif flags[SIDE, i] != 0:
        flags[SIDE_LOOPS, i] -= 1
        if flags[SIDE_LOOPS, i] <= 0:
            flags[SIDE, i] = 0
