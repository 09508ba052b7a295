"""Tactics that win in the game pay here."""

from __future__ import annotations

import numpy as np
import pytest

from phalanx.envs.battle import VecBattle
from phalanx.envs.battle.bots import BOTS, bots_for, play
from phalanx.envs.battle.scene import clearance, observe_all, path_lengths
from phalanx.envs.battle.tactics import advance, at_crowd
from phalanx.errors import EnvError


def kills(map_name: str, bot: str, battles: int = 96, **options: object) -> float:
    return float(play(map_name, bot, battles, **options).kills.mean())


@pytest.mark.parametrize("name", ["8m", "8m_vs_9m"])
def test_focus_fire_beats_shooting_at_the_nearest(name: str) -> None:
    assert kills(name, "focus", 64) > kills(name, "nearest", 64) + 0.5


def test_in_a_crowd_shots_without_overkill_beat_both() -> None:
    volley = kills("27m_vs_30m", "volley", 96)
    assert volley > kills("27m_vs_30m", "focus", 96) + 0.5
    assert volley > kills("27m_vs_30m", "nearest", 96) + 0.5


@pytest.mark.parametrize("name", ["3s_vs_3z", "3s_vs_4z", "3s_vs_5z"])
def test_kiting_wins_and_standing_loses(name: str) -> None:
    assert play(name, "kite", 16).win_rate > 0.8
    assert play(name, "focus", 16).win_rate == 0


@pytest.mark.parametrize("name", ["2m_vs_1z", "2s_vs_1sc"])
def test_taking_turns_wins_and_standing_loses(name: str) -> None:
    assert play(name, "alternate", 32).win_rate > 0.9
    assert play(name, "focus", 32).win_rate == 0


def test_standing_apart_beats_standing_together_against_banelings() -> None:
    assert play("so_many_baneling", "spread", 32).win_rate > 0.7
    assert play("so_many_baneling", "clump", 32).win_rate < 0.1


def test_a_wall_across_the_passage_beats_the_open_field() -> None:
    assert play("corridor", "wall", 16).win_rate > 0.9
    assert play("corridor", "nearest", 32).win_rate < 0.5


def test_high_ground_beats_low_ground_and_cliffs_are_worth_crossing() -> None:
    # Where one volley of a colossus does not kill a zergling, the difference shows most.
    edge, low = (kills("2c_vs_64zg", bot, 16, profile="lotv") for bot in ("edge", "low"))
    assert edge > low + 4
    assert play("2c_vs_64zg", "cliff", 16, profile="lotv").win_rate > 0.9
    # SMAC's heuristic walks over the cliff at what it cannot reach; zerglings have to run around.
    assert play("2c_vs_64zg", "heuristic", 16).win_rate > 0.9
    assert play("2c_vs_64zg", "flat", 16).win_rate == 0


def test_beams_go_where_they_hit_most() -> None:
    battle = VecBattle("2c_vs_64zg", 1)
    ally, enemy = battle.units(0)
    ally[:, :2] = [[10, 9], [10, 7]]
    enemy[5:, 2] = 0
    # One near; one alone; three across the line of fire, of whom the middle one draws the beams.
    enemy[:5, :2] = [[11.5, 9], [6, 9], [14, 7.9], [14, 9], [14, 10.1]]
    battle.place(0, ally, enemy)
    assert at_crowd(battle, observe_all(battle))[0, 0] == battle.first_attack + 3
    stalkers = VecBattle("3s_vs_3z", 1)
    assert (at_crowd(stalkers, observe_all(stalkers)) == -1).all()


@pytest.mark.parametrize("bot", [name for name, bot in BOTS.items() if not bot.maps])
def test_every_bot_plays_by_the_masks(bot: str) -> None:
    for name in ("MMM2", "1c3s5z"):  # healers, targets out of the weapon's layer, splash
        record = play(name, bot, 4, seed=3)
        assert (record.lengths > 0).all()
        assert record.returns.shape == (4,)


def test_the_scene_is_what_the_battle_holds() -> None:
    battle = VecBattle("3s_vs_3z", 2)
    ally, enemy = battle.units(1)
    ally[:, :2] = [[10, 16], [10, 20], [2, 2]]
    enemy[:, :2] = [[15, 16], [17.9, 16], [30, 30]]
    enemy[2, 2] = 0
    battle.place(1, ally, enemy)
    scene = observe_all(battle)
    assert scene.apart[1, 0, :2].tolist() == pytest.approx([5.0, 7.9])
    assert scene.targets[1, 0].tolist() == [True, False, False]
    assert scene.life[1].tolist() == [150, 150, 0]
    # A zealot reaches 0.1 from rim to rim; radii 0.5 and 0.625.
    assert scene.margin[1, 0, 0] == pytest.approx(5 - 0.1 - 1.125)
    assert battle.units()[0].shape == (2, 3, 6)
    np.testing.assert_array_equal(battle.units()[1][1], enemy)


def test_healers_are_targets_only_once_they_are_alone() -> None:
    battle = VecBattle("MMM", 2)
    medivac, marine = battle.map.enemies.index("Medivac"), battle.map.agents.index("Marine")
    ally, enemy = battle.units(1)
    enemy[:medivac, 2] = 0
    battle.place(1, ally, enemy)
    assert observe_all(battle).hittable[:, marine, medivac].tolist() == [False, True]


def test_all_come_once_one_has_met_the_enemy() -> None:
    battle = VecBattle("8m", 2)
    ally, enemy = battle.units(1)
    enemy[:, 0] += ally[:, 0].max() + 8.5 - enemy[:, 0].min()  # so that only the front is near
    battle.place(1, ally, enemy)
    assert (advance(observe_all(battle)) >= 2).all(axis=1).tolist() == [False, True]


def test_paths_lead_around_walls() -> None:
    def cell(x: int, y: int) -> int:
        return x * 32 + y

    assert path_lengths("open_32x32")[cell(3, 3), cell(6, 7)] == 7
    # From the high ground to the low ground of the ravine: around the wall's west end at x = 3.
    assert path_lengths("ravine_two_ramps")[cell(8, 14), cell(8, 11)] == 5 + 3 + 5
    assert clearance("open_32x32")[0, 16] == pytest.approx(0.5)
    assert clearance("strip_32x16")[16, 16] == pytest.approx(7.5)


def test_bots_say_what_they_are_made_for() -> None:
    assert "wall" in bots_for("corridor")
    assert "wall" not in bots_for("3m")
    with pytest.raises(EnvError, match="bot 'wall' is made for corridor, not for '3m'"):
        play("3m", "wall", 1)
    with pytest.raises(EnvError, match=r"unknown bot 'focsu'\. Did you mean 'focus'"):
        play("3m", "focsu", 1)
