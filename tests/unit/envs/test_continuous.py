"""Particles and robots: real packages, continuous actions, and algorithms that act in them."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phalanx.config.compose import compose
from phalanx.envs.checker import check_env
from phalanx.envs.protocol import Box, Discrete
from phalanx.errors import ConfigError, EnvError
from phalanx.registry import ENVS

from ...recorder import trainer

TASKS = {
    "particles": ("mpe", {"time_limit": 8, "continuous_actions": True}),
    "speaker and listener": (
        "mpe",
        {"key": "simple_speaker_listener_v4", "time_limit": 8, "continuous_actions": True},
    ),
    "robot": ("mamujoco", {"time_limit": 8}),
    "ant": ("mamujoco", {"scenario": "Ant", "agent_conf": "4x2", "time_limit": 8}),
}
PACKAGES = {"mpe": "mpe2", "mamujoco": "gymnasium_robotics"}


def factory(name: str, **keys: Any) -> Any:
    """Builds the environment ``name`` with these keys."""
    pytest.importorskip(PACKAGES[name])
    part = ENVS.get(name)
    return functools.partial(part, part.Config(**keys))


@pytest.mark.parametrize("task", [*TASKS, "discrete particles"])
def test_keeps_the_protocol(task: str) -> None:
    name, keys = TASKS.get(task, ("mpe", {"time_limit": 8}))
    check_env(factory(name, **keys))


def test_simple_spread_as_it_is_known() -> None:
    env = factory("mpe")(num_envs=2, seed=0)
    assert (env.spec.n_agents, env.spec.obs_dim, env.spec.action) == (3, 18, Discrete(5))
    assert env.spec.episode_limit == 25
    seen = env.reset()
    for _ in range(25):
        assert not (seen.terminated | seen.truncated).any()
        seen = env.step(np.zeros((2, 3), np.int64))
        assert (seen.reward < 0).all()
    assert seen.truncated.all()
    assert not seen.terminated.any()
    env.close()
    more = factory("mpe", make_args={"N": 5})(num_envs=1, seed=0)
    assert more.spec.n_agents == 5
    more.close()


def test_half_cheetah_as_it_is_known() -> None:
    env = factory("mamujoco")(num_envs=1, seed=0)
    assert (env.spec.n_agents, env.spec.action) == (6, Box((-1.0,), (1.0,)))
    assert (env.spec.mask_dim, env.spec.episode_limit) == (0, 1000)
    env.reset()
    # Torques beyond the bounds are those at the bounds.
    far = env.step(np.full((1, 6, 1), 9.0, np.float32)).obs.copy()
    env.close()
    other = factory("mamujoco")(num_envs=1, seed=0)
    other.reset()
    np.testing.assert_array_equal(other.step(np.ones((1, 6, 1), np.float32)).obs, far)
    other.close()
    near, wide = (factory("mamujoco", agent_obsk=k)(num_envs=1, seed=0) for k in (0, 2))
    assert near.spec.obs_dim < wide.spec.obs_dim
    near.close()
    wide.close()


def test_wrong_shapes_and_names_are_explained() -> None:
    env = factory("mamujoco")(num_envs=1, seed=0)
    env.reset()
    with pytest.raises(EnvError, match=r"\(B, N, numbers\) = \(1, 6, 1\), got \(1, 6\)"):
        env.step(np.zeros((1, 6), np.float32))
    env.close()
    with pytest.raises(EnvError, match=r"no task 'simple_spred_v3'. Did you mean 'simple_spread"):
        factory("mpe", key="simple_spred_v3")(num_envs=1, seed=0)
    with pytest.raises(EnvError, match="cannot build scenario=Cheetah agent_conf=6x1"):
        factory("mamujoco", scenario="Cheetah")(num_envs=1, seed=0)


def test_agents_with_unequal_joints() -> None:
    env = factory("mamujoco", scenario="Humanoid", agent_conf="9|8", time_limit=3)(
        num_envs=1, seed=0
    )
    assert (env.spec.action_shape, env.spec.mask_dim) == ((9,), 9)
    assert env.reset().avail_actions[0].sum(axis=-1).tolist() == [9, 8]
    env.step(np.ones((1, 2, 9), np.float32))
    env.close()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    "algorithm",
    ["ippo", "mappo", "happo", "mat", "mat_dec", "mat_encoder", "mat_decoder", "mat_gru"],
)
def test_policy_gradients_act_in_them(algorithm: str, task: str, tmp_path: Path) -> None:
    name, keys = TASKS[task]
    pytest.importorskip(PACKAGES[name])
    words = [f"{k}={v}" for k, v in keys.items()]
    words += ["t_max=48", "batch_size_run=2", "episode_length=12", "ppo_epoch=1"]
    words += ["test_nepisode=2", "log_interval=24", "save_model=False"]
    run, recorder = trainer(tmp_path, algorithm, name, *words)
    run.run()
    losses = recorder.curve("loss")
    assert len(losses) == 2
    assert np.isfinite([value for _, value in losses]).all()


def test_a_value_based_algorithm_says_what_it_needs(tmp_path: Path) -> None:
    pytest.importorskip("mpe2")
    with pytest.raises(ConfigError, match=r"actions are continuous \(5 dimensions\)"):
        trainer(tmp_path, "qmix", "mpe", "continuous_actions=True")


def test_mat_dec_has_its_own_actor_on_particles_too() -> None:
    chosen = compose("mat_dec", "mpe").chosen
    assert (chosen["policy"], chosen["critic"]) == ("actor", "attention")
