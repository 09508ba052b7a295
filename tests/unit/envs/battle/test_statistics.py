"""Who wins how often: equal sides, idle and blind players."""

from __future__ import annotations

import numpy as np
import pytest

from phalanx.envs.battle import VecBattle, map_names
from phalanx.envs.battle.bots import play, volley

from .arena import run_out, waiting


def rotate_into_place(battle: VecBattle, rng: np.random.Generator, swap: bool) -> None:
    """Allies at slightly random starts; the enemies are their image under a half turn."""
    kinds, foes = battle.map.agents, battle.map.enemies
    for b in range(battle.num_envs):
        ally, enemy = battle.units(b)
        ally[:, :2] += rng.uniform(-0.15, 0.15, (len(ally), 2))
        for kind in set(kinds):
            own = [i for i, k in enumerate(kinds) if k == kind]
            theirs = [j for j, k in enumerate(foes) if k == kind]
            enemy[theirs[::-1] if swap else theirs, :2] = 32 - ally[own, :2]
        battle.place(b, ally, enemy)


@pytest.mark.parametrize(
    ("name", "swap"),
    [("3m", False), ("8m", False), ("8m", True), ("MMM", False), ("2s3z", False), ("3s5z", False)],
)
def test_equal_sides_win_equally_often(name: str, swap: bool) -> None:
    """Also with the enemies numbered the other way round, that is, treated in another order."""
    n_battles = 2000
    battle = VecBattle(name, n_battles, autoreset=False, scripted_allies=True)
    rotate_into_place(battle, np.random.default_rng(0), swap)
    run_out(battle, waiting)
    won = battle.info["battle_won"]
    n_agents, n_enemies = battle.spec.n_agents, len(battle.map.enemies)
    empty = (battle.info["dead_allies"] == n_agents) & (battle.info["dead_enemies"] == n_enemies)
    decided = ~empty & ~(battle.truncated & ~won)
    assert decided.sum() > 0.9 * n_battles
    assert won[decided].mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("name", map_names())
def test_waiting_wins_nothing(name: str) -> None:
    battle = run_out(VecBattle(name, 4, autoreset=False), waiting)
    assert not battle.info["battle_won"].any()
    if name == "2s_vs_1sc":  # its enemy cannot walk
        assert battle.truncated.all()
    elif not battle.map.medics:  # medivacs may outlive a lost battle
        assert battle.info["dead_allies"].tolist() == [battle.spec.n_agents] * 4


WON_BY_CHANCE = ("so_many_baneling", "bane_vs_bane")  # banelings: see battle_bots.md


@pytest.mark.parametrize("name", [name for name in map_names() if name not in WON_BY_CHANCE])
def test_random_play_wins_next_to_nothing(name: str) -> None:
    assert play(name, "random", 64).win_rate <= 0.03


def test_a_won_battle_played_back_blindly_wins_again_at_times() -> None:
    """Shots' delays are the only noise, so a fixed sequence of actions wins a share of battles."""
    first = VecBattle("3m", 64, seed=1, autoreset=False)
    plays = []
    while not (first.terminated | first.truncated).all():
        plays.append(volley(first))
        first.step(plays[-1])
    won = int(np.flatnonzero(first.info["battle_won"])[0])
    again = VecBattle("3m", 200, seed=2, autoreset=False, strict=False)
    for actions in plays:
        again.step(np.repeat(actions[won : won + 1], 200, axis=0))
    share = again.info["battle_won"].mean()
    assert 0.02 < share < 0.98
