"""Fights short enough to work out by hand, to the loop (Liberty data, random delay off).

A shot's cooldown counts from its start and fractions of a loop carry over; what happens at time t
shows after loop ceil(t).
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from phalanx.envs.battle import VecBattle

from .arena import EAST, arena, enemies_dead, loops_until, toughen

ATTACK_FIRST = 6


def test_marine_against_marine() -> None:
    battle = arena("Marine", "Marine", [(10, 16)], [(15, 16)])
    loops = loops_until(
        battle, [ATTACK_FIRST], lambda ally, enemy: (ally[0, 2] == 0) or (enemy[0, 2] == 0)
    )
    assert loops == math.ceil(7 * 0.8608 * 16 + 0.8) == 98


def test_delays_make_a_duel_of_marines_half_a_loop_per_shot_longer() -> None:
    """Seven times 13.77 + 0.5, and the damage point: 100.9 loops on average."""
    lengths = []
    for seed in range(300):
        battle = arena("Marine", "Marine", [(10, 16)], [(14, 16)], random_delay=True, seed=seed)
        toughen(battle)
        lengths.append(loops_until(battle, [6], enemies_dead))
    # A delay is even over three loops, so a mean over 300 duels of seven is known to 0.13.
    assert np.mean(lengths) == pytest.approx(100.9, abs=0.6)


def test_three_marines_fire_three_volleys() -> None:
    at = [(10.0, 15.0), (10.0, 16.0), (10.0, 17.0)]
    battle = arena(("Marine",) * 3, "Marine", at, [(15, 16)])
    assert loops_until(battle, [6] * 3, enemies_dead) == math.ceil(2 * 13.7728 + 0.8) == 29


def test_two_marines_against_a_zealot() -> None:
    battle = arena(("Marine",) * 2, "Zealot", [(10, 16), (10, 15)], [(11, 16)])
    toughen(battle)
    assert loops_until(battle, [6, 6], enemies_dead) == math.ceil(14 * 13.7728 + 0.8) == 194


def test_zealot_kills_a_marine_with_its_third_second_blade() -> None:
    battle = arena("Zealot", "Marine", [(10, 16)], [(10.9, 16)])
    assert loops_until(battle, [6], enemies_dead) == math.ceil(2 * 19.2 + 0.28 * 16) == 43


def test_zealot_against_zealot() -> None:
    battle = arena("Zealot", "Zealot", [(10, 16)], [(11, 16)])
    toughen(battle)
    assert loops_until(battle, [6], enemies_dead) == 10 * 19.2  # hit 21 opens the 11th attack


def test_stalker_against_zealot_next_to_it() -> None:
    battle = arena("Stalker", "Zealot", [(10, 16)], [(11.2, 16)])
    toughen(battle)
    last_shot = 16 * 1.44 * 16 + 0.167 * 16
    assert loops_until(battle, [6], enemies_dead) == math.ceil(last_shot) + 1  # one loop of flight


def test_hydralisk_needs_fourteen_shots_for_a_zealot() -> None:
    battle = arena("Hydralisk", "Zealot", [(10, 16)], [(14, 16)])
    battle._stats["speed"][1] = 0.0
    last_shot = 13 * 0.83 * 16 + 0.208 * 16
    flight = (4 - 0.625 - 0.5) / (40 / 16)
    assert loops_until(battle, [6], enemies_dead) == math.ceil(last_shot + flight)


def test_hydralisk_stabs_who_is_near() -> None:
    battle = arena("Hydralisk", "Zealot", [(10, 16)], [(11.2, 16)])
    toughen(battle)
    assert loops_until(battle, [6], enemies_dead) == math.ceil((13 * 0.83 + 0.3) * 16)


def test_stalker_against_spine_crawler() -> None:
    battle = arena("Stalker", "SpineCrawler", [(10, 16)], [(15.5, 16)])
    battle._stats["health_regen"][1] = 0.0
    toughen(battle)
    last_shot = 24 * 1.44 * 16 + 0.167 * 16
    flight = (5.5 - 0.625 - 0.875) / (18.75 / 16)
    assert loops_until(battle, [6], enemies_dead) == math.ceil(last_shot + flight)


def test_spine_crawler_against_stalker() -> None:
    battle = arena("Stalker", "SpineCrawler", [(10, 16)], [(17, 16)])
    loops = loops_until(battle, [1], lambda ally, enemy: bool(ally[0, 2] == 0))
    flight = (7 - 0.625 - 0.875) / (28 / 16)
    assert loops == math.ceil((5 * 1.6 + 0.3332) * 16 + flight)  # 30 six times


@pytest.mark.parametrize(
    ("target", "hits"),
    [("Marine", 6), ("Stalker", 22), ("Zergling", 5), ("Baneling", 4), ("Hydralisk", 10)],
)
def test_blades_to_kill(target: str, hits: int) -> None:
    battle = arena("Zealot", target, [(10, 16)], [(10.9, 16)])
    battle._stats["speed"][1] = battle._stats["targets"][1] = 0
    battle._stats["health_regen"][1] = 0.0
    pairs, second_blade = divmod(hits - 1, 2)
    loops = loops_until(battle, [6], enemies_dead)
    assert loops == math.ceil(pairs * 19.2 + second_blade * 0.28 * 16)


@pytest.mark.parametrize(("attacker", "period"), [("Marauder", 24), ("Stalker", 23.04)])
def test_armored_targets_take_more(attacker: str, period: float) -> None:
    """A stalker hit on the spine crawler is 14 - 2, a marauder's 20 - 2."""
    battle = arena(attacker, "SpineCrawler", [(10, 16)], [(13, 16)])
    battle._stats["health_regen"][1] = 0.0
    toughen(battle)
    for _ in range(math.ceil(2 * period)):
        battle.step([[6]])
    assert 300 - battle.units(0)[1][0, 2] == 2 * {"Marauder": 18, "Stalker": 12}[attacker]


