"""Masks, rewards and ends of battles."""

from __future__ import annotations

import numpy as np
import pytest

from phalanx.envs.battle import VecBattle, battle_reward, observe

from .arena import EAST, run_out, waiting

ZEALOT, MARINE = (100.0, 50.0), (45.0, 0.0)


def mask_of(x: float, y: float, enemy_at: tuple[float, float] = (20.0, 16.0)) -> list[int]:
    """Mask of a marine on 3m; the first enemy is alive, everybody else dead."""
    ally = np.zeros((3, 6))
    ally[0] = [x, y, 45, 0, 0, 0]
    enemy = np.zeros((3, 4))
    enemy[0] = [*enemy_at, 45, 0]
    return observe("3m", ally, enemy, np.full(3, -1), 0)["avail_actions"][0].tolist()


def test_moves_are_masked_by_the_truncated_cell_ahead() -> None:
    assert mask_of(10, 16)[:6] == [0, 1, 1, 1, 1, 1]
    assert mask_of(10, 22.999)[2] == 1
    assert mask_of(10, 23.0)[2] == 0  # cell (10, 24) is void
    assert mask_of(10, 9.0)[3] == 1
    assert mask_of(10, 8.999)[3] == 0
    assert mask_of(31.0, 16)[4] == 0  # beyond the map
    assert mask_of(0.5, 16)[5] == 1  # int(-0.5) is 0, as in SMAC


def test_targets_are_masked_beyond_six() -> None:
    assert mask_of(10, 16, (16.0, 16.0))[6] == 1
    assert mask_of(10, 16, (16.0001, 16.0))[6] == 0
    assert mask_of(10, 16, (13.6, 20.8))[6] == 1  # a 3-4-5 triangle of exactly 6


def test_dead_agents_may_only_rest() -> None:
    ally, enemy = np.zeros((3, 6)), np.zeros((3, 4))
    views = observe("3m", ally, enemy, np.full(3, -1), 0)
    assert (views["avail_actions"] == np.eye(9)[0]).all()
    assert not views["obs"].any()
    assert not views["state"].any()


def test_nine_is_out_of_sight() -> None:
    ally, enemy = np.zeros((3, 6)), np.zeros((3, 4))
    ally[:, :3] = [10, 16, 45]
    ally[1, 0] = 19.0
    ally[2, 0] = 18.99
    enemy[0] = [10, 7.0, 45, 0]
    obs = observe("3m", ally, enemy, np.full(3, -1), 0)["obs"][0]
    assert not obs[4:9].any()
    assert obs[19:24].tolist() == [0] * 5
    assert obs[24] == 1


def test_medivacs_may_heal_everybody_but_medivacs() -> None:
    battle = VecBattle("MMM", 1)
    assert battle.avail_actions[0, 9, 6:].tolist() == [1] * 9 + [0]


def test_visibility_is_mutual_and_needs_life() -> None:
    battle = VecBattle("3m", 1)
    ally, enemy = battle.units(0)
    ally[0, 0], ally[1, 0], ally[2, 0] = 1.0, 9.5, 18.6
    battle.place(0, ally, enemy)
    assert battle.visibility[0].tolist() == [
        [True, True, False],
        [True, True, False],
        [False, False, True],
    ]
    ally[1, 2] = 0
    battle.place(0, ally, enemy)
    assert battle.visibility[0].tolist() == np.diag([True, False, True]).tolist()


def test_regeneration_pays_by_its_absolute_value() -> None:
    ally = np.tile([10.0, 16.0, 80.0, 80.0, 0.0, 0.0], (3, 1))
    before = np.tile([20.0, 16.0, 100.0, 40.0], (3, 1))
    after = before + np.array([0, 0, 0, 5])
    alive = (np.zeros(3), np.zeros(3))
    assert battle_reward("3s_vs_3z", (ally, before), (ally, after), alive) == 15
    negative = battle_reward(
        "3s_vs_3z", (ally, before), (ally, after), alive, reward_only_positive=False
    )
    assert negative == -15
    assert battle_reward("3s_vs_3z", (ally, before), (ally, after), alive, reward_sparse=True) == 0


