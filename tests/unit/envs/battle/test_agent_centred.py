"""MAPPO's layout of observations and state: its published sizes, and what stands in which place."""

from __future__ import annotations

import numpy as np
import pytest

from phalanx.envs.battle.agent_centred import Widths
from phalanx.envs.battle.maps import find_map
from phalanx.envs.sc2 import SC2Config, SC2Env
from phalanx.errors import EnvError

# Agents, enemies, actions, and the lengths of observation and state on each map.
PUBLISHED = {
    "3m": (3, 3, 9, 64, 81),
    "8m": (8, 8, 14, 204, 251),
    "5m_vs_6m": (5, 6, 12, 124, 156),
    "8m_vs_9m": (8, 9, 15, 217, 267),
    "10m_vs_11m": (10, 11, 17, 289, 351),
    "27m_vs_30m": (27, 30, 36, 1288, 1458),
    "MMM": (10, 10, 16, 334, 393),
    "MMM2": (10, 12, 18, 370, 435),
    "2s3z": (5, 5, 11, 144, 173),
    "3s5z": (8, 8, 14, 252, 299),
    "3s5z_vs_3s6z": (8, 9, 15, 268, 318),
    "3s_vs_3z": (3, 3, 9, 70, 87),
    "3s_vs_4z": (3, 4, 10, 79, 99),
    "3s_vs_5z": (3, 5, 11, 88, 111),
    "1c3s5z": (9, 9, 15, 310, 363),
    "2m_vs_1z": (2, 1, 7, 36, 44),
    "2s_vs_1sc": (2, 1, 7, 37, 45),
    "corridor": (6, 24, 30, 346, 435),
    "6h_vs_8z": (6, 8, 14, 172, 213),
    "so_many_baneling": (7, 32, 38, 479, 595),
    "bane_vs_bane": (24, 24, 30, 1084, 1227),
    "2c_vs_64zg": (2, 64, 70, 478, 675),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_the_published_ones(name: str) -> None:
    agents, enemies, actions, obs, state = PUBLISHED[name]
    battle_map = find_map(name)
    assert (len(battle_map.agents), len(battle_map.enemies)) == (agents, enemies)
    assert Widths.of_obs(battle_map, actions).total == obs
    assert Widths.of_state(battle_map, actions).total == state


def test_what_stands_where() -> None:
    """Beside SMAC's own layout of the same battles, which has the same numbers in other places."""
    plain, env = (
        SC2Env(
            SC2Config(map_name="3m", engine="embedded", layout=layout, obs_last_action=True),
            num_envs=2,
            seed=0,
        )
        for layout in ("smac", "mappo")
    )
    theirs, ours = plain.reset(), env.reset()
    assert (env.spec.obs_dim, env.spec.state_dim) == (64, 81)
    rng = np.random.default_rng(0)
    deaths = 0
    for _ in range(40):
        smac, obs, state = theirs.obs, ours.obs, ours.state  # (2, 3, 4 + 15 + 28 + 1)
        np.testing.assert_allclose(obs[..., 0:28], smac[..., 19:47], atol=1e-6)  # two allies
        np.testing.assert_allclose(obs[..., 28:43], smac[..., 4:19], atol=1e-6)  # three enemies
        np.testing.assert_array_equal(obs[..., 43:47], smac[..., 0:4])  # where it can walk
        assert theirs.alive is not None
        alive = theirs.alive
        deaths += int((~alive).sum())
        np.testing.assert_array_equal(obs[..., 47], alive)
        assert not obs[..., 48:51].any()
        np.testing.assert_allclose(obs[..., 51], smac[..., 47], atol=1e-6)  # own health
        np.testing.assert_array_equal(obs[..., 61:], np.broadcast_to(np.eye(3), (2, 3, 3)))
        first = alive[:, 0]
        health = theirs.state[:, [0, 4, 8]]  # of the agents; then come cooldown, x and y
        for place, j in enumerate((1, 2)):
            block = state[:, 17 * place : 17 * place + 17]
            lives = (alive[:, j] & first)[:, None]
            facts = np.stack([block[:, 4], block[:, 5], block[:, 6], block[:, 7]], axis=1)
            expected = theirs.state[:, [4 * j + 1, 4 * j, 4 * j + 2, 4 * j + 3]]
            np.testing.assert_allclose(facts * lives, expected * lives, atol=1e-6)
        for e in range(3):
            block, unit = state[:, 34 + 8 * e :][:, :8], theirs.state[:, 12 + 3 * e :][:, :3]
            seen = first[:, None] * np.stack([block[:, 5], block[:, 6], block[:, 7]], axis=1)
            np.testing.assert_allclose(seen, unit * first[:, None], atol=1e-6)
        np.testing.assert_allclose(state[:, 66], health[:, 0] * first, atol=1e-6)
        np.testing.assert_array_equal(state[:, -3:], [[1, 0, 0]] * 2)
        chances = rng.random(theirs.avail_actions.shape) * theirs.avail_actions
        actions = chances.argmax(axis=-1)
        theirs, ours = plain.step(actions), env.step(actions)
        np.testing.assert_array_equal(ours.reward, theirs.reward)
        over = theirs.terminated | theirs.truncated
        if over.any():
            theirs, ours = plain.reset(over), env.reset(over)
    assert deaths


def test_where_it_is_not_offered_it_is_refused() -> None:
    with pytest.raises(EnvError, match="layout=mappo is for SMAC's maps"):
        SC2Env(SC2Config(map_name="10gen_terran", layout="mappo"), num_envs=1, seed=0)
