"""The drop-in for SMAC's class: what PyMARL-type code relies on, and SMAC's quirks."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from phalanx.envs.battle import BattleMap, StarCraft2Env, VecBattle, map_names
from phalanx.envs.battle.layout import STEP
from phalanx.envs.battle.watch import load_trace
from phalanx.envs.starcraft2 import StarCraft2Game
from phalanx.errors import EnvError, RenderError, UnavailableActionError

from .test_golden import GOLDEN, SHAPES

# SMAC's constructor, in its order (its documentation and source).
DEFAULTS = {
    "map_name": "8m", "step_mul": 8, "move_amount": 2, "difficulty": "7", "game_version": None,
    "seed": None, "continuing_episode": False, "obs_all_health": True, "obs_own_health": True,
    "obs_last_action": False, "obs_pathing_grid": False, "obs_terrain_height": False,
    "obs_instead_of_state": False, "obs_timestep_number": False, "state_last_action": True,
    "state_timestep_number": False, "reward_sparse": False, "reward_only_positive": True,
    "reward_death_value": 10, "reward_win": 200, "reward_defeat": 0, "reward_negative_scale": 0.5,
    "reward_scale": True, "reward_scale_rate": 20, "replay_dir": "", "replay_prefix": "",
    "window_size_x": 1920, "window_size_y": 1200, "heuristic_ai": False, "heuristic_rest": False,
    "debug": False,
}  # fmt: skip


def run_episode(env: Any, choose: Any) -> tuple[float, int, dict[str, Any]]:
    """An episode the way PyMARL's episode runner plays it."""
    env.reset()
    terminated, total, length, info = False, 0.0, 0, {}
    while not terminated:
        seen = {
            "state": [env.get_state()],
            "avail_actions": [env.get_avail_actions()],
            "obs": [env.get_obs()],
        }
        tensors = {key: torch.tensor(np.array(value)) for key, value in seen.items()}
        assert tensors["obs"].shape == (1, env.n_agents, env.get_obs_size())
        assert tensors["state"].shape == (1, env.get_state_size())
        actions = choose(tensors["avail_actions"][0])
        reward, terminated, info = env.step(actions)
        total += reward
        length += 1
    return total, length, info


def first_attack_or_east(avail: torch.Tensor) -> torch.Tensor:
    """Attack the first enemy at hand, else walk east."""
    weights = torch.tensor([1, 2, 0, 0, 3, 0, *range(100, 100 - avail.shape[1] + 6, -1)])
    return (avail * weights).argmax(-1)


def test_constructor_is_smacs() -> None:
    parameters = inspect.signature(StarCraft2Env).parameters.values()
    smacs = {p.name: p.default for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}
    assert list(smacs.items()) == list(DEFAULTS.items())


def test_episode_runner_loop_counts_battles() -> None:
    env = StarCraft2Env(map_name="3m", seed=3)
    with pytest.raises(ZeroDivisionError):
        env.get_stats()
    wins, draws = 0, 0
    for _ in range(4):
        total, length, info = run_episode(env, first_attack_or_east)
        assert set(info) == {"battle_won", "dead_allies", "dead_enemies"}
        assert info["battle_won"] == (info["dead_enemies"] == 3)
        assert (total == pytest.approx(20, abs=1e-4)) == info["battle_won"]
        assert 0 < length <= env.episode_limit == 60
        wins += info["battle_won"]
        draws += length == 60 and not info["battle_won"]
    assert env.get_stats() == {
        "battles_won": wins, "battles_game": 4, "battles_draw": draws, "win_rate": wins / 4,
        "timeouts": draws, "restarts": 0,
    }  # fmt: skip
    env.close()


