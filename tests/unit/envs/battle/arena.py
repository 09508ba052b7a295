"""Small battles made to measure, and scripted players."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from phalanx.envs.battle import BattleMap, VecBattle

Table = np.ndarray
EAST, WEST = 4, 5


def arena(
    agents: str | tuple[str, ...],
    enemies: str | tuple[str, ...],
    ally_at: list[tuple[float, float]],
    enemy_at: list[tuple[float, float]],
    **options: object,
) -> VecBattle:
    """One battle on open ground, one game loop per step, no random delay, enemies without orders."""
    agents = (agents,) if isinstance(agents, str) else agents
    enemies = (enemies,) if isinstance(enemies, str) else enemies
    battle_map = BattleMap(
        name="arena",
        agents=agents,
        enemies=enemies,
        ally_start=tuple(ally_at),
        enemy_start=tuple(enemy_at),
        limit=100_000,
        terrain="open_32x32",
        enemy_goal=None,
        medics="Medivac" in agents,
    )
    settings = {"step_mul": 1, "random_delay": False, "autoreset": False, "strict": False}
    return VecBattle(battle_map, 1, **(settings | options))


def toughen(battle: VecBattle, health: float = 1e6) -> None:
    """Let the agents outlive the experiment."""
    ally, enemy = battle.units(0)
    ally[:, 2] = health
    battle.place(0, ally, enemy)


def loops_until(
    battle: VecBattle, actions: list[int], done: Callable[[Table, Table], bool], most: int = 2000
) -> int:
    """Loops from the first one (counted 0) to the one after which ``done(ally, enemy)`` holds."""
    for loop in range(most):
        battle.step([actions])
        if done(*battle.units(0)):
            return loop
    raise AssertionError(f"not done within {most} loops")


def enemies_dead(ally: Table, enemy: Table) -> bool:
    return bool((enemy[:, 2] == 0).all())


def run_out(battle: VecBattle, policy: Callable[[VecBattle], Table]) -> VecBattle:
    """Play all battles to their end (without autoreset)."""
    while not (battle.terminated | battle.truncated).all():
        battle.step(policy(battle))
    return battle


def random_actions(battle: VecBattle, rng: np.random.Generator) -> Table:
    return (rng.random(battle.avail_actions.shape) * battle.avail_actions).argmax(-1)


def waiting(battle: VecBattle) -> Table:
    """Stop, or no-op for the dead."""
    return (battle.avail_actions[:, :, 0] == 0).astype(np.int64)