def test_own_losses_count_half_when_not_only_positive() -> None:
    ally = np.tile([10.0, 16.0, 45.0, 0.0, 0.0, 0.0], (3, 1))
    enemy = np.tile([20.0, 16.0, 45.0, 0.0], (3, 1))
    hurt, dead = ally.copy(), enemy.copy()
    hurt[0, 2], hurt[1, 2] = 33, 0  # 12 lost, one killed
    dead[0, 2] = 0
    reward = battle_reward(
        "3m", (ally, enemy), (hurt, dead), (np.zeros(3), np.zeros(3)), reward_only_positive=False
    )
    assert reward == (45 + 10) - 0.5 * 10 - 0.5 * (12 + 45)


def finish(map_name: str, ally_health: list[float], enemy_health: list[float], **options: object):
    """One step of two sides out of reach of each other, with the health given."""
    battle = VecBattle(map_name, 1, autoreset=False, **options)
    ally, enemy = battle.units(0)
    ally[:, 0], enemy[:, 0] = 1.0 + np.arange(len(ally)) % 3, 31.0 - np.arange(len(enemy)) % 3
    ally[:, 1] = enemy[:, 1] = 9 + np.arange(max(len(ally), len(enemy)))[: len(ally)]
    ally[:, 2], enemy[:, 2] = ally_health, enemy_health
    battle.place(0, ally, enemy)
    battle.step(waiting(battle))
    return battle


def test_win_loss_and_draw() -> None:
    won = finish("3m", [45, 0, 0], [0, 0, 0])
    assert won.terminated[0]
    assert won.info["battle_won"][0]
    assert won.reward[0] == pytest.approx(200 / 18.25)
    lost = finish("3m", [0, 0, 0], [1, 0, 0], reward_defeat=-36.5)
    assert lost.terminated[0]
    assert not lost.info["battle_won"][0]
    assert lost.reward[0] == pytest.approx(-2)
    drawn = finish("3m", [0, 0, 0], [0, 0, 0])
    assert drawn.terminated[0]
    assert not drawn.info["battle_won"][0]
    assert drawn.reward[0] == 0
    assert not drawn.truncated[0]


def test_sparse_rewards_are_scaled_too() -> None:
    assert finish("3m", [45, 0, 0], [0] * 3, reward_sparse=True).reward[0] == pytest.approx(
        1 / 18.25
    )
    unscaled = finish("3m", [0] * 3, [45, 0, 0], reward_sparse=True, reward_scale=False)
    assert unscaled.reward[0] == -1


def test_a_lonely_medivac_has_lost() -> None:
    others, fighters = [0.0] * 9, [45.0] + [0.0] * 9
    lost = finish("MMM", [*others, 150], fighters)
    assert lost.terminated[0]
    assert not lost.info["battle_won"][0]
    won = finish("MMM", fighters, [*others, 150])
    assert won.info["battle_won"][0]
    assert won.info["dead_enemies"][0] == 9
    both = finish("MMM", [*others, 150], [*others, 150])
    assert both.terminated[0]
    assert not both.info["battle_won"][0]


def test_timeout_terminates_unless_episodes_continue() -> None:
    for continuing in (False, True):
        battle = VecBattle("3m", 1, autoreset=False, continuing_episode=continuing)
        ally, enemy = battle.units(0)
        enemy[:, 2] = 1e9
        ally[:, 2] = 1e9
        battle.place(0, ally, enemy)
        for _ in range(60):
            assert not battle.terminated[0]
            assert not battle.truncated[0]
            battle.step(waiting(battle))
        assert battle.truncated[0]
        assert battle.terminated[0] == (not continuing)
        assert battle.info["episode_limit"][0]
        assert not battle.info["battle_won"][0]


def test_a_win_without_regeneration_returns_twenty() -> None:
    battle = VecBattle("3m", 1, autoreset=False)
    ally, enemy = battle.units(0)
    ally[:, 2] = 1e6
    battle.place(0, ally, enemy)
    run_out(
        battle,
        lambda b: np.where(
            b.avail_actions[:, :, 6:].any(-1),
            6 + b.avail_actions[:, :, 6:].argmax(-1),
            np.where(b.avail_actions[:, :, EAST] == 1, EAST, 1),
        ),
    )
    assert battle.info["battle_won"][0]
    assert battle.info["episode_return"][0] == pytest.approx(20, abs=1e-4)
