"""Walking: straight toward the goal, and ways around whoever stands firm.

Every unit first steps as it likes; then bodies that overlap are moved apart (:mod:`.collisions`). Who gets
nowhere looks for the free direction nearest to its way, on one side first, and so finds a place around a
target that others already surround.
"""

from __future__ import annotations

import math

import numpy as np

from .collisions import collide, line_up
from .jit import count, inlined, inner
from .layout import (
    ATTACK,
    BODY_PLANE,
    BODY_RIM,
    BODY_UNIT,
    BODY_X,
    BODY_Y,
    ENEMY,
    HEADING_X,
    HEADING_Y,
    HEALTH,
    INTENT,
    MARCH,
    NEAR,
    NEAR_RIM,
    NEAR_X,
    NEAR_Y,
    ORDER,
    OUTCOME,
    PACE,
    PLACE_X,
    PLACE_Y,
    PLANE,
    RIM,
    SIDE,
    SIDE_LOOPS,
    STAND,
    STRIDE,
    TARGET,
    TURN,
    TURNED,
    VEL_X,
    VEL_Y,
    WISH_X,
    WISH_Y,
    Real,
    Whole,
    Work,
    X,
    Y,
)
from .orders import ANCHOR, IDLE, MOVER
from .pitch import lanes
from .rules import Rules
from .terrain import STRAIGHT, WALKERS, WALL, Ground, cell_number
from .units import GROUND, Slots

KEEP_SIDE_LOOPS = 6  # a way around is kept this long after the last contact
NOTHING, FREE, STUCK = 0, 1, 2  # outcome of a mover's step: as ever; free again; got nowhere
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
    n: int, forward: bool, work: Work, units: Real, flags: Whole, stats: Slots, rules: Rules,
    ground: Ground,
) -> None:  # fmt: skip
    """Move all living units by one loop, as their intents say.

    ``forward``: whether overlaps are resolved from west to east or the other way; drawn in each loop.
    """
    if not rules.convex:
        for a in count(0, n):
            i = work.whole[TURN, a]
            if work.whole[INTENT, i] == MOVER and work.whole[PLANE, i] == GROUND:
                find_way(i, work, units, ground)
    movers = set_out(work, units, rules)
    for a in count(0, n):
        i = work.whole[TURN, a]
        if stats[i].acceleration > 0.0:
            glide(i, work, units, stats)
            movers |= work.whole[INTENT, i] == MOVER
        elif flags[SIDE, i] != 0 and work.whole[INTENT, i] == MOVER:
            turn_aside(i, work, units, flags, rules, ground)
    living = line_up(n, work, units)
    if not movers:
        return
    collide(living, forward, work, units, rules, ground)
    arrive(living, forward, work, units, flags, stats, rules)


@inner
def find_way(i: int, work: Work, units: Real, ground: Ground) -> None:
    """Where a wall stands between mover i and its goal, let it walk to the next corner."""
    goal = cell_number(work.real[WISH_X, i], work.real[WISH_Y, i])
    hop = ground.hops[goal, cell_number(units[X, i], units[Y, i])]
    if hop != STRAIGHT:
        work.real[WISH_X, i], work.real[WISH_Y, i] = ground.stops[hop, 0], ground.stops[hop, 1]


@inlined
def set_out(work: Work, units: Real, rules: Rules) -> bool:
    """Tentative positions of all units, nobody else considered; returns whether anyone walks.

    The dead are done too, in vain: without branches the compiler works on several units at once.
    """
    movers = False
    for i in count(0, lanes(rules.n_allies + rules.n_enemies)):
        x, y = units[X, i], units[Y, i]
        dead = units[HEALTH, i] <= 0.0
        walks = (work.whole[INTENT, i] == MOVER) & (not dead)
        dx, dy = work.real[WISH_X, i] - x, work.real[WISH_Y, i] - y
        length = math.sqrt(dx * dx + dy * dy)
        there = length <= 0.0
        hx, hy = (dx if there else dx / length), (dy if there else dy / length)
        stride = min(work.real[PACE, i], length)
        work.real[HEADING_X, i], work.real[HEADING_Y, i] = hx, hy
        work.real[STRIDE, i] = stride
        work.real[PLACE_X, i] = x + stride * hx if walks else x
        work.real[PLACE_Y, i] = y + stride * hy if walks else y
        work.whole[TURNED, i] = 0
        work.whole[INTENT, i] = IDLE if dead else work.whole[INTENT, i]
        movers |= walks
    return movers