def test_return_types() -> None:
    env = StarCraft2Env("2s3z", seed=0)
    obs, state = env.reset()
    assert isinstance(obs, list)
    assert [(o.dtype, o.shape) for o in obs] == [(np.float32, (80,))] * 5
    assert (state.dtype, state.shape) == (np.float32, (120,))
    np.testing.assert_array_equal(env.get_obs_agent(2), obs[2])
    mask = env.get_avail_actions()
    assert {type(a) for row in mask for a in row} == {int}
    assert env.get_avail_agent_actions(1) == mask[1]
    reward, terminated, info = env.step([1] * 5)
    assert (type(reward), type(terminated)) == (float, bool)
    assert {k: type(v) for k, v in info.items()} == {
        "battle_won": bool, "dead_allies": int, "dead_enemies": int,
    }  # fmt: skip
    assert obs[0] is not env.get_obs()[0]  # what was returned stays as it was
    np.testing.assert_array_equal(env.last_action, np.eye(11)[[1] * 5])
    seen = env.get_visibility_matrix()
    assert (seen.dtype, seen.shape) == (bool, (5, 10))
    assert not seen.diagonal().any()
    assert (seen[:, :5] == seen[:, :5].T).all()
    pieces = env.get_state_dict()
    assert {k: np.shape(v) for k, v in pieces.items()} == {
        "allies": (5, 7), "enemies": (5, 6), "last_action": (5, 11),
    }  # fmt: skip
    flat = np.concatenate([np.ravel(v) for v in pieces.values()])
    np.testing.assert_array_equal(flat.astype(np.float32), env.get_state())
    unit = env.get_unit_by_id(0)
    assert (unit.health, unit.shield, unit.unit_type) == (80, 80, env.get_unit_types()[0])
    assert sorted(env.get_unit_types()[5:]) == [73, 73, 73, 74, 74]
    assert {u.unit_type for u in env.enemies.values()} == {73, 74}
    assert env.seed() == 0


@pytest.mark.parametrize("name", map_names())
def test_env_info_of_every_map(name: str) -> None:
    n_agents, n_enemies, limit, n_actions, obs, state = SHAPES[name]
    env = StarCraft2Env(map_name=name, seed=0)
    info = env.get_env_info()
    sizes = ("state_shape", "obs_shape", "n_actions", "n_agents", "episode_limit")
    assert tuple(info[k] for k in sizes) == (state, obs, n_actions, n_agents, limit)
    assert list(info) == [*sizes, "agent_features", "enemy_features"]
    assert (len(info["agent_features"]), len(info["enemy_features"])) == (
        env.get_ally_num_attributes(),
        env.get_enemy_num_attributes(),
    )
    enemies, width = env.get_obs_enemy_feats_size()
    others, ally_width = env.get_obs_ally_feats_size()
    total = env.get_obs_move_feats_size() + env.get_obs_own_feats_size()
    assert total + enemies * width + others * ally_width == obs
    assert (env.n_agents, env.n_enemies, env.n_actions) == (n_agents, n_enemies, n_actions)
    assert [len(o) for o in env.reset()[0]] == [obs] * n_agents


def test_feature_names() -> None:
    info = StarCraft2Env("1c3s5z", seed=0).get_env_info()
    types = ["type_0", "type_1", "type_2"]
    assert info["agent_features"] == [
        "health", "energy/cooldown", "rel_x", "rel_y", "shield", *types,
    ]  # fmt: skip
    assert info["enemy_features"] == ["health", "rel_x", "rel_y", "shield", *types]
    assert StarCraft2Env("3m", seed=0).get_env_info()["enemy_features"] == [
        "health", "rel_x", "rel_y",
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "most"), [("3m", 365), ("MMM2", 1205), ("3s_vs_5z", 1000)])
def test_max_reward(name: str, most: float) -> None:
    assert StarCraft2Env(name, seed=0).max_reward == most


def test_step_number_is_declared_once_and_there_twice() -> None:
    env = StarCraft2Env("3m", seed=0, obs_timestep_number=True)
    env.reset()
    assert env.get_obs_size() == 31
    env.step([1, 1, 1])
    obs = env.get_obs_agent(0)
    assert (obs.dtype, len(obs), obs[-1], obs[-2]) == (np.float64, 32, 1 / 60, 0)


def test_observations_as_state() -> None:
    env = StarCraft2Env("3m", seed=0, obs_instead_of_state=True)
    plain = StarCraft2Env("3m", seed=0)
    obs, state = env.reset()
    plain.reset()
    np.testing.assert_array_equal(state, np.concatenate(obs))
    assert env.get_state_size() == 90
    for piece in ("allies", "enemies"):
        np.testing.assert_array_equal(env.get_state_dict()[piece], plain.get_state_dict()[piece])


def golden_cases() -> list[tuple[str, int]]:
    """Option sets of the maps that can be fought on."""
    names = [path.stem for path in sorted(GOLDEN.glob("*.npz")) if path.stem in map_names()]
    return [
        (name, case)
        for name in names
        for case in range(len(json.loads(str(np.load(GOLDEN / f"{name}.npz")["options_json"]))))
    ]


