"""SMAC's shaped reward and its rules for the end of a battle.

Kept with its quirks: the reward is the absolute value of a net change, so a step in which only enemy
shields come back pays too, and a return can exceed 20 (SMAC, StarCraft2Env.reward_battle).
"""

from __future__ import annotations

from .jit import inner
from .layout import HEALTH, SHIELD, TOTAL, Real, Work
from .rules import Rules
from .units import Slots

ONGOING, WON, LOST, DRAWN = 0, 1, -1, 2


@inner
def battle_reward(work: Work, units: Real, rules: Rules) -> float:
    """Unscaled battle part of the reward.

    SMACv2 pays nothing for a net loss, where SMAC takes the absolute value.

    Args:
        work: its row TOTAL is health plus shield before the step, -1 for units dead by then.
        units: (N_REAL, M) the units after it.
    """
    if rules.sparse:
        return 0.0
    ally, enemy, deaths = 0.0, 0.0, 0.0
    for i in range(rules.n_allies):
        if work.real[TOTAL, i] < 0.0:
            continue
        if units[HEALTH, i] <= 0.0:
            if not rules.only_positive:
                deaths -= rules.death_value * rules.negative_scale
            ally += work.real[TOTAL, i] * rules.negative_scale
        else:
            ally += rules.negative_scale * (
                work.real[TOTAL, i] - units[HEALTH, i] - units[SHIELD, i]
            )
    for j in range(rules.n_allies, rules.n_allies + rules.n_enemies):
        if work.real[TOTAL, j] < 0.0:
            continue
        if units[HEALTH, j] <= 0.0:
            deaths += rules.death_value
            enemy += work.real[TOTAL, j]
        else:
            enemy += work.real[TOTAL, j] - units[HEALTH, j] - units[SHIELD, j]
    if rules.only_positive:
        return max(enemy + deaths, 0.0) if rules.generated else abs(enemy + deaths)
    return enemy + deaths - ally


@inner
def battle_end(units: Real, stats: Slots, rules: Rules) -> int:
    """How the battle stands: WON, LOST, DRAWN (both sides empty) or ONGOING.

    On maps with medivacs a side whose only living unit is a medivac has lost; by SMACv2's rules also
    enemies of whom several medivacs are left.
    """
    allies, fighters, enemies, medics = 0, 0, 0, 0
    for i in range(rules.n_allies):
        if units[HEALTH, i] > 0.0:
            allies += 1
            if stats[i].heal_rate == 0.0:
                fighters += 1
    for j in range(rules.n_allies, rules.n_allies + rules.n_enemies):
        if units[HEALTH, j] > 0.0:
            enemies += 1
            if stats[j].heal_rate > 0.0:
                medics += 1
    if (allies == 0 and enemies > 0) or (rules.medics and fighters == 0):
        return LOST
    helpless = rules.medics and enemies == medics and (enemies == 1 or rules.generated)
    if allies > 0 and (enemies == 0 or helpless):
        return WON
    if allies == 0 and enemies == 0:
        return DRAWN
    return ONGOING


@inner
def divisor_of(stats: Slots, rules: Rules) -> float:
    """What rewards are divided by: a battle won without regeneration returns ``scale_rate``.

    SMACv2 keeps the number of a game's first episode, whose enemies later ones need not resemble;
    here each episode has its own.
    """
    if not rules.generated or rules.scale_rate == 0.0:
        return float(rules.divisor)
    best = rules.n_enemies * rules.death_value + rules.win
    for j in range(rules.n_allies, rules.n_allies + rules.n_enemies):
        best += stats[j].health + stats[j].shield
    return float(best / rules.scale_rate)


@inner
def end_bonus(reward: float, end: int, stats: Slots, rules: Rules) -> float:
    """Reward of a step including what its end pays, scaled as SMAC does."""
    if end == WON:
        reward = 1.0 if rules.sparse else reward + rules.win
    elif end == LOST:
        reward = -1.0 if rules.sparse else reward + rules.defeat
    return reward / divisor_of(stats, rules)
