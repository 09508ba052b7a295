"""Where each quantity of a battle lies in the engine's arrays.

Arrays are structs of arrays, batch first: ``units[b, FIELD, i]``. Units are numbered allies first, in
SMAC's order, then enemies in creation order; M = N + E.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Real-valued fields of a unit. Times in game loops, lengths in map units.
X, Y = 0, 1
HEALTH, SHIELD, ENERGY = 2, 3, 4
COOLDOWN = 5  # until the next shot may start; below zero while one is being started
SWING = 6  # until the second blade of a two-hit attack lands; 0: none
BACKSWING = 7  # until the unit may walk again without a new order
GOAL_X, GOAL_Y = 8, 9  # where a MOVE or MARCH order leads
VEL_X, VEL_Y = 10, 11  # only of units that accelerate
HOME_X, HOME_Y = 12, 13  # where the unit took up its chase
N_REAL = 14

# Integer fields of a unit. A unit number of -1 means none.
ORDER, TARGET = 0, 1
WINDUP = 2  # 1 while a shot is being started
SWING_TARGET = 3
SHIELD_WAIT = 4  # loops until the shield comes back
ATTACKER, ALERT = 5, 6  # who hit last, and for how many loops that is remembered
SIDE, SIDE_LOOPS = 7, 8  # passing whoever blocks on the left (1) or right (-1), for so long
LEASHED = 9  # 1 after a chase that led too far
N_WHOLE = 10

# What a film keeps of every unit and loop: the first fields of either kind.
FILM_REAL, FILM_WHOLE = COOLDOWN + 1, TARGET + 1
N_FILM = FILM_REAL + FILM_WHOLE

# Orders.
STAND, MOVE, ATTACK, HEAL, MARCH = 0, 1, 2, 3, 4

# Integers of a battle.
EPISODE, STEP, LOOP, OVER, QUEUED = 0, 1, 2, 3, 4
N_BATTLE = 5

# Columns of the queue of hits under way.
DUE, SOURCE, VICTIM = 0, 1, 2

Array = NDArray[Any]
Real = NDArray[np.float64]
Whole = NDArray[np.int32]


class State(NamedTuple):
    """Everything that a battle's future depends on."""

    units: Real  # (B, N_REAL, M)
    flags: Whole  # (B, N_WHOLE, M)
    battle: NDArray[np.int64]  # (B, N_BATTLE)
    queue: Whole  # (B, Q, 3)
    last_action: NDArray[np.int64]  # (B, N), -1 before the first step
    chosen: NDArray[np.int64]  # (B, N), targets of SMAC's built-in heuristic
    returned: Real  # (B,), reward of the episode so far
    facing: NDArray[np.int64]  # (B, N), direction in which an agent with a cone of sight looks
    spotted: NDArray[np.uint8]  # (B, E, N), 1 who may see whom; empty unless that is drawn
    spotter: NDArray[np.int64]  # (B, E), who saw the enemy first, or -1


class Outputs(NamedTuple):
    """What a step writes, in place. Shapes in axis letters: B battles, N agents, A actions."""

    obs: NDArray[np.float32]  # (B, N, O)
    state: NDArray[np.float32]  # (B, S)
    avail_actions: NDArray[np.uint8]  # (B, N, A)
    reward: NDArray[np.float32]  # (B,)
    terminated: NDArray[np.bool_]  # (B,)
    truncated: NDArray[np.bool_]  # (B,)
    alive: NDArray[np.bool_]  # (B, N)
    visibility: NDArray[np.bool_]  # (B, N, N)
    actions_taken: NDArray[np.int64]  # (B, N)
    battle_won: NDArray[np.bool_]  # (B,)
    dead_allies: NDArray[np.int32]  # (B,)
    dead_enemies: NDArray[np.int32]  # (B,)
    timed_out: NDArray[np.bool_]  # (B,)
    episode_return: NDArray[np.float32]  # (B,)
    episode_length: NDArray[np.int32]  # (B,)
    final_obs: NDArray[np.float32]  # (B, N, O), or empty without autoreset
    final_state: NDArray[np.float32]
    final_avail_actions: NDArray[np.uint8]
    film: NDArray[
        np.float32
    ]  # (filmed battles, step_mul, N_FILM, M) loops of this step; may be empty


# Working memory of one thread; it holds nothing from env step to env step. Lists hold unit numbers as
# unsigned integers: numba asks of every signed index whether it counts from the end.

# A record per unit.
WORK = np.dtype(
    [
        ("living", np.uint32),  # living unit numbers, allies first: a list over the records
        ("turn", np.uint32),  # the same units in the order in which they act in this loop
        ("enemy", np.int32),  # copies of the unit's constants, near at hand
        ("plane", np.int32),
        ("rim", np.float64),  # separation radius
        ("intent", np.int32),  # ANCHOR, IDLE or MOVER
        ("pace", np.float64),  # top speed this loop
        ("goal_x", np.float64),  # where a mover walks
        ("goal_y", np.float64),
        ("heading_x", np.float64),  # unit vector toward it
        ("heading_y", np.float64),
        ("stride", np.float64),  # length of the step it means to take
        ("turned", np.int32),  # 1 if that leads around someone
        ("place_x", np.float64),  # tentative position
        ("place_y", np.float64),
        ("total", np.float64),  # health and shield before the env step, -1 if dead by then
        ("healed", np.int32),  # 1 once healed in this loop
        ("burst", np.int32),  # 1 once it has exploded in this loop
    ],
    align=True,
)
Work = NDArray[Any]  # (M,) of WORK

# What collisions need of a unit, side by side with its neighbours'.
BODY = np.dtype(
    [
        ("unit", np.uint32),
        ("enemy", np.int32),
        ("plane", np.int32),
        ("intent", np.int32),
        ("rim", np.float64),
        ("x", np.float64),
        ("y", np.float64),
    ],
    align=True,
)
# (2, M) of BODY. First row: the living from west to east, at their tentative positions. Second row: who
# is in the way of the unit being moved, relative to it.
Bodies = NDArray[Any]

# A pair of units that may overlap.
PAIR = np.dtype(
    [
        ("a", np.uint32),  # places in the first row of bodies
        ("b", np.uint32),
        ("far", np.float64),  # distance at which they touch
        ("back", np.float64),  # share of a correction that a takes; b takes the rest
    ],
    align=True,
)
Pairs = NDArray[Any]  # (2, pairs) of PAIR: both give way to each other; someone is firm


def make_work(n_units: int) -> tuple[Work, Bodies, Pairs]:
    """Working memory for battles of so many units."""
    n_pairs = n_units * (n_units - 1) // 2 + 1
    return np.zeros(n_units, WORK), np.zeros((2, n_units), BODY), np.zeros((2, n_pairs), PAIR)


def as_dict(arrays: Any) -> dict[str, NDArray[Any]]:
    """Copies of a named tuple's arrays by name."""
    return {name: np.array(value) for name, value in zip(arrays._fields, arrays, strict=True)}
