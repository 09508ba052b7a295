"""The multi-agent transformer: who knows what, and acting one by one against one parallel pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
import torch
from torch import Tensor

from phalanx.data.batch import EpisodeBatch
from phalanx.data.chunks import Chunks, Cutting
from phalanx.envs.protocol import EnvSpec
from phalanx.errors import ConfigError
from phalanx.learners.ppo import PPOLearner
from phalanx.modules.layers.decoding import begin
from phalanx.modules.policies.base import Seen
from phalanx.modules.policies.transformer import TransformerPolicy, shifted

from .toys import ACTIONS, CPU, SPEC, assemble, random_batch

VARIANTS = {
    "mat": {"encoder": "attention", "decoder": "attention"},
    "mat_encoder": {"encoder": "attention", "decoder": "none"},
    "mat_decoder": {"encoder": "none", "decoder": "attention"},
    "mat_gru": {"encoder": "gru", "decoder": "gru"},
}
ORDERS = torch.tensor([*permutations(range(3))]).repeat(4, 1)
INDEX = torch.arange(3).repeat(len(ORDERS), 1)


def make(variant: str, spec: EnvSpec = SPEC, **keys: Any) -> TransformerPolicy:
    """A policy of this variant with weights large enough that everything matters."""
    values = {"policy": VARIANTS[variant] | {"n_embd": 16, "n_head": 2} | keys}
    policy: TransformerPolicy = assemble(values, spec, policy="transformer").build("policy")
    generator = torch.Generator().manual_seed(1)
    for parameter in policy.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return policy


def moments(spec: EnvSpec = SPEC, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Observations (6, N, O), masks (6, N, A) and actions that were available."""
    batch = random_batch((6,), spec, seed)
    return batch.obs[0, :-1], batch.avail_actions[0, :-1], batch.actions[0]


def outputs(policy: TransformerPolicy, obs: Tensor, actions: Tensor) -> Tensor:
    """Logits (6, N, A) in one parallel pass."""
    logits: Tensor = policy.head(policy.features(policy.encode(obs), actions))
    return logits


def test_encoder_is_equivariant_and_the_gru_is_not() -> None:
    obs, _, _ = moments()
    order = torch.tensor([2, 0, 1])
    attention, gru = make("mat", obs_agent_id=False), make("mat_gru", obs_agent_id=False)
    for policy, equivariant in ((attention, True), (gru, False)):
        rep, permuted = policy.encode(obs), policy.encode(obs[:, order])
        values, of_permuted = (policy.value(x) for x in (rep, permuted))
        assert torch.allclose(rep[:, order], permuted, atol=1e-6) == equivariant
        assert torch.allclose(values[:, order], of_permuted, atol=1e-6) == equivariant


@pytest.mark.parametrize("variant", VARIANTS)
def test_who_knows_of_whose_actions(variant: str) -> None:
    policy = make(variant)
    obs, _, actions = moments()
    before = outputs(policy, obs, actions)
    for j in range(3):
        other = actions.clone()
        other[:, j] = (other[:, j] + 1) % 5
        moved = (outputs(policy, obs, other) - before).abs().amax(dim=(0, 2))
        later = [variant != "mat_encoder" and i > j for i in range(3)]
        assert (moved > 0).tolist() == later


@pytest.mark.parametrize("variant", VARIANTS)
def test_who_knows_of_whose_observations(variant: str) -> None:
    policy = make(variant)
    obs, _, actions = moments()
    before = outputs(policy, obs, actions)
    for j in range(3):
        other = obs.clone()
        other[:, j] += 1
        moved = (outputs(policy, other, actions) - before).abs().amax(dim=(0, 2))
        expected = {
            "mat": [True] * 3,
            "mat_encoder": [True] * 3,
            "mat_decoder": [i == j for i in range(3)],
            "mat_gru": [i >= j for i in range(3)],
        }[variant]
        assert (moved > 1e-7).tolist() == expected


def test_decentralised_actors_know_their_own_observation_only() -> None:
    agent = assemble({"agent": {"head_gain": 1.0}}, agent="normed").build("agent")
    batch = random_batch((6,))
    before = agent(batch.obs, batch.last_actions).values
    for j in range(3):
        obs = batch.obs.clone()
        obs[:, :, j] += torch.arange(7.0)
        moved = (agent(obs, batch.last_actions).values - before).abs().amax(dim=(0, 1, 3))
        assert (moved > 0).tolist() == [i == j for i in range(3)]