def blast(enemies: tuple[str, ...], at: list[tuple[float, float]]) -> tuple[VecBattle, list[float]]:
    """What a baneling at (10, 16), attacking the first of these, costs each in health and shield."""
    battle = arena(("Baneling", "Zergling"), enemies, [(9.2, 16), (8.5, 16)], at)
    battle._stats["speed"][2:] = battle._stats["targets"][2:] = 0
    battle._stats["health_regen"][2:] = 0.0
    before = battle.units(0)[1][:, 2:].sum(axis=1)
    while battle.alive[0, 0]:
        battle.step([[6, 1]])
    return battle, (before - battle.units(0)[1][:, 2:].sum(axis=1)).tolist()


def test_baneling_bursts_in_contact_on_the_run() -> None:
    battle, losses = blast(("Zealot",) * 4, [(11.5, 16), (8, 18.5), (10.4, 18.9), (10.4, 13.4)])
    ally = battle.units(0)[0]
    # It runs until the rims are 0.25 apart, and does not stop to shoot.
    assert 11.5 - 0.25 - 0.875 - 2.5 / 16 < ally[0, 0] <= 11.5 - 0.25 - 0.875 + 2.5 / 16
    assert losses == [35, 0, 0, 35]  # 2.2 and the target's radius of 0.5 around
    assert ally[1, 2] == 35  # no friendly fire


def test_five_banelings_kill_a_zealot() -> None:
    for count, left in ((4, 13), (5, 0)):
        at = [(10.0, 16.0), (12.0, 16.0), (11.0, 15.0), (11.0, 17.0), (10.2, 15.2)][:count]
        battle = arena(("Baneling",) * count, "Zealot", at, [(11, 16)])
        battle._stats["targets"][-1] = 0
        for _ in range(20):
            battle.step([[6] * count])
        assert not battle.alive.any()
        assert battle.units(0)[1][0, 2] == left


def test_burst_hurts_by_attribute_and_not_flyers() -> None:
    kinds = ("Stalker", "Zergling", "SpineCrawler", "Colossus", "Medivac")
    _, losses = blast(kinds, [(11, 16), (11, 14.5), (11, 18.3), (10, 18), (10.5, 16)])
    assert losses == [20, 35, 80 - 2, 20, 0]


