"""Teams of other libraries that answer in odd ways: right where it can be, named where it cannot."""

from __future__ import annotations

import functools
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phalanx.envs.checker import check_env
from phalanx.envs.gymma import GymmaEnv, GymTeam
from phalanx.envs.parallel_api import ParallelConfig, ParallelTeam
from phalanx.envs.team import TeamConfig
from phalanx.errors import EnvError, MissingDependencyError
from phalanx.registry import ENVS

gymnasium = pytest.importorskip("gymnasium")
spaces = gymnasium.spaces


class Toy(gymnasium.Env[Any, Any]):
    """Two agents, eight steps; keyword arguments replace what it answers."""

    observation_space = spaces.Tuple([spaces.Box(-1, 1, (4,))] * 2)
    action_space = spaces.Tuple([spaces.Discrete(3)] * 2)

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        if "reset" in self.answers:
            return self.answers["reset"]
        return self.look(), self.answers.get("info", {})

    def look(self) -> Any:
        shapes = self.answers.get("shapes", [(4,), (4,)])
        return tuple(np.zeros(shape, np.float32) for shape in shapes)

    def step(self, action: Any) -> Any:
        self.t += 1
        self.taken = action
        if "step" in self.answers:
            return self.answers["step"]
        ends = self.answers.get("ends", {}).get(str(self.t), ([False] * 2, [False] * 2))
        rewards = self.answers.get("rewards", [1.0, 1.0])
        return self.look(), rewards, *ends, self.answers.get("info", {})


gymnasium.register("Toy-v0", entry_point=Toy)


def toy(**answers: Any) -> GymTeam:
    return GymTeam("Toy-v0", TeamConfig(make_args=answers))


def returned(team: GymTeam | ParallelTeam, limit: int = 60) -> tuple[float, int, bool, bool]:
    """Return and length of an episode of first actions, and how it ended."""
    team.reset(0)
    total = 0.0
    for t in range(1, limit):
        seen = team.step([0] * team.spec.n_agents)
        total += seen.reward
        if seen.terminated or seen.truncated:
            return total, t, seen.terminated, seen.truncated
    raise AssertionError("it never ends")


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ({"3": ([True, False], [False, True])}, (6.0, 3, False, True)),
        (
            {"2": ([True, False], [False, False]), "4": ([False, True], [False, False])},
            (8.0, 4, True, False),
        ),
        ({"5": ([True, True], [False, False])}, (10.0, 5, True, False)),
        ({"5": ([True, True], [True, True])}, (10.0, 5, True, False)),
        ({"5": (True, False)}, (10.0, 5, True, False)),
        ({}, (100.0, 50, False, True)),
    ],
)
def test_an_episode_is_over_when_every_agent_is_done(
    ends: dict[str, Any], expected: tuple[float, int, bool, bool]
) -> None:
    assert returned(toy(ends=ends)) == expected


def test_masks_of_info_are_honoured() -> None:
    team = toy(info={"action_mask": [[0, 1, 1], [1, 0, 0]]})
    np.testing.assert_array_equal(team.reset(0).avail_actions, [[0, 1, 1], [1, 0, 0]])
    np.testing.assert_array_equal(team.step([1, 0]).avail_actions, [[0, 1, 1], [1, 0, 0]])


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        ([[1, 1, 1]], r"info\['action_mask'\] has 1 masks for 2 agents"),
        ([[1, 1], [1, 1, 1]], "the action_mask of agent 0 is a list of 2, but it has 3 actions"),
        ([[1, 1, 1], [0, 0, 0]], "the action_mask of agent 1 rules out every action"),
    ],
)
def test_masks_that_do_not_fit_are_refused(mask: Any, words: str) -> None:
    with pytest.raises(EnvError, match=words):
        toy(info={"action_mask": mask}).reset(0)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (
            {"shapes": [(4,), (3,)]},
            r"agent 1 declares observations Box\(4\), but it was given float32 of shape \(3,\)",
        ),
        ({"shapes": [(6,), (4,)]}, r"agent 0 declares .* given float32 of shape \(6,\)"),
        ({"shapes": [(), (4,)]}, r"agent 0 declares .* given float32 of shape \(\)"),
        ({"shapes": [(4,)]}, "has 2 agents, but gave 1 observations"),
        ({"reset": 3}, r"reset\(\) returned 3, not \(observations, infos\)"),
        ({"reset": ([], [])}, r"reset\(\) returned a tuple of 2, not"),
    ],
)
def test_observations_that_contradict_their_space_are_named(
    answers: dict[str, Any], words: str
) -> None:
    with pytest.raises(EnvError, match=words):
        toy(**answers).reset(0)