@inlined
def turn_aside(i: int, work: Work, units: Real, flags: Whole, rules: Rules, ground: Ground) -> None:
    """Let mover i, which was blocked of late, walk around whoever stands in its way."""
    x, y = units[X, i], units[Y, i]
    hx, hy = work.real[HEADING_X, i], work.real[HEADING_Y, i]
    length = math.sqrt((work.real[WISH_X, i] - x) ** 2 + (work.real[WISH_Y, i] - y) ** 2)
    look = min(LOOK_AHEAD * work.real[PACE, i], length)
    turn = skirt(i, look, hx, hy, work, units, flags, rules, ground)
    work.whole[TURNED, i] = turn != 0
    if turn < 0:
        work.real[STRIDE, i] = 0.0
        work.real[PLACE_X, i], work.real[PLACE_Y, i] = x, y
        return
    sine = _TURNS[turn, 1] * flags[SIDE, i]
    hx, hy = hx * _TURNS[turn, 0] - hy * sine, hx * sine + hy * _TURNS[turn, 0]
    if turn > len(_TURNS) // 2:
        flags[SIDE, i] = -flags[SIDE, i]
    work.real[PLACE_X, i] = x + work.real[STRIDE, i] * hx
    work.real[PLACE_Y, i] = y + work.real[STRIDE, i] * hy


@inlined
def skirt(
    i: int, look: float, hx: float, hy: float,
    work: Work, units: Real, flags: Whole, rules: Rules, ground: Ground,
) -> int:  # fmt: skip
    """Row of the turn by which unit i, heading (hx, hy), gets past those who stand firm; or -1.

    Friends who are idle or on the move are no obstacle, unless they look for their way around on the
    other side; nor is who the unit is out to hit.
    """
    x, y, rim, plane = units[X, i], units[Y, i], work.real[RIM, i], work.whole[PLANE, i]
    target = flags[TARGET, i] if flags[ORDER, i] == ATTACK else -1
    side, enemy, reach = flags[SIDE, i], work.whole[ENEMY, i], look + rim
    for j in count(0, lanes(rules.n_allies + rules.n_enemies)):  # several at once
        dx, dy = units[X, j] - x, units[Y, j] - y
        far = reach + work.real[RIM, j]
        there = (dx * dx + dy * dy <= far * far) & (units[HEALTH, j] > 0.0)
        there &= (work.whole[PLANE, j] == plane) & (np.int64(j) != target) & (j != i)
        against = (work.whole[INTENT, j] == MOVER) & (flags[SIDE, j] == -side)
        friends = work.whole[ENEMY, j] == enemy
        firm = (work.whole[INTENT, j] == ANCHOR) | against | (not friends)
        work.whole[NEAR, j] = there & firm
    near = np.uint64(0)
    for j in count(0, rules.n_allies + rules.n_enemies):
        work.real[NEAR_X, near], work.real[NEAR_Y, near] = units[X, j] - x, units[Y, j] - y
        work.real[NEAR_RIM, near] = work.real[RIM, j]
        near += np.uint64(work.whole[NEAR, j])
    for turn in range(len(_TURNS)):
        sine = _TURNS[turn, 1] * flags[SIDE, i]
        dx, dy = hx * _TURNS[turn, 0] - hy * sine, hx * sine + hy * _TURNS[turn, 0]
        if not walkable(i, x + look * dx, y + look * dy, work, rules, ground):
            continue
        free = True
        for a in count(0, near):
            bx, by = work.real[NEAR_X, a], work.real[NEAR_Y, a]
            along = bx * dx + by * dy
            if along <= 0.0:
                continue
            along = min(along, look)
            bx, by = bx - along * dx, by - along * dy
            far = SQUEEZE * (rim + work.real[NEAR_RIM, a])
            if bx * bx + by * by < far * far:
                free = False
                break
        if free:
            return turn
    return -1


@inlined
def walkable(i: int, x: float, y: float, work: Work, rules: Rules, ground: Ground) -> bool:
    """Whether unit i can stand about there, as far as the ground goes."""
    if x < rules.left or x > rules.right or y < rules.bottom or y > rules.top:
        return False
    if rules.convex or work.whole[PLANE, i] != GROUND:
        return True
    return bool(ground.walls[WALKERS, int(x) + 1, int(y) + 1] != WALL)


