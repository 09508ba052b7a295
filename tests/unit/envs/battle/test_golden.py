"""Observation, state, masks and reward against numbers of SMAC's own class."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from phalanx.envs.battle import battle_reward, map_info, map_names, observe

GOLDEN = Path(__file__).parents[3] / "golden" / "smac"
CASES = [
    (path.stem, case)
    for path in sorted(GOLDEN.glob("*.npz"))
    for case in range(len(json.loads(str(np.load(path)["options_json"]))))
]

# From SMAC's get_env_info(): agents, enemies, limit, actions, observation, state.
SHAPES = {
    "3m": (3, 3, 60, 9, 30, 48),
    "8m": (8, 8, 120, 14, 80, 168),
    "25m": (25, 25, 150, 31, 250, 950),
    "5m_vs_6m": (5, 6, 70, 12, 55, 98),
    "8m_vs_9m": (8, 9, 120, 15, 85, 179),
    "10m_vs_11m": (10, 11, 150, 17, 105, 243),
    "27m_vs_30m": (27, 30, 180, 36, 285, 1170),
    "MMM": (10, 10, 150, 16, 160, 290),
    "MMM2": (10, 12, 180, 18, 176, 322),
    "2s3z": (5, 5, 120, 11, 80, 120),
    "3s5z": (8, 8, 150, 14, 128, 216),
    "3s5z_vs_3s6z": (8, 9, 170, 15, 136, 230),
    "3s_vs_3z": (3, 3, 150, 9, 36, 54),
    "3s_vs_4z": (3, 4, 200, 10, 42, 61),
    "3s_vs_5z": (3, 5, 250, 11, 48, 68),
    "1c3s5z": (9, 9, 180, 15, 162, 270),
    "2m_vs_1z": (2, 1, 150, 7, 16, 26),
    "corridor": (6, 24, 400, 30, 156, 282),
    "6h_vs_8z": (6, 8, 150, 14, 78, 140),
    "2s_vs_1sc": (2, 1, 300, 7, 17, 27),
    "so_many_baneling": (7, 32, 100, 38, 202, 397),
    "bane_vs_bane": (24, 24, 200, 30, 336, 984),
    "2c_vs_64zg": (2, 64, 400, 70, 332, 342),
}


@pytest.mark.parametrize(("name", "case"), CASES)
def test_matches_smac(name: str, case: int) -> None:
    with np.load(GOLDEN / f"{name}.npz") as file:
        options = json.loads(str(file["options_json"]))[case]
        golden = {key.split("/")[1]: file[key] for key in file if key.startswith(f"opt{case}/")}
    views = observe(
        name, golden["ally"], golden["enemy"], golden["last_action"], golden["step"], **options
    )
    for ours, theirs in (("obs", "obs"), ("state", "state"), ("avail_actions", "avail")):
        assert views[ours].shape == golden[theirs].shape
        np.testing.assert_allclose(views[ours], golden[theirs], rtol=0, atol=1e-6)
    for k, expected in enumerate(golden["reward"]):
        reward = battle_reward(
            name,
            (golden["ally"][k], golden["enemy"][k]),
            (golden["ally2"][k], golden["enemy2"][k]),
            (golden["dead_ally_before"][k], golden["dead_enemy_before"][k]),
            **options,
        )
        assert reward == pytest.approx(expected, abs=1e-6)


def test_all_maps_are_known() -> None:
    assert set(map_names()) == set(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name: str) -> None:
    n_agents, n_enemies, limit, n_actions, obs, state = SHAPES[name]
    info = map_info(name)
    assert (info["n_agents"], info["n_enemies"], info["limit"]) == (n_agents, n_enemies, limit)
    ally, enemy = np.full((n_agents, 6), 10.0), np.full((n_enemies, 4), 20.0)
    views = observe(name, ally, enemy, np.full(n_agents, -1), 0)
    assert views["obs"].shape == (n_agents, obs)
    assert views["state"].shape == (state,)
    assert views["avail_actions"].shape == (n_agents, n_actions)


def test_terrain_height_is_smacs_byte() -> None:
    ally = np.tile([10.0, 16.0, 45.0, 0.0, 0.0, 0.0], (3, 1))
    enemy = np.tile([20.0, 16.0, 45.0, 0.0], (3, 1))
    obs = observe("3m", ally, enemy, np.full(3, -1), 0, obs_terrain_height=True)["obs"]
    np.testing.assert_allclose(obs[0, 4:13], 191 / 255)  # flat ground at z = 8
    ally[0, 1] = 23.0  # four cells further north lies the void at z = 1
    obs = observe("3m", ally, enemy, np.full(3, -1), 0, obs_terrain_height=True)["obs"]
    assert obs[0, 4] == pytest.approx(135 / 255)
