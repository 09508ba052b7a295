"""Where each quantity of a battle lies in the engine's arrays.

Arrays are structs of arrays, batch first: ``units[b, FIELD, i]``. Units are numbered allies first, in
SMAC's order, then enemies in creation order; M = N + E. Rows are PITCH long (:mod:`.pitch`); from M on they
hold units that do not exist, dead and all zero.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .pitch import PITCH

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

    units: Real  # (B, N_REAL, PITCH)
    flags: Whole  # (B, N_WHOLE, PITCH)
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

# Its real-valued rows, of units by number ...
TOTAL = 0  # health and shield before the env step, -1 if dead by then
PACE = 1  # top speed this loop
RIM, RADIUS = 2, 3  # copies of the unit's constants: for collisions, for ranges
WISH_X, WISH_Y = 4, 5  # where a mover walks
HEADING_X, HEADING_Y = 6, 7  # unit vector toward it
STRIDE = 8  # length of the step it means to take
PLACE_X, PLACE_Y = 9, 10  # tentative position
# ... of the living from west to east, at their tentative positions ...
BODY_X, BODY_Y, BODY_RIM = 11, 12, 13
# ... and of those in the way of the unit being moved, relative to it.
NEAR_X, NEAR_Y, NEAR_RIM = 14, 15, 16
N_WORK_REAL = 17

# Its rows of integers, likewise.
LIVING = 0  # a list: living unit numbers, allies first
TURN = 1  # the same units in the order in which they act in this loop
ENEMY, PLANE = 2, 3  # copies of the unit's constants
INTENT = 4  # ANCHOR, IDLE or MOVER
TURNED = 5  # 1 if its step leads around someone
HEALED = 6  # 1 once healed in this loop
EXPLODED = 7  # 1 once it has exploded in this loop
OUTCOME = 8  # of its step: NOTHING to tell, FREE again or STUCK
NEAR = 9  # 1 who is in the way of the unit being moved
BODY_UNIT, BODY_ENEMY, BODY_PLANE, BODY_INTENT = 10, 11, 12, 13
N_WORK_WHOLE = 14

# A pair of units that may overlap.
PAIR = np.dtype(
    [
        ("a", np.uint32),  # places in the rows of bodies
        ("b", np.uint32),
        ("far", np.float64),  # distance at which they touch
        ("back", np.float64),  # share of a correction that a takes; b takes the rest
    ],
    align=True,
)


class Work(NamedTuple):
    """Working memory of one thread."""

    real: Real  # (N_WORK_REAL, PITCH)
    whole: NDArray[np.uint32]  # (N_WORK_WHOLE, PITCH)
    pairs: NDArray[Any]  # (3, pairs) of PAIR


def make_work(n_units: int) -> Work:
    """Working memory for battles of so many units."""
    return Work(
        np.zeros((N_WORK_REAL, PITCH)),
        np.zeros((N_WORK_WHOLE, PITCH), np.uint32),
        np.zeros((3, n_units * (n_units - 1) // 2 + 1), PAIR),
    )


def as_dict(arrays: Any) -> dict[str, NDArray[Any]]:
    """Copies of a named tuple's arrays by name."""
    return {name: np.array(value) for name, value in zip(arrays._fields, arrays, strict=True)}
