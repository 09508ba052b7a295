"""What scripted players put together: whom to attack, where to walk, how to run away.

Every function gives one action per agent of all battles, (B, N), or -1 for those it has nothing to say to.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .combat import LINE_REACH, LINE_SAMPLES, LINE_STEP
from .scene import FAR, FIRST_MOVE, Mask, Real, Scene, cells_of, clearance, path_lengths
from .terrain import SIZE
from .units import LINE
from .vec import VecBattle

Actions = NDArray[np.int64]

MOVES = np.array([[0, 1], [0, -1], [1, 0], [-1, 0]], dtype=np.float64)  # actions 2 to 5
ENGAGE = 9.0  # an enemy this near is walked up to, where none can be attacked yet
PATIENCE = 15  # steps to wait for enemies that do not come; then go to them
TOUCH = 0.7  # a pursuer comes no nearer than this


def pick(scores: Real, allowed: Mask, first: int) -> Actions:
    """Action of the lowest score among the allowed ones, or -1."""
    best = np.where(allowed, scores, np.inf).argmin(-1)
    return np.where(allowed.any(-1), first + best, -1)


def go_to(scene: Scene, goal: Real) -> Actions:
    """(B, N) steps along the ground toward goals (B, N, 2); -1 where no step is available."""
    ahead = scene.at[:, :, None] + MOVES
    lengths = path_lengths(scene.ground)[cells_of(ahead), cells_of(goal)[:, :, None]]
    straight = np.linalg.norm(goal[:, :, None] - ahead, axis=-1)
    return pick(lengths + 0.01 * straight, scene.moves, FIRST_MOVE)


# Where a runner may go: one direction for some steps, then another, never straight back.
_PLANS = np.array(
    [
        (first, then, turn)
        for first in range(4)
        for then in range(4)
        for turn in (1, 3, 6)
        if (first != then or turn == 1) and first ^ then != 1
    ]
)
_HORIZON = 12
_PURSUERS = 6


def flee(scene: Scene, who: Mask) -> Actions:
    """(B, N) steps away from pursuers for the agents of ``who`` (B, N); -1 for the others.

    Each plan is played out for some steps with the nearest enemies running after the agent; the first
    step of the plan that keeps them farthest is taken. This is what finds the way out of corners.
    """
    actions = np.full(who.shape, -1)
    b, i = np.nonzero(who)
    if len(b) == 0:
        return actions
    order = np.argsort(scene.apart[b, i], axis=-1)[:, :_PURSUERS]
    foes = np.take_along_axis(scene.enemy_at[b], order[:, :, None], axis=1)
    dead = np.take_along_axis(scene.life[b], order, axis=1) <= 0
    speed = np.take_along_axis(scene.enemy_pace[b], order, axis=1)[:, None]
    at = np.repeat(scene.at[b, i][:, None], len(_PLANS), axis=1)
    foes = np.repeat(foes[:, None], len(_PLANS), axis=1)
    pace = scene.pace[b, i][:, None, None]
    free = clearance(scene.ground)
    closest, mean = np.full(at.shape[:2], FAR), np.zeros(at.shape[:2])
    for t in range(_HORIZON):
        ahead = at + MOVES[np.where(t < _PLANS[:, 2], _PLANS[:, 0], _PLANS[:, 1])] * pace
        cells = cells_of(ahead)
        walkable = (free[cells // SIZE, cells % SIZE] > 0) & (ahead >= 0).all(-1)
        walkable &= (ahead < SIZE).all(-1)
        at = np.where(walkable[:, :, None], ahead, at)
        gaps = at[:, :, None] - foes
        length = np.maximum(np.linalg.norm(gaps, axis=-1), 1e-6)
        foes = foes + gaps * (np.clip(length - TOUCH, 0.0, speed) / length)[..., None]
        length = np.linalg.norm(at[:, :, None] - foes, axis=-1)
        near = np.where(dead[:, None], FAR, length).min(-1)
        closest = np.minimum(closest, near)
        mean += np.minimum(near, 6.0) / _HORIZON
    worth = closest + 0.5 * mean
    scores = np.stack([-worth[:, _PLANS[:, 0] == d].max(-1) for d in range(4)], axis=-1)
    actions[b, i] = pick(scores, scene.moves[b, i], FIRST_MOVE)
    return actions


def rest(scene: Scene) -> Actions:
    """Stop, or no-op for the dead."""
    return scene.alive.astype(np.int64)


def first_of(scene: Scene, *choices: Actions) -> Actions:
    """Per agent the first choice that is none of -1, else stop; medics tend, the dead rest."""
    actions = rest(scene)
    for choice in reversed(choices):
        actions = np.where(choice >= 0, choice, actions)
    if scene.medic.any():
        actions = np.where(scene.medic, tend(scene), actions)
    return np.where(scene.alive, actions, 0)


def tend(scene: Scene) -> Actions:
    """Medics heal whoever is worst off, else stay with the nearest other."""
    others = scene.alive & ~scene.medic
    gaps = np.linalg.norm(scene.at[:, None] - scene.at[:, :, None], axis=-1)
    gaps = np.where(others[:, None], gaps, FAR)
    friend = np.take_along_axis(scene.at, gaps.argmin(-1)[:, :, None], axis=1)
    heal = pick(
        np.broadcast_to(scene.share[:, None], gaps.shape), scene.patients, scene.first_attack
    )
    follow = np.where((gaps.min(-1) > 3) & (gaps.min(-1) < FAR), go_to(scene, friend), 1)
    return np.where(heal >= 0, heal, np.where(follow >= 0, follow, 1))


def at_nearest(scene: Scene) -> Actions:
    """Attack the nearest enemy on offer."""
    return pick(scene.apart, scene.targets, scene.first_attack)


def at_weakest(scene: Scene) -> Actions:
    """Attack whoever has the least life among those in weapon range."""
    life = np.broadcast_to(scene.life[:, None], scene.apart.shape)
    return pick(life + 1e-3 * scene.apart, scene.in_reach, scene.first_attack)


def at_crowd(battle: VecBattle, scene: Scene) -> Actions:
    """Attack whoever has most enemies beside it in the way of the beams; -1 for those without beams."""
    slots, n_agents = battle.slots, battle.spec.n_agents
    beams = slots["delivery"][:, :n_agents, None] == LINE
    half = LINE_SAMPLES // 2 * LINE_STEP
    width = LINE_REACH + slots["radius"][:, None, None, n_agents:]
    fire = scene.enemy_at[:, None] - scene.at[:, :, None]
    fire /= np.maximum(np.linalg.norm(fire, axis=-1, keepdims=True), 1e-6)
    gaps = scene.enemy_at[:, None, None] - scene.enemy_at[:, None, :, None]  # from target to victim
    along = np.abs(gaps[..., 0] * fire[..., None, 1] - gaps[..., 1] * fire[..., None, 0])
    beyond = np.abs(gaps[..., 0] * fire[..., None, 0] + gaps[..., 1] * fire[..., None, 1])
    hit = np.hypot(np.maximum(along - half, 0.0), beyond) <= width
    count = (hit & (scene.life > 0)[:, None, None]).sum(-1)
    return pick(0.01 * scene.apart - count, scene.in_reach & beams, scene.first_attack)


def advance(scene: Scene) -> Actions:
    """Walk to the nearest enemy once one is close to anyone, or has been waited for long enough."""
    gaps = np.where(scene.hittable, scene.apart, FAR)
    goal = np.take_along_axis(scene.enemy_at, gaps.argmin(-1)[:, :, None], axis=1)
    near = gaps.min(-1)
    met = np.where(scene.alive, near, FAR).min(-1) < ENGAGE
    going = (met | (scene.steps >= PATIENCE))[:, None] & (near < FAR)
    return np.where(going, go_to(scene, goal), -1)
