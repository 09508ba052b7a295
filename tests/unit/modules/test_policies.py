"""A sequence at once is the same as step by step, for every agent and policy there is."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import ClassVar

import pytest
import torch

from phalanx.data.chunks import Chunks, Cutting
from phalanx.modules.agents.base import Agent
from phalanx.modules.layers import compiled
from phalanx.modules.policies.base import Seen, StochasticPolicy
from phalanx.registry import AGENTS, POLICIES

from .toys import CPU, SPEC, assemble, random_batch


@pytest.mark.parametrize("name", AGENTS.names())
def test_sequence_equals_single_steps(name: str) -> None:
    agent: Agent = assemble(agent=name).build("agent")
    batch = random_batch((6, 6, 6))
    last_actions = batch.last_actions
    whole = agent(batch.obs, last_actions)
    carry = agent.init_carry(3, CPU)
    for t in range(7):
        step = agent(batch.obs[:, t : t + 1], last_actions[:, t : t + 1], carry)
        carry = step.carry
        torch.testing.assert_close(step.values[:, 0], whole.values[:, t], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(step.hidden[:, 0], whole.hidden[:, t], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(carry, whole.carry, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(agent.head(whole.hidden), whole.values, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", AGENTS.names())
def test_packed_equals_padded(name: str) -> None:
    agent: Agent = assemble(agent=name).build("agent")
    batch = random_batch()
    lengths = batch.lengths + 1
    packed = agent(batch.obs, batch.last_actions, lengths=lengths)
    padded = agent(batch.obs, batch.last_actions)
    exists = torch.arange(batch.max_t + 1) < lengths[:, None]
    for ours, theirs in ((packed.values, padded.values), (packed.hidden, padded.hidden)):
        torch.testing.assert_close(ours[exists], theirs[exists], atol=1e-6, rtol=1e-5)
        assert not ours[~exists].any()
    ends = padded.hidden[torch.arange(batch.batch_size), batch.lengths]
    torch.testing.assert_close(packed.carry, ends, atol=1e-6, rtol=1e-5)


def test_unrolling_goes_on_from_what_was_remembered() -> None:
    """The second half of an episode, with the memory before it, has the values of the whole episode."""
    policy = assemble().build("policy")
    batch = random_batch((8, 8))
    whole = policy.unroll(batch)
    fields = ("obs", "state", "avail_actions", "actions", "reward", "terminated", "truncated")
    carry = {"hidden": whole.hidden[:, 3], "last_actions": batch.last_actions[:, 4]}
    late = {name: getattr(batch, name)[:, 4:] for name in (*fields, "alive", "visibility")}
    half = replace(batch, lengths=batch.lengths - 4, carry=carry, **late)
    ours, theirs = policy.unroll(half).values, whole.values[:, 4:]
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    fresh = policy.unroll(replace(half, carry=None)).values
    assert not torch.allclose(fresh, theirs, atol=1e-3)


STOCHASTIC = [name for name, part in POLICIES.items() if issubclass(part, StochasticPolicy)]


@pytest.mark.parametrize("name", [n for n in POLICIES.names() if n not in STOCHASTIC])
def test_acting_step_by_step_follows_the_unrolled_values(name: str) -> None:
    policy = assemble(policy=name).build("policy")
    batch = random_batch((5, 5))
    carry = policy.init_carry(2, CPU)
    assert not any(bool(tensor.any()) for tensor in carry.values())
    unrolled = policy.unroll(batch)
    generator = torch.Generator()
    for t in range(5):
        avail = batch.avail_actions[:, t]
        actions, carry = policy.act(Seen.of(batch, t), carry, 0, True, generator)
        best = unrolled.values[:, t].masked_fill(~avail, -torch.inf).argmax(-1)
        assert torch.equal(actions, best)
        carry["last_actions"] = batch.actions[:, t] + 1  # go on with what the episode really did


@pytest.mark.parametrize("name", STOCHASTIC)
def test_greedy_acting_takes_what_evaluation_calls_most_likely(name: str) -> None:
    agent = {"recurrent": True, "head_gain": 1.0}
    policy = assemble({"agent": agent}, policy=name, agent="normed").build("policy")
    for parameter in policy.parameters():  # away from the uniform policy it begins with
        parameter.data += 0.3 * torch.randn_like(parameter)
    batch, generator = random_batch((5, 5)), torch.Generator()
    carry = policy.init_carry(2, CPU)
    start = {k: v[:, None].clone() for k, v in carry.items()}
    taken = []
    for t in range(5):
        actions, carry = policy.act(Seen.of(batch, t), carry, 0, True, generator)
        taken.append(actions)
    batch = replace(batch, actions=torch.stack(taken, dim=1))
    cutting = Cutting.of(batch, 5)
    chunks = Chunks.of(batch, cutting, start)
    chosen = policy.evaluate(chunks).log_prob[..., 0]
    for t, i, a in itertools.product(range(5), range(3), range(5)):
        actions = batch.actions.clone()
        actions[:, t, i] = a
        other = replace(chunks, batch=replace(batch, actions=actions))
        assert (policy.evaluate(other).log_prob[:, t, i, 0] <= chosen[:, t, i] + 1e-6).all()


@pytest.mark.parametrize("name", STOCHASTIC)
def test_probabilities_of_all_actions_add_up_to_one(name: str) -> None:
    policy = assemble(policy=name, agent="normed").build("policy")
    batch = random_batch((1,) * 8)
    start = {name: x[:, None] for name, x in policy.start_of(batch).items()}
    chunks = Chunks.of(batch, Cutting.of(batch, 1), start)
    total = 0
    for a in range(5):
        actions = batch.actions.clone()
        actions[:, :, 1] = a
        other = replace(chunks, batch=replace(batch, actions=actions))
        log_prob = policy.evaluate(other).log_prob[:, :, 1]
        total = total + log_prob.exp()
        assert not log_prob[~batch.avail_actions[:, :-1, 1, a]].exp().any()
    torch.testing.assert_close(total, torch.ones(8, 1, 1))


def test_zeros_restart_a_row() -> None:
    policy = assemble().build("policy")
    batch, generator = random_batch((5, 5)), torch.Generator()
    carry = policy.init_carry(2, CPU)
    fresh, _ = policy.act(Seen.of(batch, 0), carry, 0, True, generator)
    _, carry = policy.act(Seen.of(batch, 1), carry, 0, True, generator)
    for tensor in carry.values():
        tensor[0] = 0
    again, _ = policy.act(Seen.of(batch, 0), carry, 0, True, generator)
    assert torch.equal(again[0], fresh[0])


@pytest.mark.parametrize(
    ("last_action", "agent_id"), [(False, False), (True, False), (False, True)]
)
def test_inputs_are_one_hot_columns(last_action: bool, agent_id: bool) -> None:
    config = {"obs_last_action": last_action, "obs_agent_id": agent_id}
    agent = assemble({"agent": config}).build("agent")
    batch = random_batch((4, 4))
    B, T, N = batch.last_actions.shape
    inputs = [batch.obs]
    if last_action:
        marked = torch.nn.functional.one_hot(batch.last_actions, SPEC.n_actions + 1)
        inputs.append(marked[..., 1:].float())
    if agent_id:
        inputs.append(torch.eye(N).expand(B, T, N, N))
    expected = torch.relu(agent.fc1(torch.cat(inputs, dim=-1)))
    torch.testing.assert_close(agent._embed(batch.obs, batch.last_actions), expected)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_a_row_starts_with_what_the_data_know_of_it(name: str) -> None:
    policy = assemble(policy=name, agent="normed").build("policy")
    batch, fresh = random_batch((4, 4)), policy.init_carry(2, CPU)
    assert policy.start_of(batch).keys() <= fresh.keys()  # without what it remembers of nothing
    window = {"last_actions": torch.ones(2, 3, dtype=torch.int64), "return_to_go": torch.ones(2)}
    start = policy.start_of(replace(batch, carry=window))
    assert start.keys() <= fresh.keys()  # what the policy does not ask for is left out
    for key, value in start.items():
        assert torch.equal(value, window.get(key, fresh[key]))


def test_decoding_is_compiled_by_prepare_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    policy = assemble(policy="transformer").build("policy")
    policy.prepare()
    before = [*compiled.decode_choices.overloads]
    seen = Seen.of(random_batch(), 0)
    policy.act(seen, policy.init_carry(3, CPU), 0, True, torch.Generator())
    assert before == [*compiled.decode_choices.overloads]

    class Kernel:
        overloads: ClassVar[dict[str, str]] = {}

        class _cache:  # noqa: N801
            class _cache_file:  # noqa: N801
                _load_index = staticmethod(dict)

        def __call__(self, x: int) -> int:
            return x + 1

    compiled._announce.cache_clear()
    with caplog.at_level("INFO", "phalanx"):
        assert [compiled.call(Kernel(), x) for x in (1, 2)] == [2, 3]
    assert [r.message.split(":")[0] for r in caplog.records] == ["decoding on the CPU"]