def test_the_checker_finds_them_too() -> None:
    config = GymmaEnv.Config(key="Toy-v0", time_limit=4, make_args={"shapes": [[4], [3]]})
    with pytest.raises(EnvError, match=r"breaks the .*protocol:\n  - .*agent 1 declares"):
        check_env(functools.partial(GymmaEnv, config))


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"rewards": [1.0, 2.0, 3.0]}, "rewards a list of 3; one number, or one for each of the 2"),
        ({"rewards": ["a", "b"]}, "rewards a list of 2"),
        ({"ends": {"1": ([True], [False])}}, None),
        ({"step": (1, 2, 3, 4)}, r"step\(\) returned a tuple of 4, not \(observations, rewards"),
        ({"ends": {"1": ([True] * 3, [False] * 2)}}, "`terminated` a list of 3"),
    ],
)
def test_steps_that_do_not_fit_are_named(answers: dict[str, Any], words: str | None) -> None:
    team = toy(**answers)
    team.reset(0)
    if words is None:
        assert team.step([0, 0]).terminated
        return
    with pytest.raises(EnvError, match=words):
        team.step([0, 0])


@pytest.mark.parametrize("rewards", [3.0, [3.0], np.array([3.0]), np.float32(3)])
def test_one_reward_may_be_everybodys(rewards: Any) -> None:
    team = toy(rewards=rewards)
    team.reset(0)
    assert team.step([0, 0]).reward == 3.0


def test_numbers_of_info_are_means_over_episodes(caplog: pytest.LogCaptureFixture) -> None:
    from phalanx.envs import answers
    from phalanx.runners.rollout import EpisodeStats

    answers._skipped.clear()
    info = {
        "success": True,
        "gold": np.array([2.5]),
        "return": 7,
        "picture": np.zeros(9),
        "who": "ann",
        "bad": float("nan"),
    }
    config = GymmaEnv.Config(key="Toy-v0", time_limit=2, make_args={"info": info})
    env = GymmaEnv(config, num_envs=2, seed=0)
    with caplog.at_level(logging.INFO, "phalanx.envs"):
        env.reset()
        seen = env.step(np.zeros((2, 2), np.int64))
    assert {k: v.tolist() for k, v in seen.info.items()} == {
        "broken": [False, False],
        "success": [1.0, 1.0],
        "gold": [2.5, 2.5],
        "env_return": [7.0, 7.0],
    }
    assert [r.message for r in caplog.records] == [
        "env Toy-v0: info 'picture' is an array of shape (9,), not a number, and is not recorded",
        "env Toy-v0: info 'who' is 'ann', not a number, and is not recorded",
    ]
    stats = EpisodeStats()
    stats.add({"return": 1.0, "ep_length": 2.0})
    stats.add({"return": 3.0, "ep_length": 2.0, "success": 1.0})
    assert stats.means()["success_mean"] == 0.5
    assert set(stats.rows[0]) == set(stats.rows[1])


def test_actions_of_another_kind_are_refused_with_a_sentence() -> None:
    class DictTeam(Toy):
        action_space = spaces.Tuple(
            [spaces.Dict({"move": spaces.Discrete(2), "say": spaces.Box(0, 1, (3,))})] * 2
        )

    gymnasium.register("DictTeam-v0", entry_point=DictTeam)
    with pytest.raises(
        EnvError, match=r"offers actions Dict\(move: Discrete\(2\), say: Box\(3\)\)"
    ):
        GymTeam("DictTeam-v0", TeamConfig())


