"""How battles go: who wins by what, and that bodies are bodies."""

from __future__ import annotations

import numpy as np
import pytest

from phalanx.envs.battle import BattleMap, VecBattle
from phalanx.envs.battle.layout import TARGET

from .arena import (
    EAST,
    WEST,
    arena,
    enemies_dead,
    loops_until,
    random_actions,
    toughen,
    waiting,
)


def test_enemies_look_as_far_as_five_or_as_their_weapon() -> None:
    """From rim to rim; nobody else is near, and they have no order to go anywhere."""
    for kind, radius, scan in (
        ("Zealot", 0.5, 5.0),
        ("Stalker", 0.625, 6.0),
        ("Marine", 0.375, 5.0),
    ):
        for gap, seen in ((scan - 0.05, True), (scan + 0.05, False)):
            x = 10 + 0.625 + radius + gap
            battle = arena("Stalker", kind, [(10, 16)], [(x, 16)])
            for _ in range(30):
                battle.step([[1]])
            ally, enemy = battle.units(0)
            assert bool(enemy[0, 0] < x or ally[0, 3] < 80) == seen


def test_blades_reach_a_tenth_beyond_the_rims() -> None:
    for kind, rims in (("Zealot", 1.0), ("Zergling", 0.875)):
        for gap, hit in ((0.09, True), (0.11, False)):
            battle = arena(kind, "Zealot", [(10, 16)], [(10 + rims + gap, 16)])
            battle._stats["speed"][:] = 0.0
            for _ in range(12):
                battle.step([[6]])
            assert bool(battle.units(0)[1][0, 3] < 50) == hit


def test_shots_come_up_to_a_loop_early_and_two_late() -> None:
    """The only noise of a battle: cooldowns vary by -1 to +2 loops, evenly."""
    battle = arena("Marine", "Zealot", [(10, 16)], [(15, 16)], random_delay=True)
    battle._stats["targets"][1] = 0
    battle._stats["speed"][1] = 0.0
    ally, enemy = battle.units(0)
    enemy[0, 2] = 1e6
    battle.place(0, ally, enemy)
    loaded, shots = 0.0, []
    for loop in range(6000):
        battle.step([[6]])
        cooldown = float(battle.units(0)[0][0, 5])
        if cooldown > loaded:
            shots.append(loop)
        loaded = cooldown
    waits = np.diff(shots)
    assert waits.mean() == pytest.approx(13.7728 + 0.5, abs=0.1)
    assert waits.std() == pytest.approx(3 / np.sqrt(12), abs=0.15)
    assert set(waits) == {12, 13, 14, 15, 16}  # 12.77 to 15.77, seen by the loop


def test_first_contact_on_3m_comes_after_seven_steps() -> None:
    battle = VecBattle("3m", 1, autoreset=False)
    step = 0
    while battle.units(0)[0][:, 2].sum() == 135:
        battle.step(waiting(battle))
        step += 1
    # The front enemy starts 13.25 from the nearest ally and shoots at 5.75: 6.7 steps of walking.
    assert step == 7


def test_agents_do_nothing_unasked() -> None:
    battle = arena("Marine", "Marine", [(10, 16)], [(14, 16)])
    for _ in range(50):
        battle.step([[1]])
    ally, enemy = battle.units(0)
    assert enemy[0, 2] == 45
    assert ally[0, 2] < 45
    assert ally[0, 0] == 10


def test_agents_rest_once_their_target_is_dead() -> None:
    battle = arena("Marine", ("Marine", "Marine"), [(10, 16)], [(13, 16), (14, 17)], step_mul=8)
    ally, enemy = battle.units(0)
    ally[0, 2], enemy[0, 2] = 1e6, 6
    battle.place(0, ally, enemy)
    for _ in range(4):
        battle.step([[6]])
    assert battle.units(0)[1][:, 2].tolist() == [0, 45]
    assert battle.units(0)[0][0, 0] == 10


