"""Runners of this process file the same kind of episodes, whole, in order, and go on where they stopped."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from phalanx.data.replay import EpisodeReplay
from phalanx.envs.protocol import Discrete, EnvSpec, Timestep
from phalanx.modules.policies.base import Policy, Seen
from phalanx.registry import RUNNERS, PartConfig
from phalanx.runners.rollout import Rollout, play_episodes

from ..modules.toys import assemble, plain

PLAYING = [name for name, runner in RUNNERS.items() if runner.plays and runner.here]
SPEC = EnvSpec(n_agents=2, obs_dim=3, state_dim=1, action=Discrete(4), episode_limit=9)


class Counting:
    """Copy b's e-th episode lasts 2 + (b + 2 e) % 5 steps; it shows (b, e, t) and pays t."""

    class Config(PartConfig):
        pass

    def __init__(self, num_envs: int, broken: tuple[int, ...] = ()) -> None:
        self.spec, self.num_envs, self.broken = SPEC, num_envs, broken
        self.episode = np.full(num_envs, -1)
        self.t = np.zeros(num_envs, np.int64)
        self.done = np.ones(num_envs, bool)  # nothing has begun
        self.paid = np.zeros(num_envs, np.float32)  # a reset leaves what was paid last

    def reset(self, mask: NDArray[np.bool_] | None = None) -> Timestep:
        chosen = np.ones(self.num_envs, bool) if mask is None else mask
        self.episode[chosen] += 1
        self.t[chosen] = 0
        self.done[chosen] = False
        return self._show()

    def step(self, actions: NDArray[np.int64]) -> Timestep:
        assert actions.shape == (self.num_envs, 2)
        self.t[~self.done] += 1
        self.paid[~self.done] = self.t[~self.done]
        self.done |= self.t >= self._length()
        return self._show()

    def _length(self) -> NDArray[np.int64]:
        return 2 + (np.arange(self.num_envs) + 2 * self.episode) % 5

    def _show(self) -> Timestep:
        obs = np.stack([np.arange(self.num_envs), self.episode, self.t], -1).astype(np.float32)
        return Timestep(
            obs=np.repeat(obs[:, None], 2, 1),
            state=self.t[:, None].astype(np.float32),
            avail_actions=np.ones((self.num_envs, 2, 4), np.uint8),
            reward=self.paid.copy(),
            terminated=self.done.copy(),
            truncated=np.zeros(self.num_envs, bool),
            alive=None,
            visibility=None,
            info={
                "battle_won": self.episode % 2 == 0,
                "broken": self.done & np.isin(self.episode, self.broken),
            },
        )

    def describe(self) -> dict[str, Any]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name).copy() for name in ("episode", "t", "done", "paid")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value.copy())

    def close(self) -> None:
        pass


