"""Ground: walls hold, paths lead around them, and the maps' own orders."""

from __future__ import annotations

import numpy as np
import pytest

from phalanx.envs.battle import BattleMap, VecBattle, map_info, map_names, terrain
from phalanx.envs.battle.layout import GOAL_X, GOAL_Y

from .arena import EAST, random_actions, waiting

WALLED = ("diagonal_choke", "winding_ground", "ravine_two_ramps")
NORTH, SOUTH, WEST = 2, 3, 5


def depth_in_walls(at: np.ndarray, rims: np.ndarray, name: str) -> float:
    """How far the bodies (K, 2) reach into blocked cells at most, measured cell by cell."""
    walls = terrain._walls(name)
    return max(
        float(
            (rims - terrain._distance(at[:, 0], at[:, 1], int(x), int(y), int(walls[x, y]))).max()
        )
        for x, y in np.argwhere(walls != terrain.FREE)
    )


def marcher(name: str, goal: tuple[float, float], count: int) -> VecBattle:
    """Battles of one unarmed zergling under way to a point."""
    battle_map = BattleMap(
        name="march",
        agents=("Colossus",),
        enemies=("Zergling",),
        ally_start=((16.0, 16.0),),
        enemy_start=((16.0, 16.0),),
        limit=10_000,
        terrain=name,
        enemy_goal=goal,
    )
    battle = VecBattle(battle_map, count, autoreset=False)
    battle._stats["targets"][1] = 0
    return battle


@pytest.mark.parametrize("name", sorted({map_info(name)["terrain"] for name in map_names()}))
def test_octagons_are_told_from_ground_with_walls(name: str) -> None:
    assert terrain.outline(name).convex == (name not in WALLED)


@pytest.mark.parametrize("name", WALLED)
def test_every_cell_has_a_path_to_every_other(name: str) -> None:
    ground = terrain.load_ground(name)
    assert len(ground.stops) < terrain.STRAIGHT
    stop_cells = (ground.stops.astype(int) * [terrain.SIZE, 1]).sum(axis=1)
    goals = np.arange(terrain.SIZE**2)[:, None]
    at = np.broadcast_to(goals.T, ground.hops.shape)
    for _ in range(len(ground.stops)):
        hop = ground.hops[goals, at]
        at = np.where(hop == terrain.STRAIGHT, at, stop_cells[np.minimum(hop, len(stop_cells) - 1)])
    assert (ground.hops[goals, at] == terrain.STRAIGHT).all()


@pytest.mark.parametrize(
    ("name", "goal"),
    [
        ("diagonal_choke", (4.47, 4.33)),
        ("diagonal_choke", (27.91, 28.24)),
        ("winding_ground", (4.47, 4.33)),
        ("ravine_two_ramps", (16.0, 16.0)),
        ("ravine_two_ramps", (3.0, 18.5)),
    ],
)
def test_units_find_their_way_and_keep_off_the_walls(name: str, goal: tuple[float, float]) -> None:
    cells = np.argwhere(terrain._walls(name) == terrain.FREE) + 0.5
    starts = cells[::3]
    battle = marcher(name, goal, len(starts))
    rims = np.full(len(starts), 0.375)
    for b, start in enumerate(starts):
        ally, _ = battle.units(b)
        battle.place(b, ally, [[*start, 35, 0]])
    for _ in range(45):
        battle.step(waiting(battle))
        at = np.array([battle.units(b)[1][0, :2] for b in range(len(starts))])
        assert depth_in_walls(at, rims, name) < 0.01
    assert np.hypot(*(at - goal).T).max() < 0.6


@pytest.mark.parametrize("name", ["corridor", "so_many_baneling", "2c_vs_64zg", "bane_vs_bane"])
def test_nobody_is_pushed_into_a_wall(name: str) -> None:
    rng = np.random.default_rng(0)
    battle = VecBattle(name, 2)
    walkers = battle._stats["plane"] == 0
    rims = battle._stats["separation"][walkers]
    for _ in range(40):
        battle.step(random_actions(battle, rng))
        for b in range(2):
            ally, enemy = battle.units(b)
            at = np.concatenate([ally[:, :2], enemy[:, :2]])[walkers]
            assert depth_in_walls(at, rims, battle.map.terrain) < 0.05


def test_the_corner_of_an_octagon_is_cut() -> None:
    battle = marcher("octagon", (7.0, 7.0), 1)
    for _ in range(15):
        battle.step([[1]])
    x, y = battle.units(0)[1][0, :2]
    assert x + y == pytest.approx(16 + 0.375 * np.sqrt(2))


def test_zerglings_below_the_colossi_come_by_both_ramps() -> None:
    battle = VecBattle("2c_vs_64zg", 1)
    battle._stats["targets"][0] = battle._stats["targets"][1] = 0
    nearest, sides = [], []
    for _ in range(26):
        battle.step(waiting(battle))
        enemy = battle.units(0)[1]
        sides.append((enemy[:, 0].min(), enemy[:, 0].max()))
        nearest.append(np.hypot(enemy[:, 0] - 16, enemy[:, 1] - 14.5).min())
    assert min(side[0] for side in sides) < 4
    assert max(side[1] for side in sides) > 28
    assert min(nearest[:10]) > 1.475  # the straight way, 2.4 through the cliff, is not taken
    assert nearest[-1] < 1.5


def test_colossi_cross_cliffs_but_not_the_void() -> None:
    def walk(goal: tuple[float, float]) -> tuple[float, float]:
        battle_map = BattleMap(
            name="cliff",
            agents=("Colossus",),
            enemies=("Zergling",),
            ally_start=((16.0, 16.0),),
            enemy_start=((4.0, 10.0),),
            limit=10_000,
            terrain="ravine_two_ramps",
            enemy_goal=None,
            ally_goal=goal,
        )
        battle = VecBattle(battle_map, 1, scripted_allies=True, autoreset=False)
        battle._stats["targets"][0] = 0
        for _ in range(12):
            battle.step([[1]])
        x, y = battle.units(0)[0][0, :2]
        return float(x), float(y)

    assert walk((16.0, 9.0))[1] < 9.6
    assert walk((16.0, 25.0)) == pytest.approx((16.0, 20 - 0.75))


def test_agents_cannot_order_a_step_over_the_cliff() -> None:
    battle = VecBattle("2c_vs_64zg", 1)
    ally, enemy = battle.units(0)
    ally[0, :2], enemy[:, :2] = (16.0, 14.9), (2.0, 8.0)
    battle.place(0, ally, enemy)
    assert battle.avail_actions[0, 0, [NORTH, SOUTH, EAST, WEST]].tolist() == [1, 0, 1, 1]


def test_the_zealot_of_2m_vs_1z_goes_somewhere_between_the_marines() -> None:
    battle = VecBattle("2m_vs_1z", 64)
    goals = battle._battle_state.units[:, [GOAL_X, GOAL_Y], 2]
    assert (goals[:, 1] == 12).all()
    assert goals[:, 0].min() > 13
    assert goals[:, 0].max() < 19
    assert goals[:, 0].std() > 1


def test_the_spine_crawler_stays_and_waits() -> None:
    battle = VecBattle("2s_vs_1sc", 1, autoreset=False)
    for _ in range(20):
        battle.step(waiting(battle))
    ally, enemy = battle.units(0)
    assert tuple(enemy[0, :2]) == (14.0, 20.0)
    assert (ally[:, 3] == 80).all()
