"""Teams from Gymnasium and PettingZoo: padding, masks, rewards, endings, refusals."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from phalanx.envs.checker import check_env
from phalanx.envs.gymma import GymmaEnv, GymTeam
from phalanx.envs.parallel_api import ParallelConfig, ParallelTeam
from phalanx.envs.protocol import Box, Discrete, Mixed
from phalanx.envs.team import TeamConfig
from phalanx.errors import EnvError, MissingDependencyError
from phalanx.registry import ENVS

gymnasium = pytest.importorskip("gymnasium")
spaces = gymnasium.spaces


class UnequalTeam(gymnasium.Env[Any, Any]):
    """Two agents that see and do different amounts; ends when both take their last action."""

    observation_space = spaces.Tuple((spaces.Box(-1, 1, (2, 2)), spaces.Discrete(3)))
    action_space = spaces.Tuple((spaces.Discrete(2, start=5), spaces.Discrete(4)))

    def __init__(self, bonus: float = 0.0) -> None:
        self.bonus, self.seen_actions = bonus, []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        super().reset(seed=seed)
        return self._look(), {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, Any]:
        self.seen_actions.append(action)
        return self._look(), self._pay(), action[-1] == 3 and action[0] == 6, False, {}

    def _pay(self) -> list[float]:
        return [1.0 + self.bonus, 2.0]

    def _look(self) -> tuple[Any, int]:
        return self.np_random.random((2, 2)).astype(np.float32), 1


class MixedTeam(UnequalTeam):
    """One turns and pushes, one pushes only, one chooses only, one does both."""

    observation_space = spaces.Tuple([spaces.Box(-1, 1, (2, 2)), *[spaces.Discrete(3)] * 3])
    action_space = spaces.Tuple(
        (
            spaces.Box(-1, np.array([1, 2], np.float32), (2,)),
            spaces.Box(-3, 1, (1,)),
            spaces.Discrete(4),
            spaces.Tuple((spaces.Discrete(2, start=5), spaces.Box(-1, 1, (1,)))),
        )
    )

    def _pay(self) -> list[float]:
        return [1.0, 2.0, 0.0, 0.0]

    def _look(self) -> Any:
        return (self.np_random.random((2, 2)).astype(np.float32), 1, 1, 1)


class BoundlessTeam(UnequalTeam):
    action_space = spaces.Tuple((spaces.Box(-np.inf, 1, (2,)), spaces.Discrete(4)))


class LonelyAgent(UnequalTeam):
    action_space = spaces.Discrete(4)


for team in (UnequalTeam, MixedTeam, BoundlessTeam, LonelyAgent):
    gymnasium.register(f"{team.__name__}-v0", entry_point=team, max_episode_steps=3)


def test_unequal_agents_are_padded_and_masked() -> None:
    team = GymTeam("UnequalTeam-v0", TeamConfig())
    assert (team.spec.n_agents, team.spec.obs_dim, team.spec.state_dim) == (2, 4, 8)
    assert team.spec.action == Discrete(4)
    assert team.spec.agent_groups == (0, 1)
    seen = team.reset(0)
    np.testing.assert_array_equal(seen.avail_actions, [[1, 1, 0, 0], [1, 1, 1, 1]])
    np.testing.assert_array_equal(seen.obs[1], [0, 1, 0, 0])
    np.testing.assert_array_equal(seen.state, seen.obs.reshape(-1))
    team.step([1, 3])
    assert team._env.unwrapped.seen_actions == [(6, 3)]


@pytest.mark.parametrize(("how", "reward"), [("sum", 3.0), ("mean", 1.5)])
def test_reward_of_the_team(how: Any, reward: float) -> None:
    team = GymTeam("UnequalTeam-v0", TeamConfig(reward_scalarisation=how))
    team.reset(0)
    assert team.step([0, 0]).reward == reward


def test_arguments_reach_the_environment() -> None:
    team = GymTeam("UnequalTeam-v0", TeamConfig(make_args={"bonus": 4.0}))
    team.reset(0)
    assert team.step([0, 0]).reward == 7
    with pytest.raises(EnvError, match=r"make_args=\{'bonsu': 1\}"):
        GymTeam("UnequalTeam-v0", TeamConfig(make_args={"bonsu": 1}))


def test_the_clock_truncates_and_the_game_terminates() -> None:
    team = GymTeam("UnequalTeam-v0", TeamConfig(time_limit=4))
    team.reset(0)
    ends = [team.step([0, 0])[4:6] for _ in range(4)]
    assert ends == [(False, False)] * 3 + [(False, True)]
    team.reset(0)
    assert team.step([1, 3])[4:6] == (True, False)


def test_the_clock_may_count_as_an_end() -> None:
    team = GymTeam("UnequalTeam-v0", TeamConfig(time_limit=1, limit_terminates=True))
    team.reset(0)
    assert team.step([0, 0])[4:6] == (True, True)


def test_mixed_actions_reach_each_agent_as_it_has_them() -> None:
    team = GymTeam("MixedTeam-v0", TeamConfig())
    assert team.spec.action == Mixed(Discrete(4), Box((-3.0, -1.0), (1.0, 2.0), unequal=True))
    assert (team.spec.action_shape, team.spec.mask_dim, team.spec.policy_outputs) == ((3,), 6, 8)
    assert team.spec.agent_groups == (0, 1, 2, 3)
    expected = [[1, 0, 0, 0, 1, 1], [1, 0, 0, 0, 1, 0], [1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 1, 0]]
    np.testing.assert_array_equal(team.reset(0).avail_actions, expected)
    team.step([[0.0, 0.5, 9.0], [0.0, -9.0, 0.0], [3.0, 0.0, 0.0], [1.0, 0.25, 0.0]])
    ((turns, pushes, chooses, both),) = team._env.unwrapped.seen_actions
    np.testing.assert_array_equal(turns, [0.5, 2.0])
    np.testing.assert_array_equal(pushes, [-3.0])
    assert chooses == 3
    assert both == (6, 0.25)
    assert turns.dtype == np.float32


def test_mixed_actions_keep_the_protocol() -> None:
    check_env(functools.partial(GymmaEnv, GymmaEnv.Config(key="MixedTeam-v0", time_limit=4)))


def test_vectors_without_bounds_are_refused_with_a_sentence() -> None:
    with pytest.raises(EnvError, match=r"env BoundlessTeam-v0 offers actions Box\(2\); .* bounded"):
        GymTeam("BoundlessTeam-v0", TeamConfig())


def test_a_single_agent_is_refused_with_a_sentence() -> None:
    with pytest.raises(EnvError, match="env LonelyAgent-v0 offers actions Discrete"):
        GymTeam("LonelyAgent-v0", TeamConfig())


def test_unknown_keys_are_explained() -> None:
    with pytest.raises(EnvError, match=r"'UnequalTem-v0'. Did you mean 'UnequalTeam-v0'\?"):
        GymTeam("UnequalTem-v0", TeamConfig())
    with pytest.raises(MissingDependencyError, match="module 'no_such_games' cannot be imported"):
        GymTeam("no_such_games:Game-v0", TeamConfig())


def test_foraging_runs_out_of_time_without_ending() -> None:
    pytest.importorskip("lbforaging")
    env_class = ENVS.get("lbf")
    env = env_class(env_class.Config(key="Foraging-5x5-2p-1f-coop-v3"), num_envs=2, seed=0)
    seen = env.reset()
    assert env.spec.n_agents == 2
    for _ in range(50):
        assert not (seen.terminated | seen.truncated).any()
        seen = env.step(np.zeros((2, 2), np.int64))
    assert seen.truncated.all()
    assert not seen.terminated.any()
    env.close()


def test_foraging_through_gymma_is_the_same_game() -> None:
    pytest.importorskip("lbforaging")
    env_class = ENVS.get("lbf")
    key = "Foraging-8x8-3p-2f-v3"
    lbf = env_class(env_class.Config(key=key), num_envs=1, seed=0)
    gymma = GymmaEnv(GymmaEnv.Config(key=f"lbforaging:{key}"), num_envs=1, seed=0)
    np.testing.assert_array_equal(lbf.reset().obs, gymma.reset().obs)
    facts = lbf.describe()
    assert facts["key"] == f"lbforaging:{key}"
    assert {"gymnasium", "lbforaging"} <= set(facts)


class Corridor:
    """PettingZoo's parallel API: walk right; whoever arrives leaves. Action 1 is forbidden at 0."""

    metadata = {"name": "corridor_v0"}  # noqa: RUF012 - PettingZoo's convention

    def __init__(self, length: int = 2, clock: int = 99, masks: str = "infos") -> None:
        self.possible_agents = ["ann", "bob"]
        self.agents: list[str] = []
        self._length, self._clock, self._masks = length, clock, masks

    def observation_space(self, agent: str) -> Any:
        place = spaces.Box(0, 99, (1 if agent == "ann" else 2,))
        if self._masks == "infos":
            return place
        return spaces.Dict({"observation": place, "action_mask": spaces.MultiBinary(2)})

    def action_space(self, agent: str) -> Any:
        return spaces.Discrete(2)

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        self.agents, self._t = list(self.possible_agents), 0
        self._place = {"ann": 0, "bob": 0}
        return self._look(self.agents)

    def step(self, actions: dict[str, int]) -> tuple[Any, Any, Any, Any, Any]:
        assert set(actions) == set(self.agents), "every agent that is there acts, and no other"
        acted, self._t = self.agents, self._t + 1
        for agent, action in actions.items():
            self._place[agent] += action == 0
        ended = {a: self._place[a] >= self._length for a in acted}
        stopped = dict.fromkeys(acted, self._t >= self._clock)
        self.agents = [a for a in acted if not (ended[a] or stopped[a])]
        observations, infos = self._look(acted)
        return observations, dict.fromkeys(acted, 1.0), ended, stopped, infos

    def _look(self, agents: list[str]) -> tuple[Any, Any]:
        places = {a: np.full(1 if a == "ann" else 2, self._place[a], np.float32) for a in agents}
        masks = {a: np.array([1, self._place[a] > 0], np.int8) for a in agents}
        if self._masks == "infos":
            return places, {a: {"action_mask": masks[a]} for a in agents}
        return {a: {"observation": places[a], "action_mask": masks[a]} for a in agents}, {
            a: {} for a in agents
        }

    def close(self) -> None:
        pass


