"""Level-based foraging goes on exactly where a checkpoint was made."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from phalanx.registry import ENVS

pytest.importorskip("lbforaging")


@pytest.mark.parametrize("key", ["Foraging-5x5-3p-1f-v3", "Foraging-8x8-2p-1f-coop-v3"])
def test_every_open_episode_is_led_back_to(key: str, caplog: pytest.LogCaptureFixture) -> None:
    env_class = ENVS.get("lbf")
    config = env_class.Config(key=key, time_limit=7)
    drawn = np.random.default_rng(0)
    copies, spec = 64, env_class(config, num_envs=1, seed=0).spec

    def act() -> np.ndarray:
        return drawn.integers(spec.n_actions, size=(copies, spec.n_agents))

    env = env_class(config, num_envs=copies, seed=3)
    seen = env.reset()
    for step in range(30):
        seen = env.step(act())
        over = seen.terminated | seen.truncated
        if over.any():
            seen = env.reset(over)
        if step % 5:
            continue
        other = env_class(config, num_envs=copies, seed=4)
        with caplog.at_level(logging.WARNING, logger="phalanx.envs"):
            other.load_state_dict(env.state_dict())
        assert caplog.records == []
        actions = act()
        expected = env.step(actions)
        kept = {name: np.copy(getattr(expected, name)) for name in ("obs", "reward", "terminated")}
        reached = other.step(actions)
        for name, array in kept.items():
            np.testing.assert_array_equal(getattr(reached, name), array)
        over = expected.terminated | expected.truncated
        if over.any():
            env.reset(over)