def test_an_order_at_six_walks_into_range() -> None:
    battle = arena("Marine", "Marine", [(10, 16)], [(16, 16)])
    battle._stats["speed"][1] = 0.0
    battle.step([[6]])
    assert battle.units(0)[0][0, 0] == pytest.approx(10.140625)
    for _ in range(4):
        battle.step([[6]])
    assert battle.units(0)[0][0, 0] == pytest.approx(10 + 2 * 0.140625)  # 5.75 is near enough


def test_a_started_shot_reaches_one_further_than_its_range() -> None:
    """A stalker shoots 2.7 loops after aiming: at who is then within 6 + 1, rim to rim."""
    for apart, hurt in ((6.9, True), (7.1, False)):
        battle = arena("Zealot", "Stalker", [(10, 16)], [(16, 16)])
        battle._stats["speed"][1] = 0.0
        battle.step([[1]])
        battle._battle_state.units[0, 0, 0] = 16 - 0.625 - 0.5 - apart
        for _ in range(12):
            battle.step([[1]])
        assert bool(battle.units(0)[0][0, 3] < 50) == hurt


def test_a_new_order_ends_the_backswing_and_the_cooldown_runs_on_the_way() -> None:
    battle = arena("Marine", "Marine", [(10, 16)], [(15, 16)], step_mul=1)
    battle._stats["targets"][1] = 0
    battle.step([[6]])
    battle.step([[6]])
    cooldown = battle.units(0)[0][0, 5]
    assert cooldown > 10
    for _ in range(8):
        battle.step([[5]])
    ally, _ = battle.units(0)
    assert ally[0, 0] == pytest.approx(10 - 8 * 0.140625)
    assert ally[0, 5] == pytest.approx(cooldown - 8)


def test_marauders_and_zealots_cannot_hit_medivacs() -> None:
    for kind in ("Marauder", "Zealot", "Marine"):
        battle = arena(kind, ("Medivac", "Marine"), [(10, 16)], [(12, 16), (30, 30)], step_mul=8)
        for _ in range(5):
            assert battle.avail_actions[0, 0, 6] == 1  # SMAC offers it all the same
            battle.step([[6]])
        assert bool(battle.units(0)[1][0, 2] < 150) == (kind == "Marine")


def test_medivacs_fly_over_everyone() -> None:
    battle = arena(("Marine", "Medivac"), "Zealot", [(5, 20), (5, 16)], [(8, 16)])
    battle._stats["speed"][2] = 0.0
    for _ in range(60):
        battle.step([[1, EAST]])
    assert battle.units(0)[0][1, 1] == 16
    assert battle.units(0)[0][1, 0] > 13


def test_enemies_take_the_nearest() -> None:
    battle = arena(("Marine",) * 3, "Marine", [(10, 16), (11, 17.5), (9.5, 15)], [(14, 17)])
    for _ in range(5):
        battle.step([[1] * 3])
    assert (battle.units(0)[0][:, 2] < 45).tolist() == [False, True, False]


def test_a_chase_ends_21_from_where_it_began() -> None:
    battle_map = BattleMap(
        name="chase",
        agents=("Stalker",),
        enemies=("Zealot",),
        ally_start=((4.0, 16.0),),
        enemy_start=((2.0, 16.0),),
        limit=1000,
        terrain="open_32x32",
        enemy_goal=(2.0, 16.0),
    )
    battle = VecBattle(battle_map, 1, autoreset=False, strict=False)
    battle._stats["speed"][0] = battle._stats["speed"][1]
    furthest = 0.0
    for _ in range(50):
        battle.step([[EAST]])
        furthest = max(furthest, battle.units(0)[1][0, 0])
    assert 2 + 21 < furthest < 2 + 21 + 0.7  # it looks around every four loops
    assert battle.units(0)[1][0, 0] < 15  # and is on its way back
    assert battle.alive[0, 0]


