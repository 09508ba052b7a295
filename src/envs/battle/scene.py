"""All battles of a batch as scripted players see them, and what they know of the ground.

More than an agent sees: every unit's place, health and cooldown.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .terrain import PATHABLE, SIZE, load_terrain
from .vec import VecBattle

Real = NDArray[np.float64]
Mask = NDArray[np.bool_]

FIRST_MOVE = 2
FAR = 1e9
SHORTER = 2.0  # whoever reaches less far than oneself by this is worth running from
UNREACHABLE = 4 * SIZE * SIZE


class Scene(NamedTuple):
    """All battles as the bots see them: B battles, N agents, E enemies."""

    at: Real  # (B, N, 2)
    enemy_at: Real  # (B, E, 2)
    life: Real  # (B, E) health and shield; 0 dead
    apart: Real  # (B, N, E) between centres; FAR where the enemy is dead
    hittable: (
        Mask  # (B, N, E) enemies that the agent's weapon can hit; healers only once they are alone
    )
    targets: Mask  # (B, N, E) the same, as far as an attack is available
    in_reach: Mask  # (B, N, E) the same, as far as the weapon reaches without walking
    alive: Mask  # (B, N)
    medic: Mask  # (B, N)
    ready: Mask  # (B, N) the next shot may start at once
    fires: Mask  # (B, N) the next shot may start within this step
    shield: Real  # (B, N)
    own_life: Real  # (B, N) health and shield
    share: Real  # (B, N) health over full health
    pace: Real  # (B, N) map units per step
    enemy_pace: Real  # (B, E)
    margin: Real  # (B, N, E) to the reach of enemies who reach less far; FAR from the others
    moves: Mask  # (B, N, 4) steps that are available
    patients: Mask  # (B, N, N) whom a medic may heal and who is hurt
    steps: NDArray[np.int64]  # (B,)
    ground: str
    first_attack: int  # action that attacks enemy 0


def observe_all(battle: VecBattle) -> Scene:
    """The scene of all battles."""
    ally, enemy = battle.units()
    slots, n_agents = battle.slots, battle.spec.n_agents
    own, foes = slots[:, :n_agents], slots[:, n_agents:]
    living = enemy[:, :, 2] > 0
    life = np.where(living, enemy[:, :, 2] + enemy[:, :, 3], 0.0)
    at, enemy_at = ally[:, :, :2], enemy[:, :, :2]
    apart = np.linalg.norm(enemy_at[:, None] - at[:, :, None], axis=-1)
    apart = np.where(living[:, None], apart, FAR)
    layers = own["targets"][:, :, None] & foes["layers"][:, None]
    medic = own["heal_rate"] > 0
    healers = living & (foes["heal_rate"] > 0)
    worth = living & ~(healers & (living & ~healers).any(-1, keepdims=True))
    hittable = worth[:, None] & (layers != 0) & ~medic[:, :, None]
    offered = battle.avail_actions[:, :, battle.first_attack :] == 1
    targets = hittable & offered[:, :, : enemy.shape[1]]
    rims = own["radius"][:, :, None] + foes["radius"][:, None]
    in_reach = targets & (apart <= own["reach"][:, :, None] + rims)
    shorter = foes["reach"][:, None] + SHORTER <= own["reach"][:, :, None]
    shorter &= living[:, None]
    hurt = (ally[:, :, 2] > 0) & (ally[:, :, 2] < own["health"])
    patients = np.zeros((*ally.shape[:2], n_agents), np.bool_)
    shared = min(n_agents, offered.shape[2])
    patients[:, :, :shared] = offered[:, :, :shared] & medic[:, :, None] & hurt[:, None, :shared]
    return Scene(
        at=at,
        enemy_at=enemy_at,
        life=life,
        apart=apart,
        hittable=hittable,
        targets=targets,
        in_reach=in_reach,
        alive=battle.alive,
        medic=medic,
        ready=ally[:, :, 5] <= 1.0,
        fires=ally[:, :, 5] < battle.loops_per_step,
        shield=ally[:, :, 3],
        own_life=ally[:, :, 2] + ally[:, :, 3],
        share=ally[:, :, 2] / own["health"],
        pace=own["speed"] * battle.loops_per_step,
        enemy_pace=foes["speed"] * battle.loops_per_step,
        margin=np.where(shorter, apart - foes["reach"][:, None] - rims, FAR),
        moves=battle.avail_actions[:, :, FIRST_MOVE : FIRST_MOVE + 4] == 1,
        patients=patients,
        steps=battle.episode_steps,
        ground=battle.map.terrain,
        first_attack=battle.first_attack,
    )


@cache
def path_lengths(ground: str) -> NDArray[np.int16]:
    """Steps between any two cells of a terrain, in four directions: (1024, 1024) by x * 32 + y.

    Cells on which nobody can walk count as one step away from the walkable ones beside them, since
    bodies may stand half on them.
    """
    walkable = load_terrain(ground)[PATHABLE] > 0
    cells = SIZE * SIZE
    lengths = np.full((cells, SIZE, SIZE), UNREACHABLE, np.int16)
    front = np.zeros((cells, SIZE, SIZE), np.bool_)
    everywhere = np.arange(cells)
    front[everywhere, everywhere // SIZE, everywhere % SIZE] = True
    lengths[front] = 0
    for length in range(1, cells):
        onward = np.zeros_like(front)
        onward[:, 1:] |= front[:, :-1]
        onward[:, :-1] |= front[:, 1:]
        onward[:, :, 1:] |= front[:, :, :-1]
        onward[:, :, :-1] |= front[:, :, 1:]
        reached = onward & walkable & (lengths == UNREACHABLE)
        if not reached.any():
            break
        lengths[reached] = length
        front = reached
    return lengths.reshape(cells, cells)


@cache
def clearance(ground: str) -> Real:
    """Distance from each cell's centre to the nearest cell nobody can walk on, (32, 32)."""
    walkable = np.pad(load_terrain(ground)[PATHABLE] > 0, 1)
    blocked = np.argwhere(~walkable) - 1
    centres = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="ij"), axis=-1)
    gaps = np.linalg.norm(centres[:, :, None] - blocked, axis=-1)
    return np.asarray(gaps.min(axis=-1) - 0.5)


def cells_of(points: Real) -> NDArray[np.int64]:
    """Numbers x * 32 + y of the cells around points (..., 2); points off the map count as inside."""
    whole = np.clip(np.floor(points), 0, SIZE - 1).astype(np.int64)
    return np.asarray(whole[..., 0] * SIZE + whole[..., 1])
