"""Small battles made to measure, and scripted players."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from phalanx.envs.battle import BattleMap, VecBattle

Table = np.ndarray
EAST = 4


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


def shooting(battle: VecBattle, focus: bool) -> Table:
    """Attack the nearest enemy at hand, or with ``focus`` the weakest; walk up to fights nearby."""
    actions = waiting(battle)
    for b in range(battle.num_envs):
        ally, enemy = battle.units(b)
        living = np.flatnonzero(enemy[:, 2] > 0)
        for i in np.flatnonzero(battle.alive[b]):
            apart = np.hypot(enemy[:, 0] - ally[i, 0], enemy[:, 1] - ally[i, 1])
            at_hand = np.flatnonzero(battle.avail_actions[b, i, 6:])
            in_range = at_hand[apart[at_hand] <= 5.75]
            if focus and len(in_range):
                actions[b, i] = 6 + in_range[enemy[in_range, 2].argmin()]
            elif len(at_hand):
                actions[b, i] = 6 + at_hand[apart[at_hand].argmin()]
            elif len(living) and apart[living].min() < 9 and battle.avail_actions[b, i, EAST]:
                actions[b, i] = EAST
    return actions


def kiting(battle: VecBattle, keep_away: float = 5.0) -> Table:
    """Shoot when ready, else run from whoever comes near, away from the border."""
    steps = {2: (0, 1.48), 3: (0, -1.48), 4: (1.48, 0), 5: (-1.48, 0)}
    actions = waiting(battle)
    for b in range(battle.num_envs):
        ally, enemy = battle.units(b)
        living = np.flatnonzero(enemy[:, 2] > 0)
        for i in np.flatnonzero(battle.alive[b]):
            x, y, cooldown = ally[i, 0], ally[i, 1], ally[i, 5]
            apart = np.hypot(enemy[:, 0] - x, enemy[:, 1] - y)
            at_hand = np.flatnonzero(battle.avail_actions[b, i, 6:])
            if len(at_hand) and (cooldown <= 1 or apart[living].min() >= keep_away):
                weakest = (enemy[at_hand, 2] + enemy[at_hand, 3]).argmin()
                actions[b, i] = 6 + at_hand[weakest]
            elif len(living) and apart[living].min() < keep_away:
                scores = {}
                for action, (dx, dy) in steps.items():
                    if battle.avail_actions[b, i, action]:
                        there = np.hypot(enemy[living, 0] - x - dx, enemy[living, 1] - y - dy)
                        border = min(x + dx, 32 - x - dx, y + dy, 32 - y - dy)
                        scores[action] = there.min() + 0.1 * there.mean() - max(4 - border, 0) / 2
                actions[b, i] = max(scores, key=scores.get) if scores else 1
            elif len(living) and battle.episode_steps[b] >= 8:
                nearest = living[apart[living].argmin()]
                dx, dy = enemy[nearest, 0] - x, enemy[nearest, 1] - y
                ahead = (4 if dx > 0 else 5) if abs(dx) > abs(dy) else (2 if dy > 0 else 3)
                actions[b, i] = ahead if battle.avail_actions[b, i, ahead] else 1
    return actions
