"""The environment ``sc2``: which engine is chosen, and what the game's engine makes of SMAC's answers."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from phalanx.config import compose
from phalanx.envs import sc2
from phalanx.envs.battle import vec
from phalanx.envs.sc2 import SC2Config, SC2Env
from phalanx.errors import EnvError, MissingDependencyError

from ...patience import HANGS

FAKE_SMAC = Path(__file__).parent / "fake_smac"


@pytest.fixture
def game(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like an installed game with the map 3m, and a stand-in for SMAC."""
    binary = tmp_path / "Versions" / "Base75689" / "SC2_x64"
    binary.parent.mkdir(parents=True)
    binary.touch(mode=0o755)
    (tmp_path / "Maps" / "SMAC_Maps").mkdir(parents=True)
    (tmp_path / "Maps" / "SMAC_Maps" / "3m.SC2Map").touch()
    monkeypatch.setenv("SC2PATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(FAKE_SMAC))
    return tmp_path


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    """Each test announces anew and looks for SMAC anew."""

    def forget() -> None:
        sc2._announced.clear()
        for name in [n for n in sys.modules if n.partition(".")[0] == "smac"]:
            del sys.modules[name]

    forget()
    yield
    forget()


def config(**keys: object) -> SC2Config:
    """A config of the environment."""
    return SC2Config(**{"map_name": "3m", **keys})  # type: ignore[arg-type]


def test_auto_takes_the_game_where_it_is(game: Path) -> None:
    assert sc2.choose_engine(config()) == "starcraft2"


def test_auto_falls_back_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SC2PATH", str(tmp_path))
    with caplog.at_level(logging.INFO, "phalanx.envs"):
        assert sc2.choose_engine(config()) == "embedded"
        assert sc2.choose_engine(config()) == "embedded"
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "engine: embedded battle engine, not StarCraft II (SMAC is"
    )


def test_the_wrong_smac_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "smac").mkdir()
    (tmp_path / "smac" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingDependencyError) as caught:
        sc2.choose_engine(config(engine="starcraft2"))
    assert "another package of that name is installed" in str(caught.value)
    assert "pip install git+https://github.com/oxwhirl/smac.git" in str(caught.value)


def test_missing_game_and_missing_map_are_told_apart(
    game: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EnvError, match=r"no map '3mm' in .*Maps\. Did you mean '3m'\?"):
        sc2.choose_engine(config(engine="starcraft2", map_name="3mm"))
    assert sc2.choose_engine(config(map_name="8m")) == "embedded"
    (game / "Versions" / "Base75689" / "SC2_x64").unlink()
    with pytest.raises(MissingDependencyError, match="found no game in"):
        sc2.choose_engine(config(engine="starcraft2"))


def test_smacs_options_reach_the_embedded_engine() -> None:
    env = SC2Env(config(engine="embedded", obs_last_action=True), num_envs=2, seed=0)
    assert env.describe() == {
        "engine": "embedded",
        "map_name": "3m",
        "profile": "liberty",
        "layout": "smac",
    }
    assert env.spec.obs_dim == 30 + 2 * 9
    seen = env.reset()
    assert set(seen.info) == {"battle_won", "dead_allies", "dead_enemies"}


def test_a_first_step_of_training_is_not_one_that_compiles() -> None:
    vec.prepare.cache_clear()
    with mock.patch.object(vec.VecBattle, "step", autospec=True) as step:
        SC2Env(config(engine="embedded"), num_envs=2, seed=0).close()
    vec.prepare.cache_clear()  # what took no step compiled nothing
    step.assert_called_once()


def test_battles_on_the_game(game: Path) -> None:
    env = SC2Env(config(step_timeout=HANGS, start_timeout=HANGS), num_envs=2, seed=0)
    try:
        assert env.engine == "starcraft2"
        assert env.describe()["engine"] == "starcraft2"
        seen = env.reset()
        assert seen.obs[1].tolist() == [[0, 0, 0], [10, 10, 10]]
        assert seen.avail_actions[0].tolist() == [[0, 1, 1, 1], [0, 1, 1, 0]]
        for _ in range(5):
            seen = env.step(np.array([[1, 1], [2, 1]]))
        assert seen.reward.tolist() == [0.5, 0.5]
        assert seen.terminated.tolist() == [True, True]
        assert seen.truncated.tolist() == [
            False,
            True,
        ]  # won in the last step; only the clock ended it
        assert seen.info["battle_won"].tolist() == [1, 0]
        assert not seen.info["broken"].any()
        assert seen.alive is not None
        assert seen.alive.tolist() == [[True, False]] * 2
    finally:
        env.close()


def test_continuing_episodes_are_truncated_only(game: Path) -> None:
    env = SC2Env(config(continuing_episode=True), num_envs=1, seed=0)
    try:
        env.reset()
        for _ in range(5):
            seen = env.step(np.array([[2, 1]]))
        assert (seen.terminated.tolist(), seen.truncated.tolist()) == ([False], [True])
    finally:
        env.close()


def test_a_lost_connection_is_a_broken_episode_not_a_lost_battle(game: Path) -> None:
    env = SC2Env(config(debug=True), num_envs=1, seed=0)
    try:
        env.reset()
        for _ in range(3):
            seen = env.step(np.array([[1, 1]]))
        assert seen.info["broken"].tolist() == [True]
        assert seen.terminated.tolist() == [True]
        seen = env.reset(np.array([True]))
        assert seen.obs[0, 0].tolist() == [0, 0, 0]
    finally:
        env.close()


def test_smacv2s_maps_take_its_options_and_are_embedded() -> None:
    env = SC2Env(
        config(map_name="10gen_terran", n_units=4, n_enemies=3, conic_fov=True, prob_obs_enemy=0.5),
        num_envs=2,
        seed=0,
    )
    assert env.engine == "embedded"
    assert (env.spec.n_agents, env.spec.n_actions, env.spec.episode_limit) == (4, 6 + 12 + 4, 200)
    step = env.step(np.ones((2, 4), np.int64))
    assert step.obs.shape == (2, 4, env.spec.obs_dim)
    env.close()
    with pytest.raises(EnvError, match="10gen_terran is offered by engine=embedded only"):
        SC2Env(config(map_name="10gen_terran", engine="starcraft2"), num_envs=1, seed=0)
    with pytest.raises(EnvError, match="battle option 'n_units' is SMACv2's"):
        SC2Env(config(engine="embedded", n_units=4), num_envs=1, seed=0)


def test_smacv2s_config_file_sets_up_a_run() -> None:
    composed = compose("qmix", "sc2v2", ["map_name=10gen_zerg", "n_units=10"])
    env = SC2Env(composed.parts["env"], num_envs=1, seed=0)  # type: ignore[arg-type]
    assert (env.spec.n_agents, env.spec.n_actions) == (10, 6 + 5)
    assert composed.nested()["env_args"]["prob_obs_enemy"] == 1.0
