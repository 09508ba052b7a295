"""Policies over sequences: rows equal steps, and outputs depend on what they should."""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from phalanx.data.batch import EpisodeBatch
from phalanx.data.chunks import Chunks, Cutting
from phalanx.data.on_policy import OnPolicyBuffer
from phalanx.envs.protocol import Discrete, EnvSpec
from phalanx.errors import ConfigError
from phalanx.modules.policies.base import Evaluation, Seen
from phalanx.modules.policies.sequence import SequencePolicy, returns_to_go
from phalanx.modules.policies.tokens import TokenPolicy
from phalanx.registry import POLICIES, RUNNERS

from ..runners.test_runners import Counting
from .toys import ACTIONS, CPU, SPEC, assemble, plain, random_batch

SEQUENCES = [name for name, part in POLICIES.items() if issubclass(part, SequencePolicy)]
TOKENED = [name for name in SEQUENCES if issubclass(POLICIES.get(name), TokenPolicy)]
LONG = replace(SPEC, episode_limit=40)
TOKENS = ("obs", "action_obs", "return_action_obs")


def make(name: str, spec: Any = LONG, **keys: Any) -> SequencePolicy:
    """A policy that sees few steps, with weights large enough that everything matters."""
    small: dict[str, Any] = (
        {"context_length": 5} if name in TOKENED else {"states": 8, "features": 8}
    )
    values = small | keys
    policy: SequencePolicy = assemble({"policy": values}, spec, policy=name).build("policy")
    generator = torch.Generator().manual_seed(1)
    for parameter in policy.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    return policy.requires_grad_(False)


def evaluated(policy: SequencePolicy, batch: EpisodeBatch) -> Evaluation:
    """What the policy says of whole rows."""
    start = {name: x[:, None] for name, x in policy.start_of(batch).items()}
    return policy.evaluate(Chunks.of(batch, Cutting.of(batch, batch.max_t), start))


def outputs(policy: SequencePolicy, batch: EpisodeBatch) -> Tensor:
    """Outputs (B, T, N, K) at every step of whole rows."""
    found = evaluated(policy, batch).outputs
    assert found is not None
    return found


def followed(policy: SequencePolicy, batch: EpisodeBatch, carry: dict[str, Tensor]) -> list[Any]:
    """What the policy proposes at each step, and remembers before it, while the batch's actions are done."""
    steps = []
    for t in range(batch.max_t):
        proposal = policy.propose(Seen.of(batch, t), carry, 0, None)
        steps.append((carry, proposal))
        carry = {**proposal.carry, "last_actions": batch.actions[:, t] + 1}
    return steps