@pytest.mark.parametrize(
    ("space", "bound"),
    [
        (spaces.Box(0, 1e6, (4,)), 1e6),
        (spaces.Box(-3, 1, (4,)), 3.0),
        (spaces.Box(-np.inf, 1, (4,)), None),
        (spaces.Discrete(9), 1.0),
        (spaces.Dict({"a": spaces.Box(0, 255, (2,)), "b": spaces.MultiBinary(3)}), 255.0),
    ],
)
def test_bounds_are_those_the_spaces_declare(space: Any, bound: float | None) -> None:
    from phalanx.envs.team import TeamSpaces

    team = TeamSpaces("bounds", [space, spaces.Discrete(2)], [spaces.Discrete(2)] * 2)
    assert team.spec(5).obs_bound == bound


class Parallel:
    """PettingZoo's parallel API from a table: who is there after each step, paid ``pay`` each.

    Args:
        present: names after each step; the episode is over after the last one.
        spaces_of: names that ever take part.
    """

    metadata = {"name": "table_v0"}  # noqa: RUF012 - PettingZoo's convention

    def __init__(self, present: list[list[str]], everyone: str = "ab", pay: Any = 1.0) -> None:
        self.possible_agents = list(everyone)
        self._present, self._pay = present, pay

    def observation_space(self, agent: str) -> Any:
        return spaces.Box(0, 1, (2,))

    def action_space(self, agent: str) -> Any:
        return spaces.Discrete(2)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self._t, self.agents = 0, list(self._present[0])
        return self._look(self.agents), {a: {} for a in self.agents}

    def step(self, actions: dict[str, int]) -> Any:
        acted, self._t = self.agents, self._t + 1
        self.agents = list(self._present[self._t]) if self._t < len(self._present) else []
        everyone = list(dict.fromkeys([*acted, *self.agents]))
        ended = {a: a not in self.agents for a in everyone}
        infos = {a: {"gold": 2.0 * n} for n, a in enumerate(everyone)}
        rewards = dict.fromkeys(acted, self._pay)
        return self._look(everyone), rewards, ended, dict.fromkeys(everyone, False), infos

    def _look(self, agents: list[str]) -> Any:
        return {a: np.full(2, 0.5, np.float32) for a in agents}

    def close(self) -> None:
        pass


def table(**arguments: Any) -> ParallelTeam:
    return ParallelTeam(Parallel, ParallelConfig(make_args=arguments, team="*"))


def test_who_enters_as_the_last_one_leaves_plays_on() -> None:
    present = [["a"], ["a"], ["a"], ["b"], ["b"], ["b"]]
    assert returned(table(present=present)) == (6.0, 6, True, False)


def test_rewards_in_arrays_count_and_infos_are_means_over_agents() -> None:
    team = table(present=[["a", "b"]] * 2, pay=np.array([1.5]))
    team.reset(0)
    seen = team.step([0, 0])
    assert (seen.reward, seen.info) == (3.0, {"gold": 1.0})
    team = table(present=[["a", "b"]] * 2, pay=np.zeros(3))
    team.reset(0)
    with pytest.raises(
        EnvError, match=r"the reward of a is an array of shape \(3,\), not a number"
    ):
        team.step([0, 0])


def test_whoever_takes_part_needs_an_observation() -> None:
    class Blind(Parallel):
        def _look(self, agents: list[str]) -> Any:
            return {a: o for a, o in super()._look(agents).items() if a != "b"}

    team = ParallelTeam(Blind, ParallelConfig(make_args={"present": [["a", "b"]] * 3}, team="*"))
    with pytest.raises(
        EnvError, match=r"b takes part, but was given no observation. There are those of a"
    ):
        team.reset(0)


def test_a_reset_without_a_seed_is_refused() -> None:
    class Old(Parallel):
        def reset(self) -> Any:  # type: ignore[override]
            return super().reset()

    team = ParallelTeam(Old, ParallelConfig(make_args={"present": [["a", "b"]]}, team="*"))
    with pytest.raises(EnvError, match=r"reset\(\) takes no `seed`"):
        team.reset(0)