def test_tokens_are_the_actions_before() -> None:
    tokens = torch.nn.functional.one_hot(shifted(torch.tensor([[2, 0, 3]]), 4), 5)
    assert tokens.tolist() == [[[1, 0, 0, 0, 0], [0, 0, 0, 1, 0], [0, 1, 0, 0, 0]]]


def test_the_start_is_not_the_zero_action() -> None:
    tokens = shifted(torch.tensor([[[0.0, 0.0], [0.5, -1.0], [9.0, 9.0]]]), 0)
    assert tokens.tolist() == [[[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.5, -1.0]]]


def test_tokens_of_mixed_actions_tell_the_choice_as_a_one_hot() -> None:
    tokens = shifted(torch.tensor([[[2.0, 0.5], [0.0, -1.0], [1.0, 9.0]]]), 3)
    assert tokens.tolist() == [[[1.0, 0, 0, 0, 0], [0, 0, 0, 1, 0.5], [0, 1, 0, 0, -1.0]]]


def one_by_one(policy: TransformerPolicy, obs: Tensor, offsets: Tensor, spec: EnvSpec) -> Tensor:
    """Actions by running the whole decoder for every agent, without a cache."""
    rep = policy.encode(obs)
    kind = torch.float32 if spec.dimensions else torch.int64
    actions = torch.zeros(*obs.shape[:2], *spec.action_shape, dtype=kind)
    for i in range(obs.shape[1]):
        out = policy.head(policy.features(rep, actions))[:, i]
        actions[:, i] = policy.distribution.choose(out, offsets[:, i])
    return actions