def hindsight(policy: SequencePolicy, batch: EpisodeBatch) -> dict[str, Tensor]:
    """The start of whole episodes, asked for what they came to earn."""
    return policy.init_carry(batch.batch_size, CPU) | {"return_to_go": batch.reward.sum(dim=1)}


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_row_at_once_equals_single_steps(name: str) -> None:
    policy, batch = make(name), random_batch((40, 40), LONG)
    whole = outputs(policy, batch)
    steps = [proposal for _, proposal in followed(policy, batch, hindsight(policy, batch))]
    greedy = replace(batch, actions=torch.stack([step.actions for step in steps], dim=1))
    assert batch.avail_actions[:, :-1].gather(-1, greedy.actions[..., None]).all()
    chances = policy.distribution.log_prob(whole, batch.avail_actions[:, :-1], greedy.actions)
    ours = torch.stack([step.log_prob for step in steps], dim=1)
    torch.testing.assert_close(ours, chances[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", SEQUENCES)
def test_pieces_of_an_episode_go_on_from_what_was_remembered(name: str) -> None:
    policy, batch = make(name), random_batch((40, 40), LONG)
    whole, steps = evaluated(policy, batch), followed(policy, batch, hindsight(policy, batch))
    carry = steps[23][0] | {"reward": batch.reward[:, 22]}
    ours = evaluated(policy, piece(batch, 23, 40, carry))
    torch.testing.assert_close(ours.log_prob, whole.log_prob[:, 23:], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(
        evaluated(policy, piece(batch, 23, 40, None)).log_prob, ours.log_prob, atol=1e-3
    )


def piece(
    batch: EpisodeBatch, first: int, last: int, carry: dict[str, Tensor] | None
) -> EpisodeBatch:
    """Steps ``first`` to ``last`` of all rows, with what is known of the steps before."""
    seen = {
        name: getattr(batch, name)[:, first : last + 1]
        for name in ("obs", "state", "avail_actions", "alive", "visibility")
    }
    taken = {
        name: getattr(batch, name)[:, first:last]
        for name in ("actions", "reward", "terminated", "truncated")
    }
    lengths = torch.full((batch.batch_size,), last - first)
    return replace(batch, lengths=lengths, carry=carry, **seen, **taken)


@pytest.mark.parametrize("name", SEQUENCES)
def test_what_is_learnt_from_is_judged_as_it_was_while_acting(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces of episodes, some of which begin within one: so PPO's first ratios are 1."""
    env = Counting(4)
    policy, steps = make(name, env.spec), defaultdict(list)

    def act(seen: Seen, carry: dict[str, Tensor], *_: Any) -> tuple[Tensor, dict[str, Tensor]]:
        proposal = policy.propose(seen, carry, 0, torch.Generator().manual_seed(len(steps[0])))
        for b in range(4):
            steps[b].append(proposal.log_prob[b])
        return proposal.actions, proposal.carry

    class Judged(OnPolicyBuffer):
        acted: ClassVar[list[Tensor]] = []

        def insert(self, source: Any, rows: Any) -> None:
            super().insert(source, rows)
            self.acted.extend(torch.stack(steps.pop(b)) for b in rows.tolist())

    monkeypatch.setattr(policy, "act", act)
    buffer = Judged(Judged.Config(), env.spec, optional_fields=frozenset())
    part = RUNNERS.get("vector")
    runner = part(
        part.Config(batch_size_run=4, episode_length=3),
        env=env,
        behaviour=plain(policy),
        buffer=buffer,
        seed=0,
        device=CPU,
        optional_fields=frozenset(),
    )
    for _ in range(3):
        runner.collect(0)
    (batch,) = buffer.batches(0)
    assert batch.carry is not None
    assert batch.carry["step"].any()
    judged = evaluated(policy, batch).log_prob
    for ours, length, theirs in zip(judged, batch.lengths, buffer.acted, strict=True):
        torch.testing.assert_close(ours[:length], theirs, atol=1e-5, rtol=1e-5)


def test_windows_of_a_dataset_are_told_their_step_and_what_follows() -> None:
    """Where nothing is remembered anyway, a window says what the whole episode says of its steps."""
    policy, batch = make("decision_transformer", context_length=1), random_batch((40, 40), LONG)
    known = {
        "last_actions": batch.last_actions[:, 10],
        "step": torch.tensor([10, 10]),
        "return_to_go": batch.reward[:, 10:].sum(dim=1),
    }
    ours = evaluated(policy, piece(batch, 10, 20, known)).log_prob
    theirs = evaluated(policy, batch).log_prob[:, 10:20]
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_what_is_asked_for_falls_by_what_is_earned() -> None:
    rewards = torch.tensor([[1.0, 0.0, 2.0]])
    assert returns_to_go(rewards.sum(dim=1), rewards).tolist() == [[3.0, 2.0, 2.0]]
    policy, batch = make("decision_transformer"), random_batch((3,), LONG)
    batch = replace(batch, reward=rewards)
    carry = policy.init_carry(1, CPU)
    steps = followed(policy, batch, carry | {"return_to_go": torch.tensor([20.0])})
    asked = [float(proposal.carry["return_to_go"]) for _, proposal in steps]
    assert asked == [20.0, 19.0, 19.0]


def moved(policy: SequencePolicy, batch: EpisodeBatch, other: EpisodeBatch) -> Tensor:
    """(T, N) bool: whose outputs differ, of one row."""
    before, after = (outputs(policy, x) for x in (batch, other))
    return (before - after)[0].abs().amax(dim=-1) > 0


@pytest.mark.parametrize("name", TOKENED)
def test_outputs_depend_on_the_own_past_as_far_as_the_layers_reach(name: str) -> None:
    policy, batch = make(name), random_batch((30,), LONG)
    obs = batch.obs.clone()
    obs[0, 7, 1] += 1.0
    expected = torch.zeros(30, 3, dtype=torch.bool)
    expected[7 : 7 + 2 * 4 + 1, 1] = True  # two layers, each of which looks four steps back
    assert torch.equal(moved(policy, batch, replace(batch, obs=obs)), expected)


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("name", TOKENED)
def test_outputs_depend_on_what_the_tokens_tell(name: str, tokens: str) -> None:
    policy = make(name, tokens=tokens, context_length=1)
    batch = random_batch((9,), LONG)
    batch = replace(batch, reward=batch.reward.round())
    actions, reward = batch.actions.clone(), batch.reward.clone()
    actions[0, 3, 1] = (actions[0, 3, 1] + 1) % 5
    after = torch.zeros(9, 3, dtype=torch.bool)
    after[4, 1] = "action" in tokens
    assert torch.equal(moved(policy, batch, replace(batch, actions=actions)), after)
    reward[0, 3] += 1.0  # hindsight: up to there more could have been asked for
    before = torch.zeros(9, 3, dtype=torch.bool)
    before[:4] = "return" in tokens
    assert torch.equal(moved(policy, batch, replace(batch, reward=reward)), before)
    later = replace(batch, carry={"step": torch.tensor([5])})
    assert moved(policy, batch, later).all()


@pytest.mark.parametrize("spec", ACTIONS.values(), ids=ACTIONS)
def test_every_kind_of_action_is_drawn_and_judged_alike(spec: Any) -> None:
    tokens = "return_action_obs" if not spec.action_shape else "obs"
    policy, batch = make("decision_transformer", spec, tokens=tokens), random_batch((4, 4), spec)
    proposal = policy.propose(
        Seen.of(batch, 0),
        policy.start_of(batch) | policy.remember_nothing(2, CPU),
        0,
        torch.Generator(),
    )
    acted = batch.actions.clone()
    acted[:, 0] = proposal.actions
    judged = evaluated(policy, replace(batch, actions=acted)).log_prob[:, 0]
    torch.testing.assert_close(judged, proposal.log_prob, atol=1e-5, rtol=1e-5)


def test_acting_costs_the_same_late_in_an_episode() -> None:
    policy = make("decision_transformer", replace(SPEC, episode_limit=400))
    batch, generator = random_batch((1,) * 4), torch.Generator()
    flops = []
    for t in (10, 390):
        steps = torch.full((4,), t)
        carry = policy.init_carry(4, CPU) | {"step": steps, "seen": steps}
        with FlopCounterMode(display=False) as counter:
            policy.act(Seen.of(batch, 0), carry, 0, True, generator)
        flops.append(counter.get_total_flops())
    assert flops[0] == flops[1] > 0


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ConfigError, match="n_head=3 does not divide n_embd=32"):
        make("decision_transformer", n_head=3)
    with pytest.raises(ConfigError, match="tokens=action_obs tells agents their last action"):
        make("decision_transformer", ACTIONS["continuous"], tokens="action_obs")


@pytest.mark.parametrize("name", TOKENED)
def test_asking_for_more_gives_more(name: str) -> None:
    policy, batch = learnt_courses(name)
    for asked in (0.0, 1.0, 2.0, 3.0):
        carry = policy.init_carry(1, CPU) | {"return_to_go": torch.tensor([asked])}
        paid = [torch.zeros(1)]
        for _ in range(3):
            seen = Seen(*(x[:1] for x in Seen.of(batch, 0)._replace(reward=paid[-1])))
            done, carry = policy.act(seen, carry, 0, True, torch.Generator())
            paid.append(done[:, 0].float())
        assert float(sum(paid)) == asked


@functools.cache
def learnt_courses(name: str) -> tuple[SequencePolicy, EpisodeBatch]:
    """A policy and the data it has learnt: all courses of a game of three steps that pays its actions."""
    spec = EnvSpec(n_agents=1, obs_dim=1, state_dim=1, action=Discrete(2), episode_limit=3)
    actions = torch.tensor(list(itertools.product((0, 1), repeat=3)))
    batch = random_batch((3,) * 8, spec)
    batch = replace(
        batch,
        obs=torch.ones_like(batch.obs),
        avail_actions=torch.ones_like(batch.avail_actions),
        actions=actions[..., None],
        reward=actions.float(),
        alive=None,
    )
    keys = {"return_scale": 3.0, "n_embd": 16, "head_gain": 1.0}
    parts = assemble(
        {"policy": keys, "learner": {"lr": 0.02}}, spec, policy=name, learner="bc", critic="none"
    )
    learner = parts.build("learner")
    for _ in range(100):
        learner.learn(batch, 0)
    policy: SequencePolicy = learner.policy
    return policy.requires_grad_(False), batch
