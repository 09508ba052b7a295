"""Two experts: who acts, what is stored of it, and that the surer one is the better one."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from phalanx.collection import Explorer
from phalanx.envs.protocol import Discrete, EnvSpec
from phalanx.errors import ConfigError
from phalanx.modules.behaviours.dual_expert import DualExpert, surer
from phalanx.modules.policies.base import Seen, StochasticPolicy
from phalanx.runners.actor import InItsPlace

from ...recorder import trainer
from .test_sequence_policies import LONG, make
from .toys import CPU, assemble, plain, random_batch


def around(policy: StochasticPolicy, **keys: Any) -> DualExpert:
    """Both experts are the policy as it is."""
    return DualExpert(DualExpert.Config(**keys), policy=policy)


def stirred(policy: StochasticPolicy) -> StochasticPolicy:
    """The policy, moved away from whatever was copied of it."""
    generator = torch.Generator().manual_seed(7)
    for parameter in policy.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return policy


def logs(*chances: float) -> Tensor:
    return torch.tensor([chances]).log()


@pytest.mark.parametrize(
    ("theirs", "ours", "votes", "scope", "follow"),
    [
        ((0.9, 0.8, 0.1), (0.5, 0.5, 0.5), (1, 1, 1), "team", (1, 1, 1)),
        ((0.9, 0.8, 0.1), (0.5, 0.5, 0.5), (1, 1, 1), "agent", (1, 1, 0)),
        (
            (0.9, 0.9, 0.1, 0.1),
            (0.5,) * 4,
            (1, 1, 1, 1),
            "team",
            (0, 0, 0, 0),
        ),  # half is no majority
        ((0.9, 0.9, 1.0, 1.0), (0.5, 0.5, 1.0, 1.0), (1, 1, 0, 0), "team", (1, 1, 1, 1)),
        ((0.9, 0.9, 1.0, 1.0), (0.5, 0.5, 1.0, 1.0), (1, 1, 1, 1), "team", (0, 0, 0, 0)),
        ((0.5, 0.5), (0.5, 0.5), (1, 1), "team", (0, 0)),
        ((0.9, 0.9), (0.5, 0.5), (0, 0), "team", (0, 0)),
    ],
)
def test_votes(theirs: Any, ours: Any, votes: Any, scope: Any, follow: Any) -> None:
    voters = torch.tensor([votes], dtype=torch.bool)
    assert surer(logs(*ours), logs(*theirs), voters, scope)[0].tolist() == [bool(x) for x in follow]


@pytest.mark.parametrize("name", ["actor", "transformer", "vaeformer"])
def test_a_policy_never_disagrees_with_its_copy(name: str) -> None:
    policy = assemble({}, LONG, policy=name, agent="normed").build("policy")
    one, two = plain(policy), around(policy)
    batch, generators = random_batch((40,) * 5, LONG), [torch.Generator() for _ in range(2)]
    carries = [behaviour.init_carry(5, CPU) for behaviour in (one, two)]
    for generator in generators:
        generator.manual_seed(0)
    for t in range(40):
        seen, took = Seen.of(batch, t), []
        for i, behaviour in enumerate((one, two)):
            played = behaviour.act(seen, carries[i], 0, False, generators[i])
            carries[i] = played.carry
            took.append(played.actions)
        assert torch.equal(*took)
    assert torch.equal(*(generator.get_state() for generator in generators))
    assert two.metrics(0)["expert_share"] == 0


def test_what_plays_around_both_begins_with_what_is_asked_of_both() -> None:
    two = around(assemble({}, LONG, policy="vaeformer", agent="normed").build("policy"))
    asked = [(name, set(carry)) for name, carry in two.conditions]
    assert any(len(keys) > 1 for _, keys in asked)  # of the policy, and of its copy
    for outside in (Explorer(two, 0.1, LONG), InItsPlace(two, 1, 2, 4)):
        assert [(name, set(carry)) for name, carry in outside.conditions] == asked
        assert set(outside.init_carry(2, CPU)) == set(two.init_carry(2, CPU))


@pytest.mark.parametrize("scope", ["team", "agent"])
def test_both_are_told_what_was_done_and_whoever_did_it_is_stored(scope: Any) -> None:
    behaviour = around(make("decision_transformer"), scope=scope)
    experts = [stirred(behaviour.policy), behaviour.expert]
    batch, generator = random_batch((30,) * 4, LONG), torch.Generator().manual_seed(1)
    carry = behaviour.init_carry(4, CPU)
    assert behaviour.optional_fields == {"log_prob"}
    alone = [{k: v for k, v in carry.items() if not k.startswith("expert_")} for _ in experts]
    shares, mixed = [], 0
    for t in range(30):
        seen = Seen.of(batch, t)
        played = behaviour.act(seen, carry, 0, False, generator)
        carry = played.carry
        chances = []
        for i, expert in enumerate(experts):
            outputs, after = expert._advance(seen, alone[i])
            alone[i] = {**after, "last_actions": played.actions + 1}
            chances.append(
                expert.distribution.log_prob(outputs, seen.avail_actions, played.actions)[0]
            )
        ours, theirs = ((c - played.log_prob).abs().squeeze(-1) < 1e-5 for c in chances)
        assert (ours | theirs).all()
        if scope == "team":
            assert (ours.all(dim=1) | theirs.all(dim=1)).all()
        shares.append((theirs & ~ours).float().mean())
        mixed += int(((theirs & ~ours).any(dim=1) & (ours & ~theirs).any(dim=1)).sum())
    assert 0.1 < sum(shares) / 30 < 0.9
    assert (mixed > 0) == (scope == "agent")
    assert behaviour.metrics(0)["expert_share"] > 0


def cued(policy: StochasticPolicy, knows: int) -> StochasticPolicy:
    """A policy of two agents, cloned from play that is good for cue ``knows`` and random for the other."""
    spec = EnvSpec(2, obs_dim=2, state_dim=1, action=Discrete(4), episode_limit=1)
    batch = random_batch((1,) * 64, spec)
    cue = torch.arange(64) % 2
    good = torch.full((64, 1, 2), 3)
    chance = torch.randint(0, 4, (64, 1, 2), generator=torch.Generator().manual_seed(0))
    seen = torch.nn.functional.one_hot(cue, 2).float()[:, None, None].expand(64, 2, 2, 2).clone()
    batch = replace(
        batch,
        obs=seen,
        avail_actions=torch.ones_like(batch.avail_actions),
        actions=torch.where((cue == knows)[:, None, None], good, chance),
        alive=None,
    )
    parts = assemble(
        {"learner": {"lr": 0.03}}, spec, policy="actor", agent="normed", learner="bc", critic="none"
    )
    parts.give(policy=policy)
    learner = parts.build("learner")
    for _ in range(40):
        learner.learn(batch, 0)
    return policy


def test_of_two_experts_the_better_one_is_chosen() -> None:
    """Each knows what to do about one cue and guesses about the other; the good action is the last."""
    spec = EnvSpec(2, obs_dim=2, state_dim=1, action=Discrete(4), episode_limit=1)
    policy = assemble({}, spec, policy="actor", agent="normed").build("policy")
    behaviour = around(cued(policy, knows=0))
    cued(behaviour.policy, knows=1)
    cue = torch.arange(400) % 2
    seen = Seen(
        torch.nn.functional.one_hot(cue, 2).float()[:, None].expand(400, 2, 2),
        torch.zeros(400, 1),
        torch.ones(400, 2, 4, dtype=torch.bool),
        torch.ones(400, 2, dtype=torch.bool),
        torch.zeros(400),
    )
    good = {}
    for name, plays in {
        "both": behaviour,
        "policy": plain(behaviour.policy),
        "expert": plain(behaviour.expert),
    }.items():
        generator = torch.Generator().manual_seed(3)
        played = plays.act(seen, plays.init_carry(400, CPU), 0, False, generator)
        good[name] = float((played.actions == 3).all(dim=1).float().mean())
    # Alone: every other cue, and one in 16 of the rest. By choice: all but where a guess was as sure.
    assert 0.4 < good["policy"] < 0.65
    assert 0.4 < good["expert"] < 0.65
    assert good["both"] > 0.95
    assert behaviour.metrics(0)["expert_share"] == pytest.approx(0.5, abs=0.1)


def test_where_there_is_one_expert_the_policy_acts() -> None:
    policy, batch = make("decision_transformer"), random_batch((4,) * 3, LONG)
    behaviour = around(policy, use_in="test")
    stirred(policy)
    assert not behaviour.optional_fields
    seen, carry = Seen.of(batch, 0), behaviour.init_carry(3, CPU)
    generators = [torch.Generator().manual_seed(2) for _ in range(2)]
    played = behaviour.act(seen, carry, 0, False, generators[0])
    actions, after = policy.act(seen, policy.init_carry(3, CPU), 0, False, generators[1])
    assert torch.equal(played.actions, actions)
    assert played.log_prob is None
    assert played.carry.keys() == carry.keys()
    assert all(torch.equal(played.carry[name], value) for name, value in after.items())
    # Both are asked for the same.
    assert behaviour.conditions[0].carry == {"return_to_go": 20.0, "expert_return_to_go": 20.0}


def test_ratios_start_from_whoever_acted(tmp_path: Path) -> None:
    words = (
        "behaviour=dual_expert",
        "scope=agent",
        "t_max=24",
        "batch_size_run=6",
        "episode_length=4",
        "test_nepisode=2",
    )
    run, _ = trainer(tmp_path, "mappo", "matrix", *words, "game=coordination", "test_interval=24")
    behaviour = run.parts.behaviour
    stirred(behaviour.expert)
    frozen = copy.deepcopy(behaviour.expert.state_dict())
    learner, learnt = run.parts.learner, []
    learn = learner.learn

    def spied(batch: Any, t_env: int) -> Any:
        own = learner.prepare(replace(batch, log_prob=None)).log_prob
        learnt.append((batch, learner.prepare(batch).log_prob, own))
        return learn(batch, t_env)

    learner.learn = spied
    run.run()
    batch, stored, own = learnt[0]
    assert torch.equal(stored, batch.log_prob)
    by_the_policy = ((stored - own).abs() < 1e-5)[batch.filled].float().mean()
    assert 0.0 < by_the_policy < 1.0
    assert all(torch.equal(v, frozen[k]) for k, v in behaviour.expert.state_dict().items())


def test_agents_that_decide_together_follow_together() -> None:
    policy = assemble({}, policy="transformer").build("policy")
    with pytest.raises(ConfigError, match="Set scope=team"):
        around(policy, scope="agent")
    around(
        assemble({"policy": {"decoder": "none"}}, policy="transformer").build("policy"),
        scope="agent",
    )