@pytest.mark.parametrize(("name", "case"), golden_cases())
def test_units_as_smac_sees_them(name: str, case: int) -> None:
    with np.load(Path(GOLDEN) / f"{name}.npz") as file:
        options = json.loads(str(file["options_json"]))[case]
        golden = {key.split("/")[1]: file[key] for key in file if key.startswith(f"opt{case}/")}
    env = StarCraft2Env(name, seed=0, **options)
    for k, step in enumerate(golden["step"].tolist()):
        env.reset()
        env._battle.place(0, golden["ally"][k], golden["enemy"][k])
        saved = env._battle.state_dict()
        saved["battles"]["last_action"][0] = golden["last_action"][k]
        saved["battles"]["battle"][0, STEP] = env._episode_steps = step
        env._battle.load_state_dict(saved)
        assert env.get_avail_actions() == golden["avail"][k].tolist()
        for ours, theirs in ((env.get_obs(), "obs"), (env.get_state(), "state")):
            np.testing.assert_allclose(ours, golden[theirs][k], rtol=0, atol=1e-6)


def test_unavailable_actions_are_named() -> None:
    env = StarCraft2Env("3m", seed=0)
    env.reset()
    with pytest.raises(AssertionError) as caught:
        env.step([1, 8, 1])
    assert isinstance(caught.value, UnavailableActionError)
    assert str(caught.value) == (
        "agent 1 (Marine, alive): action 8 is not available; available are [1, 2, 3, 4, 5]."
    )
    with pytest.raises(AssertionError, match=r"agent 0 .* action 0 is not available"):
        env.step([0, 1, 1])
    assert env._episode_steps == 0
    for wrong in ([1, 1], [1, 1, 1.5], None, [[1, 1, 1]], ["a", 1, 1]):
        with pytest.raises(EnvError, match=r"takes one whole number per agent \(3 of them\), got"):
            env.step(wrong)
    env.step(np.array([1.0, 1.0, 1.0]))


def test_order_of_calls_is_checked() -> None:
    env = StarCraft2Env("3m", seed=0)
    with pytest.raises(EnvError, match="step\\(\\) before reset"):
        env.step([1, 1, 1])
    with pytest.raises(EnvError, match="call reset\\(\\) first"):
        env.get_obs()
    assert env.agents == {}
    run_episode(env, lambda avail: [int(row[1]) for row in avail])
    with pytest.raises(EnvError, match="the episode is over: call reset"):
        env.step([1, 1, 1])
    assert len(env.get_obs()) == 3  # the last view stays