def test_a_new_order_cancels_a_shot_and_the_same_does_not() -> None:
    for second, hurt in ((6, True), (1, False)):
        battle = arena("Stalker", "Zealot", [(10, 16)], [(13, 16)])
        battle._stats["speed"][1] = 0.0
        for action in [6, 6, second, *[second] * 7]:
            battle.step([[action]])
        assert bool(battle.units(0)[1][0, 3] < 50) == hurt
        if not hurt:
            assert battle.units(0)[0][0, 5] == 0  # at no cost


def test_enemies_answer_who_hits_them_from_afar() -> None:
    battle = arena("Stalker", "Zealot", [(10, 16)], [(15.9, 16)])
    battle._stats["scan"][1] = 2.0
    for _ in range(10):
        battle.step([[1]])
    assert battle.units(0)[1][0, 0] == 15.9
    for _ in range(30):
        battle.step([[6]])
    assert battle.units(0)[1][0, 0] < 15


def test_friends_nearby_are_called() -> None:
    battle = arena(
        "Stalker", ("Zealot",) * 3, [(10, 16)], [(15.9, 16), (19, 16), (26, 16)], step_mul=8
    )
    battle._stats["scan"][1:] = 2.0
    toughened, enemy = battle.units(0)
    toughened[0, 2] = 1e6
    battle.place(0, toughened, enemy)
    for _ in range(4):
        battle.step([[6]])
    x = battle.units(0)[1][:, 0]
    assert x[0] < 15
    assert x[1] < 19
    assert x[2] == 26


def test_a_target_that_leaves_weapon_range_is_exchanged_for_one_in_it() -> None:
    battle = arena(("Marine", "Marine"), "Marine", [(10, 16), (14, 21)], [(14, 16)], step_mul=8)
    battle._stats["speed"][2] = 0.0
    toughen(battle, 1e3)
    battle.step([[1, 1]])
    assert battle.battle_state.flags[0, TARGET, 2] == 0  # the nearer one
    for _ in range(8):
        battle.step([[WEST, 1]])
    ally, _ = battle.units(0)
    assert battle.battle_state.flags[0, TARGET, 2] == 1
    assert ally[1, 2] < 1e3


def test_who_attacks_is_not_pushed_by_friends() -> None:
    battle = arena(("Marine", "Marine"), "Marine", [(10, 16), (7, 16)], [(14.5, 16)])
    battle._stats["targets"][2] = battle._stats["speed"][2] = 0
    battle._stats["health"][2] = 1e6
    ally, enemy = battle.units(0)
    enemy[:, 2] = 1e6
    battle.place(0, ally, enemy)
    for _ in range(60):
        battle.step([[6, EAST]])
    ally, _ = battle.units(0)
    assert tuple(ally[0, :2]) == (10.0, 16.0)
    assert ally[1, 0] > 11  # the walker went around


def test_a_shot_at_once_is_not_wasted_on_who_fell_in_the_same_loop() -> None:
    battle = arena(("Marine", "Marine"), "Marine", [(10, 15.5), (10, 16.5)], [(14, 16)])
    ally, enemy = battle.units(0)
    enemy[0, 2] = 5.0  # one hit kills
    battle.place(0, ally, enemy)
    loops_until(battle, [6, 6], enemies_dead, most=10)
    battle.step([[1, 1]])
    cooldowns = sorted(battle.units(0)[0][:, 5])
    assert cooldowns[0] == 0.0
    assert cooldowns[1] > 10.0


def test_bodies_block_and_enemies_cannot_be_pushed() -> None:
    rng = np.random.default_rng(3)
    for name in ("3s5z", "3s_vs_5z", "corridor"):
        battle = VecBattle(name, 4, strict=False)
        rim, side = battle._stats["separation"], battle._stats["enemy"]
        foes = side[:, None] != side
        for _ in range(80):
            battle.step(random_actions(battle, rng))
            for b in range(4):
                ally, enemy = battle.units(b)
                at = np.concatenate([ally[:, :2], enemy[:, :2]])
                living = np.concatenate([ally[:, 2], enemy[:, 2]]) > 0
                apart = np.hypot(*(at[:, None] - at).transpose(2, 0, 1))
                depth = np.where(living[:, None] & living, rim[:, None] + rim - apart, -1)
                assert depth[foes].max() < 0.01