def test_banelings_burst_in_a_chain() -> None:
    """Each kills the next, 2.3 further on; all in one loop, and those killed do burst."""
    at = [11.0 + 2.3 * k for k in range(5)]
    battle = arena(
        ("Baneling",) * 3, ("Baneling",) * 3,
        [(10.3, 16), (at[1], 16), (at[3], 16)], [(at[0], 16), (at[2], 16), (at[4], 16)],
    )  # fmt: skip
    battle._stats["speed"][3:] = 0.0
    battle._stats["health_regen"] = 0.0
    ally, enemy = battle.units(0)
    ally[:, 2] = enemy[:, 2] = 20
    battle.place(0, ally, enemy)
    battle.step([[6, 1, 1]])
    ally, enemy = battle.units(0)
    assert (ally[:, 2] == 0).all()
    assert (enemy[:, 2] == 0).all()


def test_a_baneling_that_is_shot_bursts_too() -> None:
    battle = arena("Marine", "Baneling", [(10, 16)], [(12.2, 16)])
    battle._stats["speed"][1] = battle._stats["health_regen"][1] = 0.0
    ally, enemy = battle.units(0)
    enemy[0, 2] = 6
    battle.place(0, ally, enemy)
    loops_until(battle, [6], enemies_dead, most=5)
    assert battle.units(0)[0][0, 2] == 45 - 35


def test_a_hit_takes_half_a_point_at_least() -> None:
    battle = arena("Marine", "Marine", [(10, 16)], [(15, 16)])
    battle._stats["armor"][1] = 50.0
    battle.step([[6]])
    battle.step([[6]])
    assert battle.units(0)[1][0, 2] == 44.5


def test_zergling_against_zealot() -> None:
    battle = arena("Zergling", "Zealot", [(10, 16)], [(10.9, 16)])
    toughen(battle)
    assert loops_until(battle, [6], enemies_dead) == math.ceil(34 * 0.696 * 16 + 0.167 * 16)


@pytest.mark.parametrize(
    ("attacker", "target", "shots"),
    [
        ("Marine", "Marauder", 25),
        ("Marine", "Medivac", 30),
        ("Marauder", "Marine", 5),
        ("Marauder", "Marauder", 7),
        ("Stalker", "Stalker", 12),
        ("Stalker", "Colossus", 27),
        ("Zergling", "Colossus", 80),
    ],
)
def test_shots_to_kill(attacker: str, target: str, shots: int) -> None:
    """Damage, bonus, shields and armor; nothing regenerates while under fire but zerg."""
    battle = arena(attacker, target, [(10, 16)], [(11.6, 16)])
    toughen(battle)
    periods = {"Marine": 13.7728, "Marauder": 24, "Stalker": 23.04, "Zergling": 11.136}
    loops = loops_until(battle, [6], enemies_dead)
    assert math.ceil((loops - 8) / periods[attacker]) + 1 == shots


def test_lotv_stalker_needs_thirteen_shots_for_a_zealot() -> None:
    battle = arena("Stalker", "Zealot", [(10, 16)], [(11.2, 16)], profile="lotv")
    toughen(battle)
    last_shot = 12 * 1.87 * 16 + 0.167 * 16
    assert loops_until(battle, [6], enemies_dead) == math.ceil(last_shot) + 1


def test_lotv_colossus_needs_two_volleys_for_a_zergling() -> None:
    """10 and 5 against light, twice, at a range of 7; the default profile kills with one volley."""
    for profile, left, period in (("liberty", 0, 2.2), ("lotv", 5, 1.5)):
        battle = arena("Colossus", "Zergling", [(10, 16)], [(15, 16)], profile=profile)
        battle._stats["speed"][1] = battle._stats["health_regen"][1] = 0.0
        for _ in range(12):
            battle.step([[6]])
        assert battle.units(0)[1][0, 2] == left
        assert battle._stats["period"][0] == pytest.approx(period * 16)


