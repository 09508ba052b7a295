"""One game loop of one battle: clocks, then who looks around, then who acts, then who walks.

Units act in an order drawn anew each loop, so that neither side shoots first as a rule.
"""

from __future__ import annotations

import numpy as np

from . import rng
from .brain import think
from .combat import explode, heal, land, recover, run_clocks, swing
from .jit import count, inlined
from .layout import (
    ALERT,
    BODY_UNIT,
    ENEMY,
    HEAL,
    HEALED,
    HEALTH,
    LIVING,
    ORDER,
    PACE,
    PLANE,
    RADIUS,
    RIM,
    SHIELD,
    TARGET,
    TOTAL,
    TURN,
    Array,
    Real,
    Whole,
    Work,
)
from .movement import move
from .orders import act
from .rules import Rules
from .terrain import Ground
from .units import Slots


@inlined
def prepare(work: Work, units: Real, stats: Slots, rules: Rules) -> None:
    """Fill in what working memory holds through one env step of one battle."""
    n = 0
    for i in count(0, rules.n_allies + rules.n_enemies):
        work.whole[ENEMY, i], work.whole[PLANE, i] = stats[i].enemy, stats[i].plane
        work.real[RIM, i], work.real[RADIUS, i] = stats[i].separation, stats[i].radius
        work.real[PACE, i] = stats[i].speed
        work.real[TOTAL, i] = -1.0
        if units[HEALTH, i] > 0.0:
            work.real[TOTAL, i] = units[HEALTH, i] + units[SHIELD, i]
            work.whole[BODY_UNIT, np.uint64(n)] = i
            n += 1


@inlined
def advance(
    loop: int, key: np.uint64, work: Work,
    units: Real, flags: Whole, battle: Array, queue: Whole,
    stats: Slots, rules: Rules, ground: Ground,
) -> None:  # fmt: skip
    """One game loop of one battle."""
    n_allies, m = np.uint64(rules.n_allies), rules.n_allies + rules.n_enemies
    ally_alarm = alarmed(0, rules.n_allies, units, flags)
    enemy_alarm = alarmed(rules.n_allies, m, units, flags)
    run_clocks(m, units, flags)
    # A zero with a type: a literal one has numba compile all that it is given to twice.
    none = np.int64(0)
    allies = muster(0, rules.n_allies, none, work, units)
    n = muster(rules.n_allies, m, allies, work, units)
    if n == 0:
        return
    if rules.recovers:
        for a in count(0, n):
            recover(work.whole[LIVING, a], units, flags, stats)
    land(loop, units, flags, battle, queue, stats)
    draw = rng.bits(key, loop, 0, rng.ORDER)
    offset = np.int64(draw % np.uint64(n))
    backward = (draw >> np.uint64(40)) & np.uint64(1) == np.uint64(1)
    for turn in count(0, n):
        place = np.uint64(in_turn(np.int64(turn), n, offset, backward))
        work.whole[TURN, turn] = work.whole[LIVING, place]
    # Units look around in turns; which one when is drawn per episode, or a first clash that comes
    # at the same loop in all battles would favour some.
    beat = loop + np.int64(key & np.uint64(3))
    for turn in count(0, n):
        i = work.whole[TURN, turn]
        enemy = i >= n_allies
        if (enemy or rules.scripted) and units[HEALTH, i] > 0.0:
            think(
                i, beat, allies if enemy else none, n if enemy else allies,
                none if enemy else allies, allies if enemy else n,
                enemy_alarm if enemy else ally_alarm,
                rules.enemy_marches if enemy else rules.ally_marches,
                rules.enemies_hunt and (enemy or rules.generated),
                work, units, flags, stats,
            )  # fmt: skip
    for turn in count(0, n):
        i = work.whole[TURN, turn]
        if units[HEALTH, i] > 0.0:
            swing(i, units, flags, stats)
            act(i, loop, key, work, units, flags, battle, queue, stats, rules)
    if rules.bursts:
        explode(n, work, units, flags, stats)
    if rules.heals:
        for turn in count(0, n):
            work.whole[HEALED, work.whole[TURN, turn]] = 0
        for turn in count(0, n):
            i = work.whole[TURN, turn]
            if flags[ORDER, i] == HEAL and units[HEALTH, i] > 0.0:
                heal(i, flags[TARGET, i], work, units, stats)
    forward = (draw >> np.uint64(41)) & np.uint64(1) == np.uint64(1)
    move(n, forward, work, units, flags, stats, rules, ground)


@inlined
def alarmed(first: int, last: int, units: Real, flags: Whole) -> bool:
    """Whether anyone living among units first..last-1 was hit lately."""
    alarm = False
    for i in count(first, last):
        alarm |= (units[HEALTH, i] > 0.0) & (flags[ALERT, i] > 0)
    return alarm


@inlined
def muster(first: int, last: int, n: int, work: Work, units: Real) -> int:
    """Append the living among units first..last-1 to a list of n; returns how long it is then."""
    for i in count(first, last):
        work.whole[LIVING, np.uint64(n)] = i
        n += units[HEALTH, i] > 0.0
    return n


@inlined
def in_turn(turn: int, n: int, offset: int, backward: bool) -> int:
    """Place in the living list of the unit whose turn it is."""
    place = turn + offset
    if place >= n:
        place -= n
    return n - 1 - place if backward else place
