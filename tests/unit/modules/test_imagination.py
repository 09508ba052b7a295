"""Imagined rows: each number where it belongs, checked in a world whose returns are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from phalanx.data.batch import EpisodeBatch
from phalanx.learners.ppo import PPOLearner
from phalanx.modules.critics.base import Critic
from phalanx.modules.policies.actor import ActorPolicy
from phalanx.modules.world_models.imagination import (
    Generators,
    Start,
    foresight,
    imagine,
    together,
)

from .counting import SPEC, Counter, Counting, played
from .toys import CPU, assemble

GAMMA = 0.9


def generators(seed: int = 0) -> Generators:
    return Generators(torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed))


def actor(recurrent: bool = False) -> ActorPolicy:
    agent: dict[str, Any] = {"head_gain": 1.0, "recurrent": recurrent, "hidden_dims": [8]}
    policy: ActorPolicy = assemble({"agent": agent}, SPEC, policy="actor", agent="normed").build(
        "policy"
    )
    return policy


def dreamt(policy: ActorPolicy, starts: list[int], horizon: int = 4) -> EpisodeBatch:
    codes = torch.tensor(starts)[:, None, None].expand(-1, 2, 1)
    avail = torch.ones(len(starts), 2, 3, dtype=torch.bool)
    carry = policy.init_carry(len(starts), CPU)
    carry["last_actions"] += 1
    start = Start(codes, avail, carry)
    return imagine(SPEC, Counting(horizon), Counter(), policy, start, 0, generators())


class CountTimes100(Critic):
    """Values an entry at a hundred times its count."""

    def __init__(self) -> None:
        super().__init__()
        self.output = torch.nn.Linear(1, 1)

    @property
    def output_layer(self) -> torch.nn.Linear:
        return self.output

    def forward(
        self, obs: Tensor, state: Tensor, alive: Tensor, avail_actions: Tensor, carry: Any = None
    ) -> Tensor:
        return 100 * obs[..., 0]


def test_rows_are_what_the_world_says() -> None:
    batch = dreamt(actor(), [1, 3, 5])
    assert batch.lengths.tolist() == [4, 3, 1]
    assert batch.obs[:, :, 0, 0].tolist() == [[1, 2, 3, 4, 5], [3, 4, 5, 6, 0], [5, 6, 0, 0, 0]]
    assert batch.terminated.tolist() == [
        [False] * 4,
        [False, False, True, False],
        [True] + [False] * 3,
    ]
    assert not batch.truncated.any()
    count = batch.obs[:, :-1, 0, 0]
    expected = (10 * count + batch.actions[..., 0]) * batch.filled
    assert torch.equal(batch.reward, expected)
    # What was done first follows what is remembered; what may be done belongs to the entry it stands at.
    assert batch.last_actions[:, 0].tolist() == [[1, 1]] * 3
    assert batch.avail_actions[0, :, 0, 2].tolist() == [True, True, False, True, False]
    taken = batch.avail_actions[:, :-1].gather(-1, batch.actions[..., None])[..., 0]
    assert taken[batch.filled].all()
    # Nobody imagines a state.
    assert batch.state.isnan().all()


@pytest.mark.parametrize("recurrent", [False, True])
def test_returns_of_imagined_rows_are_known(recurrent: bool) -> None:
    """An imagination off by one step pays, ends or bootstraps at another count than the world does."""
    policy = actor(recurrent)
    config = PPOLearner.Config(gamma=GAMMA, gae_lambda=1.0, value_norm="none")
    learner = PPOLearner(config, SPEC, policy=policy, critic=CountTimes100(), seed=0, device=CPU)
    batch = dreamt(policy, [1, 3, 5])
    targets = learner.prepare(batch)
    for b, (first, length) in enumerate([(1, 4), (3, 3), (5, 1)]):
        expected = 100.0 * 5 if b == 0 else 0.0  # the row that goes on is worth what comes after it
        for t in reversed(range(length)):
            expected = 10 * (first + t) + float(batch.actions[b, t, 0]) + GAMMA * expected
            assert targets.returns[b, t, 0] == pytest.approx(expected)
            value = 100 * (first + t)
            assert targets.raw_advantage[b, t, 0] == pytest.approx(expected - value, abs=1e-3)


@pytest.mark.parametrize("recurrent", [False, True])
def test_the_learner_sees_the_policy_that_acted(recurrent: bool) -> None:
    """The first ratio is exactly one: same observations, masks, memory and last actions."""
    policy = actor(recurrent)
    learner = PPOLearner(
        PPOLearner.Config(ppo_epoch=1, data_chunk_length=2),
        SPEC,
        policy=policy,
        critic=assemble({"critic": {"see_state": False}}, SPEC, critic="normed").build("critic"),
        seed=0,
        device=CPU,
    )
    metrics = learner.learn(dreamt(policy, [0, 1, 2, 3, 4, 5]), 0)
    assert float(metrics["approx_kl"]) == pytest.approx(0.0, abs=1e-6)
    assert float(metrics["ratio_clipped"]) == 0.0
    assert float(metrics["grad_norm"]) > 0


def test_a_state_that_is_all_observations_is_imagined_with_them() -> None:
    spec = replace(SPEC, state_dim=6, state_is_obs=True)
    policy, starts = actor(), [4, 0]
    codes = torch.tensor(starts)[:, None, None].expand(-1, 2, 1)
    avail = torch.ones(2, 2, 3, dtype=torch.bool)
    start = Start(codes, avail, policy.init_carry(2, CPU))
    batch = imagine(spec, Counting(), Counter(), policy, start, 0, generators())
    assert torch.equal(batch.state, batch.obs.flatten(2))
    assert batch.state[0, :, 0].tolist() == [4, 5, 6, 0, 0]


def test_pieces_imagined_apart_are_one_batch() -> None:
    policy = actor()
    parts = [dreamt(policy, [0, 1]), dreamt(policy, [5])]
    assert parts[1].max_t == 1  # nothing is imagined after all rows are over
    batch = together(parts)
    assert batch.lengths.tolist() == [4, 4, 1]
    assert torch.equal(batch.obs[:2], parts[0].obs)
    assert torch.equal(batch.reward[2], torch.cat([parts[1].reward[0], torch.zeros(3)]))
    assert batch.carry is not None
    assert len(batch.carry["hidden"]) == 3


def test_foresight_of_the_true_world_is_without_fault() -> None:
    """Given real actions, a model that is the world is right at every step, and other guesses are not."""
    actions = torch.randint(2, (5, 5, 2), generator=torch.Generator().manual_seed(0))
    windows = played([0, 1, 2, 3, 4], actions)
    found = foresight(Counting(5), Counter(), windows, torch.Generator())
    for steps in (1, 5):
        assert found[f"foresight_obs_error_{steps}"] == 0.0
        assert found[f"foresight_obs_error_repeat_{steps}"] == pytest.approx(steps / 3)
        assert found[f"foresight_reward_error_{steps}"] == 0.0
        assert found[f"foresight_reward_error_median_{steps}"] > 0
        assert found[f"foresight_ended_{steps}"] == 0.0
