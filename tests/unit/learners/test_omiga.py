"""OMIGA: its terms by hand, real target networks, and a policy that prefers what was better."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from phalanx.data.batch import EpisodeBatch
from phalanx.envs.protocol import Discrete, EnvSpec
from phalanx.errors import ConfigError
from phalanx.learners.omiga import (
    OMIGALearner,
    local_value_loss,
    scaled_advantage,
    team_value,
)
from phalanx.modules.policies.base import Seen

from ..modules.toys import ACTIONS, CPU, SPEC, assemble, random_batch

GAME = EnvSpec(n_agents=2, obs_dim=1, state_dim=1, action=Discrete(2), episode_limit=2)
PARTS = {"learner": "omiga", "policy": "actor", "agent": "normed"}


def build(spec: EnvSpec = SPEC, **keys: Any) -> OMIGALearner:
    learner: OMIGALearner = assemble({"learner": keys}, spec, **PARTS).build("learner")
    return learner


def test_terms_by_hand() -> None:
    weight, q, value = (torch.tensor(x) for x in ([2.0, 1.0], [3.0, 0.5], [1.0, 1.0]))
    z = scaled_advantage(weight, q, value, alpha=10.0)
    torch.testing.assert_close(z, torch.tensor([0.4, -0.05]))
    torch.testing.assert_close(z.exp(), torch.tensor([1.491825, 0.951229]))
    alone = local_value_loss(z[:1], weight[:1], value[:1], 10.0).mean()
    assert float(alone) == pytest.approx(1.134064, abs=1e-6)
    both = local_value_loss(z, weight, value, 10.0).mean()
    assert float(both) == pytest.approx(0.919362, abs=1e-6)
    assert scaled_advantage(weight, 1e6 * q, value, 10.0).tolist() == [10, 10]
    assert team_value(weight, torch.tensor([0.5]), q).tolist() == [7.0]


def test_a_local_value_is_where_weights_are_one_on_average() -> None:
    """Its loss has no slope there: exp(z) is a ratio of two distributions."""
    q, value = torch.tensor([1.0, 3.0]), torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.SGD([value], lr=1.0)
    for _ in range(80):
        one = torch.ones(2)
        z = scaled_advantage(one, q, value.expand(2), 2.0)
        optimiser.zero_grad()
        local_value_loss(z, one, value.expand(2), 2.0).mean().backward()
        optimiser.step()
    assert float(((q - value.detach()) / 2).exp().mean()) == pytest.approx(1.0, abs=1e-4)


def choices(rows: int = 64) -> EpisodeBatch:
    """Both agents choose at random, once; 4 where both took action 1, 1 where both took 0, else 0."""
    payoff = torch.tensor([[1.0, 0.0], [0.0, 4.0]])
    actions = torch.randint(0, 2, (rows, 1, 2), generator=torch.Generator().manual_seed(0))
    no = torch.zeros(rows, 1, dtype=torch.bool)
    return EpisodeBatch(
        spec=GAME,
        obs=torch.ones(rows, 2, 2, 1),
        state=torch.ones(rows, 2, 1),
        avail_actions=torch.ones(rows, 2, 2, 2, dtype=torch.bool),
        actions=actions,
        reward=payoff[actions[..., 0], actions[..., 1]],
        terminated=~no,
        truncated=no,
        lengths=torch.ones(rows, dtype=torch.int64),
    )


@pytest.mark.parametrize(("alpha", "chosen"), [(0.5, True), (1000.0, False)])
def test_it_prefers_what_was_better_the_more_the_smaller_alpha(alpha: float, chosen: bool) -> None:
    learner = build(GAME, alpha=alpha, lr=5e-3, critic_lr=5e-3, target_rate=0.1, value_hidden=[16])
    batch = choices()
    for _ in range(100):
        learner.learn(batch, 0)
    policy, seen = learner.policy, Seen.of(batch, 0)
    drawn, _ = policy.act(seen, policy.init_carry(64, CPU), 0, False, torch.Generator())
    share = float((drawn == 1).float().mean())
    assert share > 0.9 if chosen else 0.3 < share < 0.7


def test_what_ends_is_worth_what_it_earned() -> None:
    """Whatever the target networks say of what would follow."""
    learner, batch = build(GAME), choices()
    metrics = learner.learn(replace(batch, obs=batch.obs * 1e3), 0)
    assert float(metrics["target_mean"]) == pytest.approx(float(batch.reward.mean()))
    cut = replace(batch, terminated=batch.truncated, truncated=batch.terminated)
    assert float(learner.learn(cut, 0)["target_mean"]) != pytest.approx(float(batch.reward.mean()))


def test_target_networks_follow_at_their_rate() -> None:
    learner = build(target_rate=0.25)
    before = copy.deepcopy(learner.target_values)
    learner.learn(random_batch(), 0)
    moved = False
    for old, kept, new in zip(
        *(x.parameters() for x in (before, learner.target_values, learner.values)), strict=True
    ):
        torch.testing.assert_close(kept, 0.75 * old + 0.25 * new)
        assert not kept.requires_grad
        moved = moved or not torch.equal(kept, new)
    assert moved


def test_padding_and_the_dead_do_not_teach_the_policy() -> None:
    batch = random_batch((2, 5, 4))
    found = []
    step = (torch.arange(batch.max_t) >= batch.lengths[:, None])[..., None]
    other = torch.where(step | ~batch.alive[:, :-1], 0, batch.actions)
    avail = batch.avail_actions.clone()
    avail[..., 0] = True
    for actions in (batch.actions, other):
        learner = build()
        before = [p.clone() for p in learner.policy.parameters()]
        # With one weight for all actions nothing is left but the likelihood of what the living did.
        learner.config = learner.config.model_copy(update={"alpha": 1e9})
        learner.learn(replace(batch, actions=actions, avail_actions=avail), 0)
        found.append([p - old for p, old in zip(learner.policy.parameters(), before, strict=True)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_vectors_are_refused() -> None:
    with pytest.raises(ConfigError, match="omiga values each of a number of actions"):
        build(ACTIONS["continuous"])