@pytest.mark.parametrize("masks", ["infos", "observations"])
def test_agents_of_the_parallel_api_leave_one_by_one(masks: str) -> None:
    team = ParallelTeam(Corridor, ParallelConfig(make_args={"masks": masks}))
    assert (team.spec.obs_dim, team.spec.n_actions, team.spec.has_alive) == (2, 2, True)
    seen = team.reset(0)
    np.testing.assert_array_equal(seen.avail_actions, [[1, 0], [1, 0]])
    team.step([0, 0])
    seen = team.step([0, 1])
    assert (seen.reward, seen.terminated, seen.truncated) == (2.0, False, False)
    assert seen.alive is not None
    np.testing.assert_array_equal(seen.alive, [False, True])
    np.testing.assert_array_equal(seen.avail_actions, [[1, 0], [1, 1]])
    seen = team.step([0, 0])
    assert (seen.reward, seen.terminated, seen.truncated) == (1.0, True, False)
    np.testing.assert_array_equal(seen.alive, [False, False])
    assert team.describe() == {"key": "corridor_v0"}


@pytest.mark.parametrize("config", [{"time_limit": 1}, {"make_args": {"clock": 1}}])
def test_whom_the_clock_stops_is_still_alive(config: dict[str, Any]) -> None:
    team = ParallelTeam(Corridor, ParallelConfig(**config))
    team.reset(0)
    seen = team.step([0, 0])
    assert (seen.terminated, seen.truncated) == (False, True)
    assert seen.alive is not None
    assert seen.alive.all()