@pytest.mark.parametrize("n_block", [1, 2])
@pytest.mark.parametrize("n_agents", [1, 3])
@pytest.mark.parametrize("spec", ACTIONS.values(), ids=ACTIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_acting_one_by_one_agrees_with_one_parallel_pass(
    variant: str, spec: EnvSpec, n_agents: int, n_block: int
) -> None:
    spec = replace(spec, n_agents=n_agents)
    policy = make(variant, spec, n_block=n_block)
    obs, avail, _ = moments(spec)
    with torch.no_grad():
        rep = policy.encode(obs)
        acted = policy.decode(rep, avail, torch.Generator().manual_seed(5))
        like = torch.empty(6, n_agents, spec.policy_outputs)
        generator = torch.Generator().manual_seed(5)
        offsets = policy.distribution.offsets(like, avail, generator)
        expected = one_by_one(policy, obs, offsets, spec)
        exact = {} if spec.dimensions else {"atol": 0, "rtol": 0}
        torch.testing.assert_close(acted, expected, **exact)
        # Outputs position by position from the cache, against the parallel pass on the same actions.
        parallel = outputs(policy, obs, acted)
        if policy.decoder is None:
            return
        expected, _ = policy.distribution.log_prob(parallel, avail, acted)
        for loops in (False, True):
            decoding = begin(policy.decoder, policy.head, rep, loops=loops)
            entered = decoding.enter(policy._embed_tokens(shifted(acted, spec.choices)))
            steps = [decoding.step(i, entered[:, i]) for i in range(n_agents)]
            log_p, _ = policy.distribution.log_prob(torch.stack(steps, dim=1), avail, acted)
            # The parallel pass itself is 1e-5 away from what it is in double precision.
            torch.testing.assert_close(log_p, expected, atol=1e-5, rtol=1e-5)


def played(policy: TransformerPolicy, spec: EnvSpec) -> EpisodeBatch:
    """Two episodes as the policy plays them, with what it remembers of their starts."""
    batch, generator = random_batch((6, 6), spec), torch.Generator().manual_seed(3)
    carry = policy.init_carry(2, CPU, generator)
    taken = []
    for t in range(6):
        actions, carry = policy.act(Seen.of(batch, t), carry, 0, False, generator)
        taken.append(actions)
    return replace(batch, actions=torch.stack(taken, dim=1), carry=carry)


def evaluated(policy: TransformerPolicy, batch: EpisodeBatch) -> tuple[Tensor, Tensor]:
    """Log-probabilities (B, T, N, F) and values (B, T, N) of what was done, in the orders of ``batch``."""
    cutting = Cutting.of(batch, 1)
    carry = {k: v[:, None] for k, v in (batch.carry or {}).items()}
    evaluation = policy.evaluate(Chunks.of(batch, cutting, carry))
    assert evaluation.values is not None
    return cutting.put(evaluation.log_prob), cutting.put(evaluation.values)


def greedy(policy: TransformerPolicy, carry: dict[str, Tensor]) -> EpisodeBatch:
    """Episodes of one step with the policy's most likely actions, every agent having its own mask."""
    batch = random_batch((1,) * len(ORDERS))
    actions, _ = policy.act(Seen.of(batch, 0), carry, 0, True, torch.Generator())
    return replace(batch, actions=actions[:, None], carry=carry)


@pytest.mark.parametrize("variant", VARIANTS)
def test_greedy_actions_are_the_most_likely_in_each_rows_own_order(variant: str) -> None:
    policy = make(variant)
    batch = greedy(policy, {"order": ORDERS})
    assert batch.avail_actions[:, :-1].gather(-1, batch.actions[..., None]).all()
    chosen, _ = evaluated(policy, batch)
    for agent in range(3):
        for action in range(5):
            other = batch.actions.clone()
            other[..., agent] = action
            instead, _ = evaluated(policy, replace(batch, actions=other))
            assert (instead[:, :, agent] <= chosen[:, :, agent] + 1e-5).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_values_of_greedy_steps_are_those_that_would_bootstrap(variant: str) -> None:
    policy = make(variant)
    batch = greedy(policy, {"order": ORDERS})
    _, values = evaluated(policy, batch)
    bootstrap = policy.values(batch.obs[:, 0], batch.avail_actions[:, 0], {"order": ORDERS})
    torch.testing.assert_close(values[:, 0], bootstrap, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_order_matters_only_where_actions_are_decoded(variant: str) -> None:
    policy, alike = make(variant), variant == "mat_encoder"
    by_index, reverse = (greedy(policy, {"order": x}) for x in (INDEX, INDEX.flip(1)))
    assert torch.equal(by_index.actions, reverse.actions) == alike
    same_actions = replace(by_index, carry=reverse.carry)
    there, back = (evaluated(policy, x)[0] for x in (by_index, same_actions))
    assert torch.allclose(there, back, atol=1e-5) == alike


@pytest.mark.parametrize("variant", ["mat", "mat_decoder", "mat_gru"])
def test_without_an_order_agents_decide_by_index(variant: str) -> None:
    policy = make(variant)
    by_default, by_index = (greedy(policy, carry) for carry in ({}, {"order": INDEX}))
    assert torch.equal(by_default.actions, by_index.actions)
    for default, index in zip(
        evaluated(policy, by_default), evaluated(policy, by_index), strict=True
    ):
        torch.testing.assert_close(default, index)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_random_order_is_the_same_team_in_another_order(variant: str) -> None:
    policy = make(variant, random_agent_order=True)
    plain = make(variant)
    plain.load_state_dict(policy.state_dict())
    batch = played(policy, SPEC)
    assert batch.carry is not None
    orders = batch.carry["order"]
    assert sorted(orders[0].tolist()) == [0, 1, 2]
    assert not torch.equal(orders[0], orders[1])
    log_prob, _ = evaluated(policy, batch)
    for b in range(2):
        order = orders[b]
        # Who they are goes with the agents, so the plain policy is given that in their order too.
        rep = plain.encoder(plain.embed(batch.obs[b, :-1])[:, order])
        out = plain.head(plain.features(rep, batch.actions[b][:, order]))
        expected, _ = plain.distribution.log_prob(
            out, batch.avail_actions[b, :-1][:, order], batch.actions[b][:, order]
        )
        torch.testing.assert_close(log_prob[b][:, order], expected, atol=1e-5, rtol=1e-5)


def test_without_that_option_nothing_is_drawn() -> None:
    policy, generator = make("mat"), torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert policy.init_carry(4, CPU, generator) == {}
    assert torch.equal(before, generator.get_state())


def build(configs: Mapping[str, Mapping[str, Any]] | None = None, **parts: str) -> PPOLearner:
    """A PPO learner of these parts."""
    chosen = {"learner": "ppo", "agent": "normed", **parts}
    values = {"agent": {"head_gain": 1.0}, **(configs or {})}
    learner: PPOLearner = assemble(values, **chosen).build("learner")
    return learner


def test_mat_learns_policy_and_values_with_one_optimiser() -> None:
    learner = build(policy="transformer", critic="of_policy")
    assert len(learner.optimisers) == 1
    assert not list(learner.critic.parameters())
    before = [p.clone() for p in learner.policy.parameters()]
    learner.learn(random_batch(), 0)
    unmoved = [
        name
        for (name, p), old in zip(learner.policy.named_parameters(), before, strict=True)
        if torch.equal(p, old)
    ]
    assert unmoved == []


def test_mat_dec_is_mappo_with_another_critic() -> None:
    mappo = build(policy="actor", critic="normed")
    mat_dec = build(policy="actor", critic="attention")
    mat_dec.policy.load_state_dict(mappo.policy.state_dict())
    batch = random_batch()
    cutting = Cutting.of(batch, 1)
    targets = mappo.prepare(batch)
    losses = [
        learner.policy_loss(
            learner.policy.evaluate(Chunks.of(batch, cutting, targets.carry)), cutting, targets
        )[0]
        for learner in (mappo, mat_dec)
    ]
    assert torch.equal(losses[0], losses[1])
    values = [learner.prepare(batch).values for learner in (mappo, mat_dec)]
    assert not torch.allclose(values[0], values[1])


def test_values_of_the_decoder_depend_on_earlier_actions() -> None:
    policy = make("mat_decoder")
    obs, _, actions = moments()
    rep = policy.encode(obs)
    other = actions.clone()
    other[:, 0] = (other[:, 0] + 1) % 5
    one, two = (policy._value(rep, policy.features(rep, a)) for a in (actions, other))
    assert torch.equal(one[:, 0], two[:, 0])
    assert not torch.allclose(one[:, 1:], two[:, 1:])


def test_what_bootstraps_the_decoders_values_is_of_available_actions_and_draws_nothing() -> None:
    policy = make("mat_decoder")
    obs, avail, _ = moments()
    avail = torch.ones_like(avail)
    first = policy.decode(policy.encode(obs), avail, None)[:, 0]
    fewer = avail.clone()
    fewer[torch.arange(len(fewer)), 0, first] = False
    before = torch.get_rng_state()
    one, two = (policy.values(obs, mask, {}) for mask in (avail, fewer))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one[:, 0], two[:, 0])
    assert ((one - two)[:, 1:].abs() > 1e-4).all()


@pytest.mark.parametrize("variant", ["mat", "mat_decoder", "mat_gru"])
def test_the_value_after_the_last_step_is_of_the_episodes_own_order(variant: str) -> None:
    learner = build(
        {"policy": VARIANTS[variant] | {"random_agent_order": True}},
        policy="transformer",
        critic="of_policy",
    )
    policy = learner.policy
    assert isinstance(policy, TransformerPolicy)
    generator = torch.Generator().manual_seed(1)
    for parameter in policy.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    orders = torch.tensor([[0, 1, 2], [2, 0, 1], [1, 2, 0], [2, 1, 0]])
    batch = replace(random_batch(), carry={"order": orders})
    row, end = 3, 7  # truncated: only there a value follows
    seen = (batch.obs[row, end][None], batch.avail_actions[row, end][None])
    own, by_index = (
        learner.value_norm.denormalise(policy.values(*seen, carry))
        for carry in ({"order": orders[row][None]}, {})
    )
    followed = batch.reward[row, end - 1] + 0.99 * own[0]
    torch.testing.assert_close(learner.prepare(batch).returns[row, end - 1], followed)
    assert torch.allclose(own, by_index, atol=1e-5) == (variant == "mat")


def test_wrong_parts_are_refused() -> None:
    with pytest.raises(ConfigError, match="needs a policy that values what it sees"):
        build(policy="actor", critic="of_policy")
    with pytest.raises(ConfigError, match="n_head=3 does not divide n_embd=16"):
        make("mat", n_head=3)
