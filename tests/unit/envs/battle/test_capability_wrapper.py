"""SMACv2's wrapper and arguments on the drop-in class: scripts written for SMACv2 run unchanged."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from phalanx.envs.battle import StarCraft2Env, StarCraftCapabilityEnvWrapper, VecBattle
from phalanx.errors import EnvError

CAPABILITIES: dict[str, Any] = {
    "n_units": 4,
    "n_enemies": 5,
    "team_gen": {
        "dist_type": "weighted_teams",
        "unit_types": ["marine", "marauder", "medivac"],
        "exception_unit_types": ["medivac"],
        "weights": [0.45, 0.45, 0.1],
        "observe": True,
    },
    "start_positions": {"dist_type": "surrounded_and_reflect", "p": 0.5, "map_x": 32, "map_y": 32},
}
TEAMS: dict[str, Any] = {
    "ally_team": ["medivac", "marine", "marauder", "marine"],
    "enemy_team": ["marauder", "marine", "medivac", "marine", "marauder"],
    "id": 0,
}


def make(**kwargs: Any) -> StarCraftCapabilityEnvWrapper:
    options = {
        "capability_config": copy.deepcopy(CAPABILITIES),
        "map_name": "10gen_terran",
        "seed": 1,
    }
    return StarCraftCapabilityEnvWrapper(**options | kwargs)


def plain(**kwargs: Any) -> StarCraft2Env:
    env: StarCraft2Env = make(**kwargs).env
    return env


def column(values: Any, names: list[str], name: str) -> float:
    return float(values[names.index(name)])


@pytest.mark.parametrize("conic_fov", [False, True])
def test_a_script_for_smacv2_runs(conic_fov: bool) -> None:
    env = make(
        debug=False, conic_fov=conic_fov, use_unit_ranges=True, min_attack_range=2, obs_own_pos=True,
        fully_observable=False, obs_timestep_number=True, state_timestep_number=True,
    )  # fmt: skip
    info = env.get_env_info()
    assert (info["n_agents"], info["cap_shape"], info["episode_limit"]) == (4, 3, 200)
    assert info["n_actions"] == env.n_actions_no_attack + 5 == 6 + 12 * conic_fov + 5
    assert len(info["agent_features"]) == env.get_ally_num_attributes()
    assert len(info["enemy_features"]) == env.get_enemy_num_attributes()
    teams, rng = set(), np.random.default_rng(0)
    for _ in range(4):
        env.reset()
        teams.add(tuple(env.get_unit_types()))
        terminated, total = False, 0.0
        while not terminated:
            masks = [env.get_avail_agent_actions(i) for i in range(info["n_agents"])]
            reward, terminated, _ = env.step([rng.choice(np.flatnonzero(mask)) for mask in masks])
            total += reward
        assert len(env.get_state()) == info["state_shape"] == len(env.get_state_feature_names())
        assert len(env.get_obs()[0]) == info["obs_shape"] == len(env.get_obs_feature_names())
        assert total >= 0
    assert len(teams) > 1
    assert env.get_stats()["battles_game"] == 4
    env.close()


def test_defaults_are_those_of_smacv2s_class() -> None:
    env, batch = plain(), VecBattle(
        "10gen_terran", 1, seed=1, autoreset=False, capability_config=CAPABILITIES,
        use_unit_ranges=False, obs_own_pos=False,
    )  # fmt: skip
    obs, state = env.reset()
    np.testing.assert_array_equal(obs, batch.obs[0])
    np.testing.assert_array_equal(state, batch.state[0])
    assert {env.unit_shoot_range(i) for i in range(4)} == {6}
    own = plain(use_unit_ranges=True, min_attack_range=5)
    own.reset({"team_gen": TEAMS})
    assert [own.unit_shoot_range(i) for i in range(4)] == [6, 5, 5, 5]
    assert [own.unit_sight_range(i) for i in range(4)] == [10, 9, 9, 11]


def test_names_say_what_the_numbers_are() -> None:
    env = plain(obs_own_pos=True, conic_fov=True, obs_last_action=True)
    env.reset({"team_gen": TEAMS})
    actions = [1, 1, 1, 9]  # agent 3 looks north: fourth of twelve directions
    obs, names = (env.step(actions), env.get_obs())[1], env.get_obs_feature_names()
    state, state_names = env.get_state(), env.get_state_feature_names()
    for i, unit in env.agents.items():
        assert column(obs[i], names, "own_pos_x") == pytest.approx(unit.pos.x / 32)
        assert column(obs[i], names, "own_pos_y") == pytest.approx(unit.pos.y / 32)
        assert column(state, state_names, f"ally_relative_y_{i}") == pytest.approx(
            (unit.pos.y - 16) / 32
        )
        assert column(state, state_names, f"ally_last_action_{i}_action_{actions[i]}") == 1
        kind = env.get_unit_type_id(unit, ally=True)
        assert column(obs[i], names, f"own_unit_type_bit_{kind}") == 1
        assert column(state, state_names, f"ally_unit_type_{i}_bit_{kind}") == 1
        assert env.get_capabilities().reshape(4, 3)[i].tolist() == [
            float(k == kind) for k in range(3)
        ]
    np.testing.assert_allclose(env.fov_directions, [[1, 0]] * 3 + [[0, 1]], atol=1e-9)
    assert column(obs[3], names, "own_fov_y") == pytest.approx(1)
    assert column(state, state_names, "ally_fov_y_3") == pytest.approx(1)
    pieces = env.get_state_dict()
    flat = np.concatenate([np.ravel(piece) for piece in pieces.values()])
    np.testing.assert_array_equal(flat.astype(np.float32), state)


@pytest.mark.parametrize("options", [{}, {"obs_pathing_grid": True, "obs_terrain_height": True}])
def test_smacs_maps_have_names_too(options: dict[str, bool]) -> None:
    env = StarCraft2Env("MMM2", seed=0, obs_timestep_number=True, **options)
    obs, state = env.reset()
    assert len(env.get_obs_feature_names()) == len(obs[0])
    assert len(env.get_state_feature_names()) == len(state)


def test_teams_and_places_handed_to_reset() -> None:
    config = copy.deepcopy(CAPABILITIES)
    for key in ("team_gen", "start_positions"):  # what SMACv2's own wrapper leaves in it
        config[key] |= {"env_key": key, "n_units": 4, "n_enemies": 5}
    env = plain(capability_config=config)
    allies = np.array([[20.0, 20], [4, 8], [6, 8], [4, 6]])
    enemies = np.array([[28.0, 8 + 2 * j] for j in range(5)])
    places = {"ally_start_positions": {"item": allies}, "enemy_start_positions": {"item": enemies}}
    env.reset({"team_gen": TEAMS} | places)
    # Agents by type, x and y; types are numbered in the alphabet's order. Enemies as they were given.
    assert env.get_unit_types() == [2003, 2004, 2004, 2005, 51, 48, 54, 48, 51]
    assert [(u.pos.x, u.pos.y) for u in env.agents.values()] == [(6, 8), (4, 6), (4, 8), (20, 20)]
    assert [(u.pos.x, u.pos.y) for u in env.enemies.values()] == [
        tuple(p) for p in enemies.tolist()
    ]
    assert env.max_reward == 5 * 10 + 200 + 2 * 125 + 2 * 45 + 150
    assert env.get_visibility_matrix()[:3, :3].sum() == 6
    env.step([1] * 4)
    assert [u.health_max for u in env.enemies.values()] == [125, 45, 150, 45, 125]
    env.reset({"team_gen": TEAMS})
    assert all(u.pos.x < 16 for u in env.agents.values())
    assert all(u.pos.x > 16 for u in env.enemies.values())
    for health, over in (
        (0, True),
        (45, False),
    ):  # two medivacs or one: SMACv2 counts the others only
        ally, enemy = env._battle.units(0)
        enemy[:, 2] = [0, health, 150, 0, 0]
        env._battle.place(0, ally, enemy)
        assert env.only_medivac_left(ally=False) is over
        assert env.get_unit_types()[4:] == [51, 48, 54, 48, 51]  # still those that were given
    with pytest.raises(EnvError, match="battle 0 has teams that were fielded by hand"):
        env._battle.state_dict()
    env.reset()
    env._battle.state_dict()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"health": {"item": [1]}},
            "reset\\(\\) got 'health', which the battle engine does not offer",
        ),
        ({"team_gen": {"ally_team": ["marine"] * 4}}, "enemy_team has none"),
        ({"team_gen": TEAMS | {"ally_team": ["marine"]}}, "of 4 and 5 units; ally_team has 1"),
        ({"team_gen": TEAMS | {"ally_team": ["zealot"] * 4}}, "unit type 'zealot' is not one"),
        (
            {
                "ally_start_positions": {"item": [[99, 1]] * 4},
                "enemy_start_positions": {"item": [[1, 1]] * 5},
            },
            "places must lie on the map",
        ),
    ],
)
def test_what_cannot_be_fielded_is_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(EnvError, match=message):
        plain().reset(config)


def test_refusals() -> None:
    with pytest.raises(EnvError, match="needs a capability_config"):
        StarCraftCapabilityEnvWrapper(map_name="10gen_terran")
    with pytest.raises(EnvError, match="obs_starcraft=False"):
        StarCraft2Env("10gen_terran", obs_starcraft=False)
    with pytest.raises(EnvError, match="the teams of '3m' are fixed"):
        StarCraft2Env("3m").reset(
            {"team_gen": {"ally_team": ["marine"] * 3, "enemy_team": ["marine"] * 3}}
        )
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = make().no_such_thing