def mpe(**config: Any) -> Any:
    pytest.importorskip("mpe2")
    part = ENVS.get("mpe")
    return part(part.Config(**config), num_envs=1, seed=0)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (
            "simple_tag_v3",
            r"groups adversary \(3\) and agent \(1\) .*team=adversary_\* or team=agent_0,",
        ),
        ("simple_push_v3", r"groups adversary \(1\) and agent \(1\) are paid against each other"),
        ("simple_crypto_v3", r"groups eve \(1\) and (bob|alice) \(1\) are paid against"),
        ("simple_world_comm_v3", "are paid against each other"),
    ],
)
def test_groups_that_are_paid_against_each_other_are_not_one_team(key: str, words: str) -> None:
    with pytest.raises(EnvError, match=words):
        mpe(key=key)


def test_groups_with_one_aim_are_one_team() -> None:
    env = mpe(key="simple_speaker_listener_v4")
    assert env.spec.n_agents == 2


def test_the_team_that_learns_is_chosen_and_the_others_act_by_the_seed() -> None:
    def play() -> tuple[Any, float]:
        env = mpe(key="simple_tag_v3", team="adversary_*")
        assert env.spec.n_agents == 3
        assert env.describe()["team"] == "adversary_0, adversary_1, adversary_2"
        seen, total = env.reset(), 0.0
        for _ in range(25):
            seen = env.step(np.ones((1, 3), np.int64))
            total += float(seen.reward[0])
        assert total >= 0.0  # what the prey loses is not theirs
        return seen.obs.copy(), total

    (first, one), (second, other) = play(), play()
    np.testing.assert_array_equal(first, second)
    assert one == other
    assert mpe(key="simple_tag_v3", team="*").spec.n_agents == 4
    with pytest.raises(EnvError, match=r"no agent 'predator'.*It has: adversary_0"):
        mpe(key="simple_tag_v3", team="predator")


def test_a_chosen_team_keeps_the_protocol() -> None:
    pytest.importorskip("mpe2")
    part = ENVS.get("mpe")
    check_env(
        functools.partial(part, part.Config(key="simple_tag_v3", team="agent_0", time_limit=5))
    )


def pettingzoo(key: str, **config: Any) -> Any:
    part = ENVS.get("pettingzoo")
    return part(part.Config(key=key, **config), num_envs=1, seed=0)


def test_any_parallel_environment_is_found_by_module_and_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_table.py").write_text(
        "from tests.unit.envs.test_foreign_teams import Parallel\n"
        "def make(length=2):\n    return Parallel([['a', 'b']] * length)\n"
        "def nothing():\n    return 3\n"
    )
    (tmp_path / "my_bug.py").write_text("1 / 0\n")
    env = pettingzoo("my_table:make", make_args={"length": 3}, team="*")
    env.reset()
    seen = [bool(env.step(np.zeros((1, 2), np.int64)).terminated[0]) for _ in range(3)]
    assert seen == [False, False, True]
    for key, words in (
        ("my_table:mke", r"no function or class 'mke'. Did you mean 'make'\?"),
        ("my_table", "no function or class 'parallel_env'"),
        ("my_table:nothing", "builds a int, which has not PettingZoo's parallel API"),
        ("my_bug:make", r"ZeroDivisionError: division by zero \(.*my_bug.py:1"),
    ):
        with pytest.raises(EnvError, match=words):
            pettingzoo(key)
    with pytest.raises(EnvError, match=r"my_table:make could not be built with make_args=.*'size'"):
        pettingzoo("my_table:make", make_args={"size": 3})
    with pytest.raises(MissingDependencyError, match=r"plugins=\[no_such_zoo.py\]"):
        pettingzoo("no_such_zoo:make")
    sys.modules.pop("my_table", None)


@pytest.mark.parametrize(
    "key", ["pettingzoo.sisl.pursuit_v5", "pettingzoo.butterfly.knights_archers_zombies_v11"]
)
def test_published_environments_run(key: str) -> None:
    pytest.importorskip(key)
    env = pettingzoo(key, time_limit=20)
    env.reset()
    for _ in range(5):
        seen = env.step(np.zeros((1, env.spec.n_agents), np.int64))
    assert np.isfinite(seen.obs).all()
    env.close()