class Drawing:
    """Random actions; carries how many steps the episode has had, and checks that the runner resets it."""

    def init_carry(
        self, batch_size: int, device: torch.device, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        return {"steps": torch.zeros(batch_size)}

    def act(
        self,
        seen: Seen,
        carry: dict[str, Tensor],
        t_env: int,
        test_mode: bool,
        generator: torch.Generator,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        t = seen.obs[:, 0, 2]
        begun = (t == 0) & (seen.obs[:, 0, 1] >= 0)
        assert (carry["steps"][begun] == 0).all()
        assert torch.equal(seen.state[:, 0], t)
        assert torch.equal(seen.reward, t)  # what the step before paid, nothing at the start
        assert seen.alive.all()
        actions = torch.randint(4, seen.obs.shape[:2], generator=generator)
        return actions, {"steps": carry["steps"] + 1}


def make(
    name: str, num_envs: int, broken: tuple[int, ...] = (), policy: Policy | None = None
) -> tuple[Any, EpisodeReplay]:
    """A runner by registry name over the counting environment, and its replay."""
    nothing: frozenset[str] = frozenset()
    replay = EpisodeReplay(
        EpisodeReplay.Config(buffer_size=50), SPEC, seed=0, optional_fields=nothing
    )
    part = RUNNERS.get(name)
    runner = part(
        part.Config(batch_size_run=num_envs),
        env=Counting(num_envs, broken),
        behaviour=plain(Drawing() if policy is None else policy),
        buffer=replay,
        seed=0,
        device=torch.device("cpu"),
        optional_fields=nothing,
    )
    return runner, replay


@pytest.mark.parametrize("name", PLAYING)
def test_episodes_arrive_whole(name: str) -> None:
    runner, replay = make(name, num_envs=3)
    t_env = 0
    while len(replay) < 12:
        t_env += runner.collect(t_env)
    batch = replay.sample(len(replay))
    for b in range(batch.batch_size):
        length = int(batch.lengths[b])
        copy, episode = batch.obs[b, 0, 0, :2].tolist()
        assert length == 2 + (copy + 2 * episode) % 5
        assert batch.obs[b, : length + 1, 1, 2].tolist() == list(range(length + 1))
        assert batch.reward[b, :length].tolist() == list(range(1, length + 1))
        assert batch.terminated[b, :length].tolist() == [False] * (length - 1) + [True]
    pairs = {tuple(batch.obs[b, 0, 0, :2].tolist()) for b in range(batch.batch_size)}
    assert len(pairs) == len(replay)


@pytest.mark.parametrize("name", PLAYING)
def test_steps_are_counted_once(name: str) -> None:
    runner, replay = make(name, num_envs=4)
    t_env = sum(runner.collect(0) for _ in range(10))
    finished = int(replay.sample(len(replay)).lengths.sum())
    still_open = int(runner.rollout.store.lengths.sum()) if name == "vector" else 0
    assert t_env == finished + still_open


@pytest.mark.parametrize("name", PLAYING)
def test_broken_episodes_are_dropped_and_counted(name: str) -> None:
    runner, replay = make(name, num_envs=2, broken=(1,))
    while len(replay) < 8:
        runner.collect(0)
    shown = replay.sample(len(replay)).obs[:, 0, 0, 1].tolist()
    assert 1.0 not in shown
    assert 2.0 in shown
    assert runner.rollout.broken_episodes == 2


@pytest.mark.parametrize("name", PLAYING)
def test_continues_bit_for_bit(name: str) -> None:
    runner, replay = make(name, num_envs=3)
    for _ in range(7):
        runner.collect(0)
    other, other_replay = make(name, num_envs=3)
    other.load_state_dict(runner.state_dict())
    other_replay.load_state_dict(replay.state_dict())
    for _ in range(9):
        assert runner.collect(0) == other.collect(0)
    a, b = replay.sample(len(replay)), other_replay.sample(len(other_replay))
    assert torch.equal(a.actions, b.actions)
    assert torch.equal(a.obs, b.obs)
    assert runner.rollout.stats.means() == other.rollout.stats.means()


def test_each_copy_plays_one_episode_and_stats_have_pymarls_names() -> None:
    rollout = Rollout(Counting(5), plain(Drawing()), torch.Generator(), torch.device("cpu"))
    steps = play_episodes(rollout, np.array([True, True, True, False, False]), 0, test_mode=True)
    assert steps == 2 + 3 + 4
    means = rollout.stats.means()
    assert set(means) == {"return_mean", "return_std", "ep_length_mean", "battle_won_mean"}
    assert means["ep_length_mean"] == 3.0
    assert means["return_mean"] == pytest.approx((3 + 6 + 10) / 3)


def ordered(random: bool) -> Policy:
    """A transformer policy, of the kind whose acting is the cheapest."""
    config = {"decoder": "none", "n_embd": 4, "random_agent_order": random}
    policy: Policy = assemble({"policy": config}, SPEC, policy="transformer").build("policy")
    return policy


@pytest.mark.parametrize("name", PLAYING)
def test_an_episode_keeps_its_agent_order_and_the_next_draws_anew(name: str) -> None:
    runner, _ = make(name, num_envs=3, policy=ordered(random=True))
    orders = defaultdict(set)
    for _ in range(24):
        runner.collect(0)
        state = runner.state_dict()["rollout"]
        episodes = state["env"]["episode"].tolist()
        for copy, order in enumerate(state["carry"]["order"].tolist()):
            orders[copy, episodes[copy]].add(tuple(order))
    assert all(len(of_episode) == 1 for of_episode in orders.values())
    for copy in range(3):
        of_copy = set().union(*(found for (b, _), found in orders.items() if b == copy))
        assert of_copy == {(0, 1), (1, 0)}


def test_agents_decide_by_index_where_no_order_is_asked_for() -> None:
    runner, _ = make("vector", num_envs=3, policy=ordered(random=False))
    for _ in range(8):
        runner.collect(0)
        assert runner.state_dict()["rollout"]["carry"] == {}