def test_wrong_names_get_a_suggestion() -> None:
    with pytest.raises(EnvError, match=r"unknown map '3mm'\. Did you mean '3m'"):
        StarCraft2Env("3mm")
    with pytest.raises(EnvError, match="'obs_last_action' must be true or false, got 1"):
        StarCraft2Env("3m", obs_last_action=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("continuing", [False, True])
def test_the_clock(continuing: bool) -> None:
    hidden = BattleMap(
        "hidden", ("Marine",), ("Marine",), ((2.0, 16.0),), ((30.0, 16.0),), 4, enemy_goal=None
    )
    env = StarCraft2Env(hidden, seed=0, continuing_episode=continuing)
    total, length, info = run_episode(env, lambda avail: [1])
    assert (total, length, env.timeouts, env.battles_game, env.battles_won) == (0.0, 4, 1, 1, 0)
    expected = {"battle_won": False, "dead_allies": 0, "dead_enemies": 0}
    assert info == expected | ({"episode_limit": True} if continuing else {})
    assert env.get_stats()["battles_draw"] == 1


def test_heuristic_writes_what_it_did_into_the_callers_list() -> None:
    env = StarCraft2Env("3m", seed=0, heuristic_ai=True)
    env.reset()
    for _ in range(20):
        actions = [1, 1, 1]
        env.step(actions)
        if max(actions) >= 6:
            break
    assert all(a >= 6 for a in actions)


def test_same_seed_same_battles_as_the_batch() -> None:
    env, batch = StarCraft2Env("MMM", seed=5), VecBattle("MMM", 1, seed=5, autoreset=False)
    env.reset()
    over = False
    while not over:
        actions = first_attack_or_east(torch.tensor(env.get_avail_actions()))
        reward, over, _ = env.step(actions)
        batch.step(actions.numpy()[None])
        np.testing.assert_array_equal(env.get_obs(), batch.obs[0])
        np.testing.assert_array_equal(env.get_state(), batch.state[0])
        assert reward == batch.reward[0]
    env.full_restart()
    assert env.force_restarts == 1
    batch.load_state_dict(VecBattle("MMM", 1, seed=5, autoreset=False).state_dict())
    np.testing.assert_array_equal(env.reset()[0], batch.obs[0])


def test_ground_around_a_unit() -> None:
    env = StarCraft2Env("3m", seed=0, obs_pathing_grid=True, obs_terrain_height=True)
    env.reset()
    for i, unit in env.agents.items():
        obs = env.get_obs_agent(i)
        assert [float(env.can_move(unit, d)) for d in range(4)] == obs[:4].tolist()
        assert env.get_surrounding_pathing(unit) == obs[4:12].tolist()
        np.testing.assert_allclose(env.get_surrounding_height(unit), obs[12:21])
    env._battle.place(0, [[0.5, 23.5, 45, 0, 0, 0]] * 3, [[31.5, 8.5, 45, 0]] * 3)
    corner = env.get_unit_by_id(0)
    # Coordinates are truncated toward zero: half a unit west of the border still counts as on the map.
    assert [env.can_move(corner, d) for d in range(4)] == [False, True, True, True]
    assert env.get_avail_agent_actions(0)[2:6] == [0, 1, 1, 1]


def test_a_medivac_alone_has_lost() -> None:
    env = StarCraft2Env("MMM", seed=0)
    env.reset()
    ally, enemy = env._battle.units(0)
    assert not env.only_medivac_left(ally=True)
    ally[:-1, 2], enemy[:-2, 2], enemy[-1, 2] = 0, 0, 0
    env._battle.place(0, ally, enemy)
    assert env.only_medivac_left(ally=True)
    assert not env.only_medivac_left(ally=False)


def test_it_can_stand_in_for_the_game(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(StarCraft2Env=StarCraft2Env)
    monkeypatch.setattr("phalanx.envs.starcraft2.importlib.import_module", lambda name: module)
    game = StarCraft2Game({"map_name": "3m", "obs_timestep_number": True})
    batch = VecBattle("3m", 1, seed=7, autoreset=False, obs_timestep_number=True)
    assert game.spec.obs_dim == batch.spec.obs_dim
    seen = game.reset(7)
    while not (seen.terminated or seen.truncated):
        actions = first_attack_or_east(torch.from_numpy(seen.avail_actions)).numpy()
        seen = game.step(actions.tolist())
        batch.step(actions[None])
        np.testing.assert_allclose(seen.obs, batch.obs[0], atol=1e-7)
        np.testing.assert_array_equal(seen.state, batch.state[0])
        np.testing.assert_array_equal(seen.visibility | np.diag(seen.alive), batch.visibility[0])
        assert seen.alive.tolist() == batch.alive[0].tolist()
        assert (seen.terminated, seen.truncated) == (batch.terminated[0], batch.truncated[0])
    game.close()


def test_replays_are_traces_of_the_episode(tmp_path: Path) -> None:
    env = StarCraft2Env("3m", seed=1, replay_dir=str(tmp_path / "kept"), replay_prefix="mine")
    total, length, info = run_episode(env, first_attack_or_east)
    env.save_replay()
    (path,) = (tmp_path / "kept").glob("mine_*.npz")
    trace = load_trace(path)
    assert (trace.steps, trace.result == "won") == (length, info["battle_won"])
    assert trace.reward.sum() == pytest.approx(total, abs=1e-4)
    env.reset()
    env.step([1, 1, 1])
    env.save_replay()
    (other,) = set((tmp_path / "kept").glob("mine_*.npz")) - {path}
    assert (load_trace(other).steps, load_trace(other).result) == (1, "unfinished")


def test_render_returns_the_picture() -> None:
    env = StarCraft2Env("3m", seed=1)
    env.reset()
    before = env.render("rgb_array")
    env.step([4, 4, 4])
    after = env.render(mode="rgb_array")
    assert before is not None
    assert after is not None
    assert (before.dtype, before.shape[2]) == (np.uint8, 3)
    assert before.shape != after.shape or (before != after).any()
    assert env.render() is None
    with pytest.raises(RenderError, match="not 'movie'"):
        env.render("movie")
