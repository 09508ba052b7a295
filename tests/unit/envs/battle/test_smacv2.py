"""SMACv2's maps: drawn teams and places, ranges, cones of sight, partial observability."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from phalanx.envs.battle import StarCraft2Env, VecBattle, map_info, observe
from phalanx.envs.battle.bots import nearest, play
from phalanx.envs.battle.generation import RANGES
from phalanx.errors import EnvError

from .arena import random_actions, run_out, waiting
from .test_vec import OUTPUTS, course

RACE_OF = {"T": "10gen_terran", "P": "10gen_protoss", "Z": "10gen_zerg"}
MARINES = {"team_gen": {"dist_type": "weighted_teams", "unit_types": ["marine"], "weights": [1.0]}}


def team_of(*kinds: str, exceptions: tuple[str, ...] = (), **more: object) -> dict[str, object]:
    """A capability_config that draws these types equally often."""
    team = {
        "dist_type": "weighted_teams",
        "unit_types": list(kinds),
        "weights": [1 / len(kinds)] * len(kinds),
        "exception_unit_types": list(exceptions),
    }
    return {"team_gen": team | more}


def starts(dist_type: str, **keys: float) -> dict[str, object]:
    return MARINES | {"start_positions": {"dist_type": dist_type, **keys}}


def own_block(battle: VecBattle, agent: int, width: int) -> list[float]:
    return battle.obs[0, agent, -width:].tolist()


def put(battle: VecBattle, ally: list[tuple[float, float]], enemy: list[tuple[float, float]]):
    """Place the units of battle 0 there, all in full health."""
    own, foes = battle.units(0)
    own[:, :2], foes[:, :2] = ally, enemy
    battle.place(0, own, foes)


@pytest.mark.parametrize(
    ("name", "sizes", "options", "shapes"),
    [  # from SMACv2's get_env_info()
        ("10gen_terran", (5, 5), {}, (82, 120, 11)),
        ("10gen_zerg", (5, 5), {}, (82, 120, 11)),
        ("10gen_protoss", (5, 5), {}, (92, 130, 11)),
        ("10gen_terran", (10, 10), {}, (162, 290, 16)),
        ("10gen_protoss", (10, 11), {}, (191, 327, 17)),
        ("10gen_zerg", (20, 23), {}, (346, 858, 29)),
        ("10gen_terran", (5, 5), {"conic_fov": True}, (84, 190, 23)),
        ("10gen_terran", (5, 5), {"obs_timestep_number": True}, (83, 120, 11)),
        ("10gen_terran", (5, 5), {"obs_own_pos": False}, (80, 120, 11)),
        # A medivac needs an action for each agent: 7 targets against 3 enemies.
        ("10gen_terran", (7, 3), {}, (4 + 3 * 8 + 6 * 8 + 6, 7 * 7 + 3 * 6 + 7 * 13, 13)),
    ],
)
def test_shapes(
    name: str, sizes: tuple[int, int], options: dict[str, bool], shapes: tuple[int, int, int]
) -> None:
    spec = VecBattle(name, 1, n_units=sizes[0], n_enemies=sizes[1], **options).spec
    assert (spec.n_agents, spec.episode_limit, spec.agent_groups) == (sizes[0], 200, None)
    assert (spec.obs_dim, spec.state_dim, spec.n_actions) == shapes


def test_types_are_drawn_by_their_weights_and_copied_by_the_enemy() -> None:
    battle = VecBattle("10gen_zerg", 2000, n_units=5, n_enemies=7)
    names = np.array([battle.unit_names(b) for b in range(2000)])
    for kinds in (names[:, :5], names[:, 10:]):  # agents; the enemies beyond their number
        shares = [(kinds == kind).mean() for kind in ("Zergling", "Hydralisk", "Baneling")]
        assert shares == pytest.approx([0.45, 0.45, 0.1], abs=0.02)
        assert (kinds != "Baneling").any(axis=1).all()
    np.testing.assert_array_equal(np.sort(names[:, :5]), np.sort(names[:, 5:10]))
    np.testing.assert_array_equal(names[:, :5], np.sort(names[:, :5]))  # agents by type
    assert len({tuple(row) for row in names.tolist()}) > 100


def test_no_team_is_made_of_exceptions_only() -> None:
    capabilities = team_of("marine", "medivac", exceptions=("medivac",))
    battle = VecBattle("10gen_terran", 500, n_units=2, n_enemies=3, capability_config=capabilities)
    names = [battle.unit_names(b) for b in range(500)]
    assert all("Marine" in row[:2] and row[4] == "Marine" for row in names)
    assert 0.6 < np.mean(["Medivac" in row[:2] for row in names]) < 0.73  # 2 of 3 pairs


def test_later_episodes_have_other_teams() -> None:
    battle = VecBattle("10gen_protoss", 1, seed=4)
    seen = set()
    for _ in range(12):
        seen.add((*battle.unit_names(0), *battle.units(0)[0][:, 0]))
        battle.reset()
    assert len(seen) == 12


def test_agents_are_in_smacs_order() -> None:
    battle = VecBattle("10gen_terran", 50, n_units=8, n_enemies=8)
    for b in range(50):
        x, y = battle.units(b)[0][:, :2].T
        keys = list(zip(battle.unit_names(b)[:8], x, y, strict=True))
        assert keys == sorted(keys)


def test_reflected_starts_are_mirrored() -> None:
    battle = VecBattle(
        "10gen_terran", 500, n_units=1, n_enemies=1, capability_config=starts("reflect_position")
    )
    ally, enemy = (units[:, 0, :2] for units in battle.units())
    rim = 0.375  # nobody stands beyond the border
    np.testing.assert_allclose(enemy[:, 0], 32 - ally[:, 0])
    np.testing.assert_allclose(enemy[:, 1], ally[:, 1])
    assert ally[:, 0].min() >= rim
    assert ally[:, 0].max() <= 15
    assert ally.mean(axis=0) == pytest.approx([7.5, 16], abs=1)
    assert ally[:, 1].min() < 1
    assert ally[:, 1].max() > 31


def test_extra_enemies_start_in_the_right_half() -> None:
    battle = VecBattle(
        "10gen_terran", 300, n_units=1, n_enemies=2, capability_config=starts("reflect_position")
    )
    extra = battle.units()[1][:, 1, :2]
    assert extra[:, 0].min() >= 15  # 16, or a step aside from who is there already
    assert extra[:, 0].mean() == pytest.approx(24, abs=1)


def test_surrounding_groups_stand_on_diagonals() -> None:
    battle = VecBattle(
        "10gen_terran", 800, n_units=3, n_enemies=1, capability_config=starts("surrounded")
    )
    ally, enemy = battle.units()
    assert np.hypot(*(ally[:, :, :2] - 16).reshape(-1, 2).T).max() < 1.1
    off = enemy[:, 0, :2] - 16
    np.testing.assert_allclose(np.abs(off[:, 0]), np.abs(off[:, 1]))
    assert np.abs(off).min() >= 2
    assert np.abs(off).max() == pytest.approx(16 - 0.375, abs=0.3)
    quarters = np.unique(np.sign(off), axis=0, return_counts=True)[1]
    assert quarters / 800 == pytest.approx([0.25] * 4, abs=0.05)
    assert np.abs(off).mean() == pytest.approx(9, abs=0.5)  # evenly between 2 and 16


def test_there_are_one_to_four_groups() -> None:
    battle = VecBattle(
        "10gen_terran", 600, n_units=1, n_enemies=30, capability_config=starts("surrounded")
    )
    east, north = (battle.units()[1][:, :, axis] > 16 for axis in (0, 1))
    corners = 2 * east + north
    groups = np.array([len(set(row)) for row in corners.tolist()])
    shares = np.bincount(groups, minlength=5)[1:] / 600
    assert shares == pytest.approx([0.25] * 4, abs=0.06)
    four = corners[groups == 4]
    sizes = [(row == corner).sum() for row in four for corner in range(4)]
    assert np.mean(sizes) == 7.5
    assert np.std(sizes) == pytest.approx(math.sqrt(30 * 0.25 * 0.75), abs=0.4)  # multinomial


def test_p_is_the_share_of_reflected_starts() -> None:
    battle = VecBattle(
        "10gen_terran", 1000, n_units=1, n_enemies=1,
        capability_config=starts("surrounded_and_reflect", p=0.7),
    )  # fmt: skip
    centred = (battle.units()[0][:, 0, :2] == 16).all(axis=-1)
    assert centred.mean() == pytest.approx(0.3, abs=0.04)


def test_without_start_positions_two_camps_face_each_other() -> None:
    battle = VecBattle("10gen_terran", 1, capability_config=MARINES)
    ally, enemy = battle.units(0)
    assert ally[:, :2].mean(axis=0) == pytest.approx([8, 16], abs=0.3)
    assert enemy[:, :2].mean(axis=0) == pytest.approx([24, 16], abs=0.3)


@pytest.mark.parametrize("name", ["10gen_zerg", "10gen_protoss"])
def test_nobody_starts_inside_another(name: str) -> None:
    battle = VecBattle(name, 20, n_units=20, n_enemies=23)
    ally, enemy = battle.units()
    at = np.concatenate([ally[:, :, :2], enemy[:, :, :2]], axis=1)
    apart = np.linalg.norm(at[:, :, None] - at[:, None], axis=-1)
    rim, plane = battle.slots["separation"], battle.slots["plane"]
    room = rim[:, :, None] + rim[:, None] - 1e-9
    collide = (plane[:, :, None] == plane[:, None]) & ~np.eye(43, dtype=bool)
    assert (apart >= room)[collide].all()
    assert (at >= rim[:, :, None]).all()
    assert (at <= 32 - rim[:, :, None]).all()


@pytest.mark.parametrize(
    "options", [{}, {"conic_fov": True, "prob_obs_enemy": 0.4, "start_jitter": 0.1}]
)
def test_battles_do_not_depend_on_the_batch_or_threads(options: dict[str, object]) -> None:
    name = "10gen_zerg"
    alone = course(VecBattle(name, 1, seed=9, first_index=3, **options), 3, 90)
    for battle in (
        VecBattle(name, 7, seed=9, **options),
        VecBattle(name, 64, seed=9, **options),
        VecBattle(name, 7, seed=9, threads=2, **options),
    ):
        assert course(battle, 3, 90) == alone
        battle.close()
    assert course(VecBattle(name, 7, seed=10, **options), 3, 90) != alone


def test_saved_battles_go_on_bit_for_bit() -> None:
    options = {"conic_fov": True, "prob_obs_enemy": 0.4, "n_units": 4, "n_enemies": 6}
    rng = np.random.default_rng(0)
    first = VecBattle("10gen_protoss", 5, seed=1, **options)
    for _ in range(45):
        first.step(random_actions(first, rng))
    second = VecBattle("10gen_protoss", 5, seed=99, **options)
    second.load_state_dict(first.state_dict())
    for _ in range(80):
        for name in OUTPUTS:
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
        actions = random_actions(first, rng)
        first.step(actions)
        second.step(actions)


@pytest.mark.parametrize("kind", [kind for kind in RANGES if kind != "Medivac"])
def test_each_type_attacks_and_sees_by_its_own_ranges(kind: str) -> None:
    shoot, sight = RANGES[kind]
    name = RACE_OF[{"S": "P", "Z": "P", "C": "P", "M": "T", "H": "Z", "B": "Z"}[kind[0]]]
    if kind == "Zergling":
        name = "10gen_zerg"
    for least in (2.0, 0.0):
        battle = VecBattle(
            name, 1, n_units=1, n_enemies=1, capability_config=team_of(kind.lower()),
            min_attack_range=least,
        )  # fmt: skip
        reach = max(shoot, least)
        for distance, attacks, sees in (
            (reach - 0.001, True, True),
            (reach + 0.001, False, True),
            (sight - 0.001, False, True),
            (sight, False, False),
        ):
            put(battle, [(10.0, 16.0)], [(10.0 + distance, 16.0)])
            assert bool(battle.avail_actions[0, 0, 6]) == attacks
            seen = battle.obs[0, 0, 4:8]
            assert bool(seen.any()) == sees
            if sees:
                assert seen == pytest.approx(
                    [float(attacks), distance / sight, distance / sight, 0]
                )


def test_medivacs_heal_within_four_and_smacs_ranges_are_an_option() -> None:
    capabilities = team_of("marine", "medivac", exceptions=("medivac",))
    battle = VecBattle("10gen_terran", 1, n_units=6, n_enemies=2, capability_config=capabilities)
    while battle.unit_names(0)[:6].count("Medivac") != 1:
        battle.reset()
    put(battle, [(16, 16), (20, 16.01), (1, 1), (1, 31), (31, 1), (20, 20)], [(3, 30), (5, 30)])
    assert battle.avail_actions[0, 5, 6:].tolist() == [0, 1, 0, 0, 0, 0]  # 3.99 away; itself not
    plain = VecBattle("10gen_terran", 1, n_units=1, n_enemies=1, use_unit_ranges=False)
    put(plain, [(10, 16)], [(16, 16)])
    assert plain.avail_actions[0, 0, 6] == 1
    assert plain.obs[0, 0, 5] == pytest.approx(6 / 9)


def test_agents_see_where_they_are() -> None:
    battle = VecBattle(
        "10gen_terran", 1, n_units=1, n_enemies=1, capability_config=team_of("marauder")
    )
    put(battle, [(10, 20)], [(30, 30)])
    assert own_block(battle, 0, 6) == pytest.approx([1, 10 / 32, 20 / 32, 0, 1, 0])


def test_types_of_others_can_be_hidden() -> None:
    for observed in (True, False):
        battle = VecBattle(
            "10gen_terran", 1, n_units=2, n_enemies=1,
            capability_config=team_of("marine", observe=observed),
        )  # fmt: skip
        put(battle, [(10, 16), (11, 16)], [(30, 30)])
        ally = battle.obs[0, 0, 4 + 8 : 4 + 16].tolist()
        assert ally[:5] == pytest.approx([1, 1 / 9, 1 / 9, 0, 1])
        assert ally[5:] == ([1, 0, 0] if observed else [0, 0, 0])


def cone(degrees: float, distance: float = 4.0) -> VecBattle:
    """One marine at (16, 16) that looks east at first, one enemy in that direction."""
    battle = VecBattle(
        "10gen_terran", 1, n_units=1, n_enemies=1, capability_config=MARINES, conic_fov=True,
        step_mul=1, autoreset=False,
    )  # fmt: skip
    angle = math.radians(degrees)
    put(battle, [(16, 16)], [(16 + distance * math.cos(angle), 16 + distance * math.sin(angle))])
    return battle


def test_the_cone_is_thirty_degrees_wide_and_turns() -> None:
    for degrees, seen in (
        (0, True),
        (14, True),
        (-14, True),
        (16, False),
        (-16, False),
        (90, False),
    ):
        battle = cone(degrees)
        assert bool(battle.obs[0, 0, 4:8].any()) == seen
        assert bool(battle.avail_actions[0, 0, 18]) == seen
    battle = cone(31)
    assert battle.avail_actions[0, 0, 6:18].all()
    assert own_block(battle, 0, 5)[:2] == [1, 0]
    battle.step([[7]])  # the second of twelve directions: 30 degrees
    assert battle.obs[0, 0, 4:8].any()
    assert battle.avail_actions[0, 0, 18] == 1
    look = [math.cos(math.pi / 6), math.sin(math.pi / 6)]
    assert own_block(battle, 0, 5)[:2] == pytest.approx(look)
    assert battle.state[0, 4:6] == pytest.approx(look)
    battle.step([[10]])  # 120 degrees
    assert not battle.obs[0, 0, 4:8].any()


def test_the_cone_compares_slopes_as_smacv2_does() -> None:
    assert cone(180).obs[0, 0, 4:8].any()  # who looks exactly east sees west, too
    battle = cone(31)
    battle.step([[13]])  # 210 degrees: the horizontal part is turned round, the slope is steep
    assert not battle.obs[0, 0, 4:8].any()


def test_a_cone_reaches_as_far_as_sight_and_weapon() -> None:
    assert cone(0, 9.0).obs[0, 0, 5] == 1  # up to and including 9
    assert not cone(0, 9.01).obs[0, 0, 4:8].any()
    assert cone(0, 5.0).avail_actions[0, 0, 18] == 1
    assert cone(0, 5.01).avail_actions[0, 0, 18] == 0


def test_looking_is_no_order() -> None:
    battle = cone(0, 12.0)
    battle.step([[2]])
    before = battle.units(0)[0][0, 1]
    battle.step([[9]])  # goes on north
    assert battle.units(0)[0][0, 1] == pytest.approx(before + 0.140625)
    battle.step([[1]])
    assert battle.units(0)[0][0, 1] == pytest.approx(before + 0.140625)


def observers(battle: VecBattle) -> np.ndarray:
    """How many of the agents have the only enemy in their observation, per battle."""
    return battle.obs[:, :, 4:8].any(axis=-1).sum(axis=-1)


@pytest.mark.parametrize(("probability", "mean"), [(0.0, 1.0), (0.5, 3.0), (1.0, 5.0)])
def test_who_is_not_first_sees_an_enemy_with_a_probability(probability: float, mean: float) -> None:
    battle = VecBattle(
        "10gen_terran", 200, n_enemies=1, capability_config=MARINES, prob_obs_enemy=probability,
        autoreset=False,
    )  # fmt: skip
    for b in range(200):
        ally, enemy = battle.units(b)
        ally[:, :2], enemy[:, :2] = [(16, 12 + i) for i in range(5)], (19, 14)
        battle.place(b, ally, enemy)
    count = observers(battle)
    assert count.mean() == pytest.approx(mean, abs=0.25)
    assert count.min() >= 1
    views = battle.obs[:, :, 4:8].any(axis=-1)
    if probability < 1:
        assert 0.1 < views[:, 0].mean() - probability * 0.8 < 0.3  # each comes first equally often
        before = views.copy()
        battle.step(waiting(battle))
        still = battle.alive.all(axis=1)
        np.testing.assert_array_equal(battle.obs[still][:, :, 4:8].any(axis=-1), before[still])


def test_a_dead_agents_enemies_are_found_anew() -> None:
    battle = VecBattle(
        "10gen_terran", 1, n_units=3, n_enemies=1, capability_config=MARINES, prob_obs_enemy=0.0,
        strict=False,
    )  # fmt: skip
    put(battle, [(16, 15), (16, 16), (16, 17)], [(19, 16)])
    first = int(np.flatnonzero(battle.obs[0, :, 4:8].any(axis=-1))[0])
    battle.battle_state.units[0, 2, first] = 0.0  # health
    battle.step([[1, 1, 1]])
    seen = np.flatnonzero(battle.obs[0, :, 4:8].any(axis=-1))
    assert len(seen) == 1
    assert seen[0] != first


def test_the_originals_blanking_is_an_option() -> None:
    at = [(18, 14), (18, 15), (18, 17), (18, 18), (31, 31)]
    for strict in (True, False):
        battle = VecBattle(
            "10gen_terran", 1, n_units=1, capability_config=MARINES, strict_smacv2=strict
        )
        put(battle, [(16, 16)], at)
        assert battle.obs[0, 0, 4 : 4 + 4 * 8].any() == (not strict)
        put(battle, [(16, 16)], [*at[:4], (18, 16)])
        assert battle.obs[0, 0, 4 : 4 + 5 * 8].any()


def test_unmasked_attacks_out_of_reach_do_nothing() -> None:
    battle = VecBattle(
        "10gen_terran", 1, n_units=1, n_enemies=2, capability_config=MARINES, action_mask=False
    )
    put(battle, [(10, 16)], [(30, 16), (30, 18)])
    assert battle.avail_actions[0, 0, 6:].tolist() == [1, 1]
    battle.step([[6]])
    assert battle.units(0)[0][0, :2].tolist() == [10, 16]
    ally, enemy = battle.units(0)
    enemy[0, 2] = 0
    battle.place(0, ally, enemy)
    assert battle.avail_actions[0, 0, 6:].tolist() == [0, 1]


def test_everything_may_be_observed() -> None:
    battle = VecBattle(
        "10gen_terran", 1, n_units=2, n_enemies=1, capability_config=MARINES, fully_observable=True
    )
    put(battle, [(1, 1), (31, 31)], [(31, 1)])
    assert battle.obs[0, 0, 5] == pytest.approx(30 / 9)
    assert battle.visibility[0].all()


def test_a_net_loss_pays_nothing() -> None:
    battle = VecBattle(
        "10gen_protoss", 1, n_units=1, n_enemies=1, capability_config=team_of("zealot")
    )
    ally, enemy = battle.units(0)
    ally[0, :2], enemy[0, :2], enemy[0, 3] = (2, 2), (30, 30), 10
    battle.place(0, ally, enemy)
    battle.step([[1]])
    assert battle.units(0)[1][0, 3] == 11  # shields came back; SMAC would pay for that
    assert battle.reward[0] == 0


def test_a_win_without_regeneration_returns_twenty_whatever_the_teams() -> None:
    battle = VecBattle(
        "10gen_terran", 30, autoreset=False, capability_config=team_of("marine", "marauder")
    )
    for b in range(30):
        ally, enemy = battle.units(b)
        ally[:, 2] = 1e6
        battle.place(b, ally, enemy)
    run_out(battle, nearest)
    assert battle.info["battle_won"].all()
    assert battle.info["episode_return"] == pytest.approx([20] * 30, abs=1e-3)


def test_several_medivacs_left_are_beaten() -> None:
    capabilities = team_of("marine", "medivac", exceptions=("medivac",))
    battle = VecBattle("10gen_terran", 1, capability_config=capabilities, autoreset=False)
    while battle.unit_names(0)[5:].count("Medivac") < 2:
        battle.reset()
    ally, enemy = battle.units(0)
    enemy[[name == "Marine" for name in battle.unit_names(0)[5:]], 2] = 0
    battle.place(0, ally, enemy)
    battle.step(waiting(battle))
    assert battle.info["battle_won"][0]


@pytest.mark.parametrize("name", ["10gen_terran", "10gen_protoss", "10gen_zerg"])
def test_enemies_hunt_whoever_waits(name: str) -> None:
    record = play(name, "stop", 100)
    assert record.win_rate <= 0.03  # banelings may do for each other's enemies
    assert not record.timed_out.any()


@pytest.mark.parametrize("name", ["10gen_terran", "10gen_protoss", "10gen_zerg"])
def test_equal_teams_win_equally_often(name: str) -> None:
    capabilities = {"start_positions": {"dist_type": "reflect_position"}}
    battle = VecBattle(
        name, 600, autoreset=False, scripted_allies=True, capability_config=capabilities
    )
    run_out(battle, waiting)
    won = battle.info["battle_won"].mean()
    drawn = ((battle.info["dead_allies"] == 5) & (battle.info["dead_enemies"] == 5)).mean()
    assert won + drawn / 2 == pytest.approx(0.5, abs=0.07)


def error(call, *args: object, **kwargs: object) -> str:
    with pytest.raises(EnvError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prob_obs_enmy": 1.0}, "unknown battle option 'prob_obs_enmy'. Did you mean 'prob_obs_"),
        ({"prob_obs_enemy": 1.5}, "battle option 'prob_obs_enemy' must lie in 0..1, got 1.5."),
        ({"conic_fov": 1}, "battle option 'conic_fov' must be true or false, got 1."),
        ({"num_fov_actions": 1}, "battle options 'num_fov_actions' and"),
        ({"n_units": 0}, "n_units must be a whole number from 1 to 64, got 0."),
        ({"capability_config": [5]}, "capability_config must be a mapping, got [5]."),
        ({"capability_config": {"team": {}}}, "unknown entry 'team' in capability_config."),
        (
            {"capability_config": {"health": {}}},
            "capability_config.health is not offered by the battle engine.",
        ),
        (
            {"capability_config": team_of("zealot")},
            "unit type 'zealot' is not on 10gen_terran. Types are marine, marauder, medivac.",
        ),
        (
            {"capability_config": team_of("marine", exceptions=("marine",))},
            "capability_config.team_gen would draw only exception_unit_types: ['marine'].",
        ),
        (
            {"capability_config": {"team_gen": {"unit_types": ["marine"], "weights": [0.5]}}},
            "capability_config.team_gen.weights must sum to 1, got [0.5].",
        ),
        (
            {"capability_config": {"team_gen": {"unit_types": ["marine"]}}},
            "capability_config.team_gen needs different unit_types and one weight each",
        ),
        (
            {"capability_config": {"team_gen": {"dist_type": "all_teams"}}},
            "capability_config.team_gen.dist_type must be weighted_teams, got 'all_teams'.",
        ),
        (
            {"capability_config": {"team_gen": {"wieghts": [1]}}},
            "unknown key 'wieghts' in capability_config.team_gen. Did you mean 'weights'?",
        ),
        (
            {"capability_config": {"start_positions": {"dist_type": "surounded"}}},
            "capability_config.start_positions.dist_type must be one of surrounded, reflect_position",
        ),
        (
            {"capability_config": starts("surrounded_and_reflect", p=2)},
            "capability_config.start_positions.p must lie in 0..1, got 2.",
        ),
    ],
)
def test_bad_input_is_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(EnvError, match=re.escape(message)):
        VecBattle("10gen_terran", 1, **options)


def test_maps_of_either_kind_are_kept_apart() -> None:
    assert error(VecBattle, "3m", 1, conic_fov=True) == (
        "battle option 'conic_fov' is SMACv2's: it goes with the maps "
        "10gen_terran, 10gen_protoss, 10gen_zerg."
    )
    assert "Did you mean '10gen_terran'" in error(VecBattle, "10gen_teran", 1)
    assert "draws its teams anew" in error(observe, "10gen_zerg", [], [], [], 0)
    assert "draws its teams anew" in error(map_info, "10gen_zerg")
    assert "'conic_fov' is SMACv2's" in error(StarCraft2Env, "3m", conic_fov=True)
    assert "'capability_config' is SMACv2's" in error(
        StarCraft2Env, "3m", capability_config=MARINES
    )


def test_complaints_name_the_drawn_type() -> None:
    battle = VecBattle("10gen_protoss", 1, capability_config=team_of("stalker"))
    put(battle, [(16, 12 + i) for i in range(5)], [(1, 1 + i) for i in range(5)])
    with pytest.raises(EnvError, match=r"agent 0 \(Stalker, alive\): action 6 is not available"):
        battle.step([[6, 1, 1, 1, 1]])