def test_lotv_figures() -> None:
    liberty, lotv = (
        arena(
            ("Medivac", "Hydralisk", "Stalker"), ("Hydralisk", "SpineCrawler", "Colossus"),
            [(4, 4), (5, 5), (6, 6)], [(25, 25), (20, 20), (22, 28)], profile=profile,
        )._stats
        for profile in ("liberty", "lotv")
    )  # fmt: skip
    assert (liberty["speed"][0] * 16, lotv["speed"][0] * 16) == (2.75, 2.5)
    assert lotv["health"][[1, 3]].tolist() == [80, 90]  # the maps pin the agents' copies at 80
    assert liberty["health"][[1, 3]].tolist() == [80, 80]
    assert (lotv["damage"][2], lotv["bonus"][2]) == (13, 5)
    assert (liberty["period"][4], lotv["period"][4]) == (1.6 * 16, 1.85 * 16)
    assert (liberty["reach"][5], lotv["reach"][5]) == (6, 7)


def test_missiles_take_time_and_may_be_wasted() -> None:
    battle = arena(("Stalker",) * 2, "Marine", [(10, 15), (10, 17)], [(15, 16)])
    ally, enemy = battle.units(0)
    enemy[0, 2] = 10  # one missile is enough
    battle.place(0, ally, enemy)
    loops = loops_until(battle, [6, 6], enemies_dead)
    rim = math.hypot(5, 1) - 0.625 - 0.375
    assert loops == 3 + math.ceil(rim / (18.75 / 16))
    battle.step([[1, 1]])
    cooldowns = battle.units(0)[0][:, 5]
    assert (cooldowns > 10).all()  # both fired; the second missile hits nobody


def test_colossus_sweeps_a_line_across_the_line_of_fire() -> None:
    line = [(15.0, 16.0), (15.0, 16.8), (15.0, 15.2), (15.0, 17.6), (15.0, 18.5), (16.0, 16.0)]
    battle = arena("Colossus", ("Zergling",) * 6, [(10, 16)], line)
    toughen(battle)
    ally, enemy = battle.units(0)
    enemy[:, 2] = 100
    battle.place(0, ally, enemy)
    loops_until(battle, [6], lambda ally, enemy: enemy[0, 2] < 62, most=20)
    for _ in range(6):
        battle.step([[6]])
    losses = 100 - battle.units(0)[1][:, 2]
    # 20 twice up to 1.25 + 0.15 + 0.375 along the line; nothing beyond, behind, or to friends.
    assert losses.round() == pytest.approx([40, 40, 40, 40, 0, 0], abs=1)


def test_colossus_fires_a_volley_every_35_loops() -> None:
    battle = arena("Colossus", "Zealot", [(10, 16)], [(15, 16)])
    battle._stats["targets"][1] = battle._stats["speed"][1] = 0
    ally, enemy = battle.units(0)
    enemy[:, 2] = 1e6
    battle.place(0, ally, enemy)
    lost, loops = battle.units(0)[1][0, 2:].sum(), []
    for loop in range(150):
        battle.step([[6]])
        left = battle.units(0)[1][0, 2:].sum()
        if left < lost:
            loops.append(loop)
        lost = left
    assert np.diff(loops).mean() == pytest.approx(35.2, abs=0.3)


def test_colossus_beams_spare_friends() -> None:
    at = [(10.0, 16.0), (15.0, 14.6)]
    battle = arena(("Colossus", "Zergling"), "Zergling", at, [(15, 16)])
    battle._stats["targets"][2] = battle._stats["speed"][2] = 0
    loops_until(battle, [6, 1], enemies_dead)
    assert battle.units(0)[0][1, 2] == 35


def test_colossus_ignores_the_bodies_of_small_units() -> None:
    battle = arena("Colossus", "Zealot", [(10, 16)], [(12, 16)])
    toughen(battle)
    for _ in range(40):
        battle.step([[EAST]])
    assert battle.units(0)[0][0, 0] == pytest.approx(10 + 40 * 0.140625)


@pytest.mark.parametrize(
    ("unit", "per_env_step"),
    [
        ("Marine", 1.125),
        ("Marauder", 1.125),
        ("Stalker", 2.9531 / 2),
        ("Zealot", 1.125),
        ("Colossus", 1.125),
        ("Zergling", 2.9531 / 2),
        ("Baneling", 1.25),
    ],
)
def test_walking_speed(unit: str, per_env_step: float) -> None:
    battle = arena(unit, "Marine", [(5, 16)], [(30, 30)])
    for _ in range(8):
        battle.step([[EAST]])
    assert battle.units(0)[0][0, 0] - 5 == pytest.approx(per_env_step)