def test_a_wall_of_bodies_holds_and_a_gap_lets_through() -> None:
    def reached(wall_y: list[float]) -> float:
        battle = arena(
            ("Zealot",), ("Colossus",) + ("Zealot",) * len(wall_y),
            [(5, 16)], [(30, 30), *((10.0, y) for y in wall_y)],
        )  # fmt: skip
        battle._stats["targets"][1:] = 0  # the wall neither shoots
        battle._stats["speed"][1:] = 0.0  # nor moves
        for _ in range(120):
            battle.step([[EAST]])
        return float(battle.units(0)[0][0, 0])

    closed = [0.4 + 0.7 * k for k in range(45)]
    assert reached(closed) < 10
    assert reached([y for y in closed if not 15.2 < y < 17.2]) > 15


@pytest.mark.parametrize(
    ("attacker", "count", "target", "places"),
    [("Zergling", 16, "Zealot", 7), ("Zealot", 6, "Stalker", 6), ("Zealot", 6, "Zealot", 6)],
)
def test_melee_units_surround_their_target(
    attacker: str, count: int, target: str, places: int
) -> None:
    """All come from one side; as many as there is room for get to hit."""
    crowd = [(22 + 0.8 * (k // 4), 14.8 + 0.8 * (k % 4)) for k in range(count)]
    battle = arena(target, (attacker,) * count, [(16, 16)], crowd, step_mul=8)
    battle._stats["scan"][1:] = 20.0
    battle._stats["targets"][0] = 0
    battle._stats["health"][0] = 1e6
    ally, enemy = battle.units(0)
    ally[:, 2] = 1e6
    battle.place(0, ally, enemy)
    for _ in range(13):
        battle.step([[1]])
    at = battle.units(0)[1][:, :2]
    rims = battle._stats["radius"][0] + battle._stats["radius"][1]
    assert (np.hypot(*(at - 16).T) - rims <= 0.1).sum() == places


def test_walkers_slide_around_one_body() -> None:
    battle = arena("Zealot", "Zealot", [(5, 16)], [(8, 16)])
    battle._stats["targets"][1] = 0
    battle._stats["speed"][1] = 0.0
    for _ in range(60):
        battle.step([[EAST]])
    assert battle.units(0)[0][0, 0] > 11


def test_idle_friends_give_way() -> None:
    battle = arena(("Marine", "Marine"), "Marine", [(5, 16), (7, 16)], [(30, 30)])
    for _ in range(60):
        battle.step([[EAST, 1]])
    ally, _ = battle.units(0)
    assert ally[0, 0] == pytest.approx(5 + 60 * 0.140625, abs=0.5)
    assert tuple(ally[1, :2]) != (7.0, 16.0)


def test_walls_stop_walkers_at_their_rim_and_not_flyers() -> None:
    battle = VecBattle("MMM", 1, strict=False)
    for _ in range(10):
        actions = np.full((1, 10), 2)
        battle.step(np.where(battle.avail_actions[:, :, 2] == 1, actions, 1))
    ally, _ = battle.units(0)
    assert ally[:9, 1].max() <= 24 - 0.375
    assert battle.alive[0].any()


def test_enemy_medivac_heals() -> None:
    battle = VecBattle("MMM", 1, autoreset=False)
    ally, enemy = battle.units(0)
    ally[:, 0] = 1.0
    ally[1:, 2] = 0
    enemy[0, 2] = 10
    battle.place(0, ally, enemy)
    for _ in range(12):
        battle.step(waiting(battle))
    assert battle.units(0)[1][0, 2] == 45
