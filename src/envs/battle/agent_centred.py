"""MAPPO's layout of observations and state, in which several published datasets were recorded.

Source: the observations and the agent's own state of the environment in MAPPO's code (Yu et al., 2022),
with the options that its runs have. Each agent sees, in this order, allies, enemies, where it can walk,
itself, and which one it is; the state is that of one agent, who sees everything: here the first one, as
converted datasets have it.

Axes: B battles, N agents, E enemies, M = N + E units, A actions, U bits of a unit's type.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .layout import COOLDOWN, ENERGY, HEALTH, SHIELD, X, Y
from .maps import BattleMap
from .rules import MAP_SIZE
from .vec import VecBattle

MOVES = 4
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Widths:
    """Numbers of each block; those of allies and enemies are of one of them."""

    ally: int
    enemy: int
    own: int
    n_agents: int
    n_enemies: int

    @classmethod
    def of_obs(cls, battle_map: BattleMap, n_actions: int) -> Widths:
        """Of an observation."""
        return cls._of(battle_map, n_actions, 5, 5, 5)

    @classmethod
    def of_state(cls, battle_map: BattleMap, n_actions: int) -> Widths:
        """Of the state: allies' cooldown, whether enemies are in sight, and where all are on the map."""
        return cls._of(battle_map, n_actions, 8, 8, 7)

    @classmethod
    def _of(cls, battle_map: BattleMap, n_actions: int, ally: int, enemy: int, own: int) -> Widths:
        team = battle_map.unit_type_bits + battle_map.ally_shields + n_actions
        others = battle_map.unit_type_bits + battle_map.enemy_shields
        n_agents, n_enemies = len(battle_map.agents), len(battle_map.enemies)
        return cls(ally + team, enemy + others, own + team, n_agents, n_enemies)

    @property
    def total(self) -> int:
        """All blocks, with the agent's number."""
        N, E = self.n_agents, self.n_enemies
        return (N - 1) * self.ally + E * self.enemy + MOVES + self.own + N


class AgentCentred:
    """What the agents of battles see in this layout, told from the battles as they are.

    Args:
        battle: of one of SMAC's maps.
    """

    def __init__(self, battle: VecBattle) -> None:
        self._battle, spec = battle, battle.spec
        self._map, N = battle.map, spec.n_agents
        slots = battle.slots[0]
        self._sight, self._health = slots["sight"][:N], slots["health"]
        self._shown_shield = np.where(slots["shown_shield"] > 0, slots["shown_shield"], 1.0)
        self._max_cooldown = slots["max_cooldown"][:N]
        self._heals = (slots["heal_rate"][:N] > 0) & self._map.medics
        self._types = np.eye(max(self._map.unit_type_bits, 1))[slots["type_bit"]]
        self._types = self._types[:, : self._map.unit_type_bits]
        self.obs_dim = Widths.of_obs(self._map, spec.n_actions).total
        self.state_dim = Widths.of_state(self._map, spec.n_actions).total

    def look(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Observations (B, N, O) and state (B, G)."""
        N = self._battle.spec.n_agents
        obs = [self._seen_by(i, everything=False) for i in range(N)]
        state = self._seen_by(0, everything=True)
        return np.stack(obs, axis=1).astype(np.float32), state.astype(np.float32)

    def _seen_by(self, i: int, *, everything: bool) -> Numbers:
        """(B, O), or (B, G) where the agent sees everything; the dead see but which one they are."""
        battle, N = self._battle, self._battle.spec.n_agents
        units = battle.battle_state.units[:, :, : len(self._health)]
        alive = units[:, HEALTH] > 0  # (B, M)
        dx, dy = (units[:, axis] - units[:, axis, i : i + 1] for axis in (X, Y))
        distance, sight = np.hypot(dx, dy), self._sight[i]
        near = alive & (distance < sight)
        shown = alive if everything else near
        where = np.stack([distance, dx, dy], axis=-1) / sight  # (B, M, 3)
        actions = self._last_actions()  # (B, N, A)
        health, place = self._condition(units), self._place(units)
        others = [j for j in range(N) if j != i]
        allies = [near[:, others, None], where[:, others]]
        if everything:
            allies.append(self._cooldown(units)[:, others])
        allies.append(health[0][:, others])
        if everything:
            allies.append(place[:, others])
        allies += [self._kinds(len(units), others), actions[:, others]]
        first = battle.first_attack
        aim = battle.avail_actions[:, i, first : first + len(self._health) - N, None]
        enemies = [aim, where[:, N:]]
        if everything:
            enemies.append(near[:, N:, None])
        enemies += [health[1], self._kinds(len(units), list(range(N, len(self._health))))]
        if everything:
            enemies.append(place[:, N:])
        itself = np.broadcast_to([1.0, 0.0, 0.0, 0.0], (len(units), 4))
        own = [itself, health[0][:, i]]
        if everything:
            own.append(place[:, i])
        own += [self._kinds(len(units), [i])[:, 0], actions[:, i]]
        blocks = [
            _flat(allies) * np.repeat(shown[:, others], _width(allies), axis=1),
            _flat(enemies) * np.repeat(shown[:, N:], _width(enemies), axis=1),
            battle.avail_actions[:, i, 2 : 2 + MOVES],
            np.concatenate(own, axis=-1),
        ]
        seen = np.concatenate(blocks, axis=-1) * alive[:, i : i + 1]
        which = np.broadcast_to(np.eye(N)[i], (len(units), N))
        return np.concatenate([seen, which], axis=-1)

    def _condition(self, units: Numbers) -> tuple[Numbers, Numbers]:
        """Shares of health, and of shield where there are any: (B, N, ...) and (B, E, ...)."""
        N = self._battle.spec.n_agents
        health, shield = units[:, HEALTH] / self._health, units[:, SHIELD] / self._shown_shield
        both = np.stack([health, shield], axis=-1)
        return (
            both[:, :N, : 1 + self._map.ally_shields],
            both[:, N:, : 1 + self._map.enemy_shields],
        )

    @staticmethod
    def _place(units: Numbers) -> Numbers:
        """(B, M, 2) from the middle of the map."""
        return np.stack([units[:, X], units[:, Y]], axis=-1) / MAP_SIZE - 0.5

    def _cooldown(self, units: Numbers) -> Numbers:
        """(B, N, 1) until the next shot; a medivac's energy."""
        N = self._battle.spec.n_agents
        waits = np.maximum(units[:, COOLDOWN, :N], 0.0)
        left = np.where(self._heals, units[:, ENERGY, :N], waits)
        return np.asarray(left / self._max_cooldown)[..., None]

    def _kinds(self, battles: int, units: list[int]) -> Numbers:
        kinds = self._types[units]
        return np.broadcast_to(kinds, (battles, *kinds.shape))

    def _last_actions(self) -> Numbers:
        """(B, N, A), all zeros before the first step."""
        last = self._battle.battle_state.last_action
        A = self._battle.spec.n_actions
        return np.eye(A + 1)[last + 1][..., 1:]


def _flat(parts: list[NDArray[np.generic]]) -> Numbers:
    """(B, J * width) of parts (B, J, ...)."""
    together = np.concatenate(parts, axis=-1)
    return together.reshape(len(together), -1)


def _width(parts: list[NDArray[np.generic]]) -> int:
    return sum(part.shape[-1] for part in parts)