def test_medivac_gathers_speed_over_nineteen_loops() -> None:
    battle = arena(("Marine", "Medivac"), "Marine", [(5, 20), (5, 16)], [(30, 30)])
    speeds, x = [], 5.0
    for _ in range(30):
        battle.step([[1, EAST]])
        speeds.append(battle.units(0)[0][1, 0] - x)
        x += speeds[-1]
    assert speeds[0] == pytest.approx(2.3125 / 256)
    assert speeds[17] < 2.75 / 16 * 0.999
    assert speeds[19] == pytest.approx(2.75 / 16)


def test_medivac_starts_with_fifty_energy_of_two_hundred() -> None:
    battle = arena(("Marine", "Medivac"), "Marine", [(5, 20), (5, 16)], [(30, 30)], step_mul=400)
    assert battle.units(0)[0][1, 4] == 50.0
    for _ in range(12):
        battle.step([[1, 1]])
    assert battle.units(0)[0][1, 4] == 200.0


def test_medivac_outheals_one_marine_and_pays_for_it() -> None:
    battle = arena(
        ("Marine", "Medivac"), "Marine", [(10, 16), (9, 16)], [(15, 16)], reward_only_positive=False
    )
    heal_first_agent = 6
    for _ in range(300):
        battle.step([[1, heal_first_agent]])
        ally, _ = battle.units(0)
        assert ally[0, 2] > 45 - 2 * 6
    healed = 300 / 13.7728 * 6
    spent = 50 + 300 * 0.5625 / 16 - ally[1, 4]
    assert spent == pytest.approx(0.33 * healed, rel=0.1)


def test_full_healing_drains_fifty_energy_in_about_332_loops() -> None:
    battle = arena(("Marine", "Medivac"), "Marine", [(10, 16), (9, 16)], [(30, 30)])
    ally, enemy = battle.units(0)
    ally[0, 2] = 1e-3
    battle.place(0, ally, enemy)
    drained = 0
    for loop in range(400):
        battle.step([[1, 6]])
        battle._battle_state.units[0, 2, 0] = 1.0  # never full
        if battle.units(0)[0][1, 4] < 0.2 and not drained:
            drained = loop
    assert drained == pytest.approx(50 / (0.5625 * 0.33 - 0.5625 / 16), abs=3)


def test_any_hit_delays_the_shields_again() -> None:
    battle = arena("Zealot", ("Marine", "Marine"), [(10, 16)], [(15, 16), (30, 30)])
    loops_until(battle, [1], lambda ally, enemy: ally[0, 3] < 50, most=5)
    battle._stats["targets"][1] = 0
    for _ in range(100):
        battle.step([[1]])
    battle._stats["targets"][1] = 1
    shield = battle.units(0)[0][0, 3]
    battle._battle_state.flags[0, 1, 1] = -1  # the marine looks for a target again
    loops_until(battle, [1], lambda ally, enemy: ally[0, 3] < shield, most=20)
    shield = battle.units(0)[0][0, 3]
    battle._battle_state.units[0, 2, 1] = 0.0
    for _ in range(160):
        battle.step([[1]])
        assert battle.units(0)[0][0, 3] == shield
    battle.step([[1]])
    assert battle.units(0)[0][0, 3] == shield + 0.125


def test_shields_return_after_160_loops_at_an_eighth_per_loop() -> None:
    battle = arena("Zealot", ("Marine", "Marine"), [(10, 16)], [(15, 16), (30, 30)])
    loops_until(battle, [1], lambda ally, enemy: ally[0, 3] < 50, most=5)
    shield = battle.units(0)[0][0, 3]
    battle._battle_state.units[0, 2, 1] = 0.0  # the marine is gone
    for _ in range(160):
        battle.step([[1]])
    assert battle.units(0)[0][0, 3] == shield
    for _ in range(8):
        battle.step([[1]])
    assert battle.units(0)[0][0, 3] == min(shield + 1.0, 50)
