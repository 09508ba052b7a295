"""SMAC's shaped reward and its rules for the end of a battle.

Kept with its quirks: the reward is the absolute value of a net change, so a step in which only enemy
shields come back pays too, and a return can exceed 20 (SMAC, StarCraft2Env.reward_battle).
"""

from __future__ import annotations

from .jit import inner
from .layout import HEALTH, SHIELD, Real
from .rules import Rules
from .units import Stats

ONGOING, WON, LOST, DRAWN = 0, 1, -1, 2


@inner
def battle_reward(totals: Real, units: Real, rules: Rules) -> float:
    """Unscaled battle part of the reward.

    Args:
        totals: (M,) health plus shield before the step, below 0 for units counted dead before.
        units: (N_REAL, M) the units after it.
    """
    if rules.sparse:
        return 0.0
    ally, enemy, deaths = 0.0, 0.0, 0.0
    for i in range(rules.n_allies):
        if totals[i] < 0.0:
            continue
        if units[HEALTH, i] <= 0.0:
            if not rules.only_positive:
                deaths -= rules.death_value * rules.negative_scale
            ally += totals[i] * rules.negative_scale
        else:
            ally += rules.negative_scale * (totals[i] - units[HEALTH, i] - units[SHIELD, i])
    for j in range(rules.n_allies, rules.n_allies + rules.n_enemies):
        if totals[j] < 0.0:
            continue
        if units[HEALTH, j] <= 0.0:
            deaths += rules.death_value
            enemy += totals[j]
        else:
            enemy += totals[j] - units[HEALTH, j] - units[SHIELD, j]
    if rules.only_positive:
        return abs(enemy + deaths)
    return enemy + deaths - ally


@inner
def battle_end(units: Real, stats: Stats, rules: Rules) -> int:
    """How the battle stands: WON, LOST, DRAWN (both sides empty) or ONGOING.

    On maps with medivacs a side whose only living unit is a medivac has lost.
    """
    allies, fighters, enemies, medics = 0, 0, 0, 0
    for i in range(rules.n_allies):
        if units[HEALTH, i] > 0.0:
            allies += 1
            if stats.heal_rate[i] == 0.0:
                fighters += 1
    for j in range(rules.n_allies, rules.n_allies + rules.n_enemies):
        if units[HEALTH, j] > 0.0:
            enemies += 1
            if stats.heal_rate[j] > 0.0:
                medics += 1
    if (allies == 0 and enemies > 0) or (rules.medics and fighters == 0):
        return LOST
    if (allies > 0 and enemies == 0) or (rules.medics and enemies == 1 and medics == 1):
        return WON
    if allies == 0 and enemies == 0:
        return DRAWN
    return ONGOING


@inner
def end_bonus(reward: float, end: int, rules: Rules) -> float:
    """Reward of a step including what its end pays, scaled as SMAC does."""
    if end == WON:
        reward = 1.0 if rules.sparse else reward + rules.win
    elif end == LOST:
        reward = -1.0 if rules.sparse else reward + rules.defeat
    return reward / rules.divisor
