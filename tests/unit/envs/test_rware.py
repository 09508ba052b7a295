"""The warehouse: what is counted, what is seen, and a dispatcher that delivers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from phalanx.envs.protocol import Scripted
from phalanx.envs.warehouse import FAR, steps_to
from phalanx.errors import EnvError
from phalanx.registry import ENVS

pytest.importorskip("rware")

FORWARD, TOGGLE = 1, 4


def make(key: str = "rware-tiny-2ag-v2", copies: int = 1, seed: int = 0, **keys: Any) -> Any:
    part = ENVS.get("rware")
    return part(part.Config(key=key, **keys), num_envs=copies, seed=seed)


def game(env: Any, copy: int = 0) -> Any:
    return env._copies.envs[copy].game


def loaded_before_goals(env: Any) -> None:
    """Puts a robot with a requested shelf above each of both goals, looking at it."""
    from rware.warehouse import Direction

    warehouse = game(env)
    for agent, shelf, (x, y) in zip(
        warehouse.agents, warehouse.request_queue, warehouse.goals, strict=False
    ):
        agent.x, agent.y, agent.dir, agent.carrying_shelf = x, y - 1, Direction.DOWN, shelf
        shelf.x, shelf.y = agent.x, agent.y
    warehouse._recalc_grid()


@pytest.mark.parametrize(
    ("key", "agents", "requests"),
    [
        ("rware-tiny-2ag-v2", 2, 2),
        ("rware-tiny-2ag-easy-v2", 2, 4),
        ("rware-tiny-4ag-hard-v2", 4, 2),
        ("rware-small-4ag-v2", 4, 4),
    ],
)
def test_sizes(key: str, agents: int, requests: int) -> None:
    env = make(key)
    assert (env.spec.n_agents, env.spec.n_actions, env.spec.obs_dim) == (agents, 5, 71)
    assert env.spec.state_dim == 3 * agents + 2 * requests  # 7 N where it is easy
    seen, warehouse = env.reset(), game(env)
    first, shelf = warehouse.agents[0], warehouse.request_queue[0]
    assert seen.state[0, :3].tolist() == [first.x, first.y, first.dir.value]
    assert seen.state[0, 3 * agents :][:2].tolist() == [shelf.x, shelf.y]
    assert seen.avail_actions.all()


@pytest.mark.parametrize(("scalarisation", "reward"), [("sum", 2.0), ("mean", 1.0)])
def test_the_team_is_paid_for_what_all_deliver(scalarisation: str, reward: float) -> None:
    env = make(reward_scalarisation=scalarisation)
    env.reset()
    loaded_before_goals(env)
    seen = env.step(np.full((1, 2), FORWARD))
    assert seen.reward[0] == reward
    assert seen.info["deliveries"][0] == 2


def test_shaping_is_no_delivery() -> None:
    env = make(shaping=2.0)
    env.reset()
    loaded_before_goals(env)
    seen = env.step(np.zeros((1, 2), np.int64))
    # Both stand with a load on a shelf that is requested, which is in sight as well.
    assert seen.reward[0] == pytest.approx(2 * 2 * (0.006 + 0.001))
    assert seen.info["deliveries"][0] == 0
    assert env.describe()["shaping"] == 2.0


def test_only_the_clock_ends_an_episode() -> None:
    env = make(time_limit=4)
    env.reset()
    for _ in range(4):
        seen = env.step(np.zeros((1, 2), np.int64))
    assert seen.truncated.all()
    assert not seen.terminated.any()


def test_fewest_actions_by_hand() -> None:
    free = np.ones((3, 3), bool)
    free[1, 0] = False  # a shelf above the middle
    up, down, left, right = range(4)
    steps = steps_to([(0, 0)], free)
    assert steps[0, 0].tolist() == [0, 0, 0, 0]
    assert [steps[0, 2, d] for d in (up, left, right, down)] == [2, 3, 3, 4]
    assert steps[2, 0, down] == 6  # down, right turn, two to the left, right turn, up
    free[:, 1] = False
    assert steps_to([(0, 0)], free)[2, 2, up] == FAR


def test_the_dispatcher_delivers() -> None:
    """As many as two robots can at the distances there are, and the same for the same seed."""
    env = make("rware-tiny-2ag-v2", copies=2)
    assert isinstance(env, Scripted)
    found = []
    for _ in range(2):
        env = make("rware-tiny-2ag-v2", copies=2)
        play = env.player("dispatcher", 1)
        seen = env.reset()
        for _ in range(150):
            seen = env.step(play())
        found.append(seen.obs.copy())
    assert (seen.info["deliveries"] >= 6).all()
    np.testing.assert_array_equal(*found)


def test_many_robots_do_not_jam() -> None:
    env = make("rware-tiny-6ag-easy-v2")
    play, seen, before = env.player("dispatcher", 0), env.reset(), 0.0
    for step in range(180):
        seen = env.step(play())
        if step % 60 == 59:
            assert seen.info["deliveries"][0] >= before + 4
            before = seen.info["deliveries"][0]


def test_who_plays_is_said() -> None:
    with pytest.raises(EnvError, match=r"no player .dispacher. in rware-tiny-2ag-v2"):
        make().player("dispacher", 0)