@inner
def glide(i: int, work: Work, units: Real, stats: Slots) -> None:
    """A step of a unit that gathers speed, and brakes in time to stop at its goal."""
    rate = stats[i].acceleration
    wanted, hx, hy = 0.0, 0.0, 0.0
    if work.whole[INTENT, i] == MOVER:
        hx, hy = work.real[HEADING_X, i], work.real[HEADING_Y, i]
        dx, dy = work.real[WISH_X, i] - units[X, i], work.real[WISH_Y, i] - units[Y, i]
        length = math.sqrt(dx * dx + dy * dy)
        wanted = min(work.real[PACE, i], math.sqrt(2.0 * rate * length), length)
    dx, dy = wanted * hx - units[VEL_X, i], wanted * hy - units[VEL_Y, i]
    change = math.sqrt(dx * dx + dy * dy)
    if change > rate:
        dx, dy = dx * rate / change, dy * rate / change
    units[VEL_X, i] += dx
    units[VEL_Y, i] += dy
    work.real[PLACE_X, i] = units[X, i] + units[VEL_X, i]
    work.real[PLACE_Y, i] = units[Y, i] + units[VEL_Y, i]
    if units[VEL_X, i] != 0.0 or units[VEL_Y, i] != 0.0:
        work.whole[INTENT, i] = MOVER


@inlined
def arrive(
    n: int, forward: bool, work: Work, units: Real, flags: Whole, stats: Slots, rules: Rules
) -> None:
    """Take the tentative positions, and find out who is blocked on the way there."""
    for a in count(0, n):
        i = work.whole[BODY_UNIT, a]
        work.real[PLACE_X, i], work.real[PLACE_Y, i] = work.real[BODY_X, a], work.real[BODY_Y, a]
    for i in count(0, lanes(rules.n_allies + rules.n_enemies)):  # several at once
        mx, my = work.real[PLACE_X, i] - units[X, i], work.real[PLACE_Y, i] - units[Y, i]
        stride = work.real[STRIDE, i]
        enough = BLOCKED_SHARE * stride
        free = (stride > 0.0) & (mx * mx + my * my >= enough * enough)
        outcome = (FREE if flags[SIDE, i] != 0 else NOTHING) if free else STUCK
        work.whole[OUTCOME, i] = outcome if work.whole[INTENT, i] == MOVER else NOTHING
    # All look from where they stood, or whoever comes later would see some gone ahead and some not.
    for turn in range(n):
        i = work.whole[BODY_UNIT, np.uint64(turn if forward else n - 1 - turn)]
        if work.whole[OUTCOME, i] != NOTHING:
            look_around(i, n, work, units, flags, stats)
    for i in count(0, lanes(rules.n_allies + rules.n_enemies)):
        dead = units[HEALTH, i] <= 0.0
        units[X, i] = units[X, i] if dead else work.real[PLACE_X, i]
        units[Y, i] = units[Y, i] if dead else work.real[PLACE_Y, i]


@inlined
def look_around(i: int, n: int, work: Work, units: Real, flags: Whole, stats: Slots) -> None:
    """After the step: by which side mover i shall pass if it is blocked, or when it is free again."""
    if stats[i].acceleration > 0.0:
        return
    if work.whole[OUTCOME, i] == FREE:
        if work.whole[TURNED, i] == 0:
            flags[SIDE_LOOPS, i] -= 1
            if flags[SIDE_LOOPS, i] <= 0:
                flags[SIDE, i] = 0
        return
    b = obstacle(i, n, work, units)
    if b < 0:
        return
    if (
        flags[ORDER, i] == MARCH
        and flags[ORDER, b] == STAND
        and work.whole[ENEMY, b] == work.whole[ENEMY, i]
    ):
        flags[ORDER, i] = STAND  # friends already there fill the point
        flags[SIDE, i] = 0
        return
    if flags[SIDE, i] == 0:
        bx, by = units[X, b] - units[X, i], units[Y, b] - units[Y, i]
        turn = bx * work.real[HEADING_Y, i] - by * work.real[HEADING_X, i]
        if abs(turn) < HEAD_ON:
            turn = 1.0 if stats[i].rank % 2 == 0 else -1.0
        flags[SIDE, i] = 1 if turn > 0.0 else -1
    flags[SIDE_LOOPS, i] = KEEP_SIDE_LOOPS


@inner
def obstacle(i: int, n: int, work: Work, units: Real) -> int:
    """Who stands most squarely in mover i's way to its goal, in touch with it; or -1."""
    x, y, rim, plane = units[X, i], units[Y, i], work.real[RIM, i], work.whole[PLANE, i]
    most, found = AHEAD, -1
    for a in count(0, n):
        j = work.whole[BODY_UNIT, a]
        far = rim + work.real[BODY_RIM, a] + TOUCH_GAP
        dx = units[X, j] - x
        if dx > far or dx < -far:
            continue
        dy = units[Y, j] - y
        square = dx * dx + dy * dy
        if square > far * far or work.whole[BODY_PLANE, a] != plane or square == 0.0 or j == i:
            continue
        ahead = (dx * work.real[HEADING_X, i] + dy * work.real[HEADING_Y, i]) / math.sqrt(square)
        if ahead > most:
            most, found = ahead, j
    return found
