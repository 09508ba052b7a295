"""The policy-gradient learners: masks without influence, ratios, factors, exact agreement with acting."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch

from phalanx.data.batch import EpisodeBatch
from phalanx.data.chunks import Chunks, Cutting
from phalanx.envs.protocol import EnvSpec
from phalanx.errors import ConfigError
from phalanx.learners.advantages import masked_mean, surrogate, value_loss
from phalanx.learners.ppo import PPOLearner, Targets
from phalanx.learners.sums import MetricSums
from phalanx.modules.layers.distributions import (
    DiagonalGaussian,
    MaskedCategorical,
    MixedDistribution,
    distribution_of,
)
from phalanx.modules.policies.actor import ActorPolicy
from phalanx.modules.policies.base import Seen

from ..modules.toys import ACTIONS, CPU, SPEC, assemble, random_batch

FAMILY = {"policy": "actor", "agent": "normed", "critic": "normed"}


def build(
    learner: str = "ppo",
    spec: EnvSpec = SPEC,
    agent: dict[str, Any] | None = None,
    critic: dict[str, Any] | None = None,
    **keys: Any,
) -> Any:
    """A learner with its policy and critic, whose first policy is not uniform."""
    own = {"share_parameters": learner != "happo", "head_gain": 1.0} | (agent or {})
    configs = {"learner": keys, "agent": own, "critic": critic or {}}
    return assemble(configs, spec, learner=learner, **FAMILY).build("learner")


def gradients(learner: PPOLearner, batch: EpisodeBatch) -> list[torch.Tensor]:
    """Gradients of the first step of an update, none of which is applied."""
    for optimiser in learner.optimisers:
        optimiser.step = lambda: None  # type: ignore[method-assign, assignment]
    learner.learn(batch, 0)
    parts = (*learner.policy.parameters(), *learner.critic.parameters())
    return [p.grad.clone() for p in parts if p.grad is not None]


def spied(learner: PPOLearner, method: str) -> list[tuple[Any, ...]]:
    """Positional arguments of every call of a method from now on."""
    calls: list[tuple[Any, ...]] = []
    original = getattr(learner, method)

    def spy(*arguments: Any) -> Any:
        calls.append(arguments)
        return original(*arguments)

    setattr(learner, method, spy)
    return calls


@torch.no_grad()
def changes(learner: PPOLearner, batch: EpisodeBatch, before: Targets, width: int) -> torch.Tensor:
    """(B, T, N) by what factors living agents' actions have become more likely."""
    cutting = Cutting.of(batch, width)
    after = cutting.put(learner.policy.evaluate(Chunks.of(batch, cutting, before.carry)).log_prob)
    ratio = (after - before.log_prob).sum(dim=-1).exp()
    return torch.where(before.active, ratio, 1.0)


def acted(policy: ActorPolicy, spec: EnvSpec = SPEC, steps: int = 9) -> EpisodeBatch:
    """Two pieces of episodes as the policy plays them, from memories that are not empty."""
    batch, generator = random_batch((steps, steps), spec), torch.Generator().manual_seed(3)
    carry = policy.init_carry(2, CPU)
    carry["hidden"].normal_(generator=generator)
    start = {k: v.clone() for k, v in carry.items()}
    taken = []
    for t in range(steps):
        actions, carry = policy.act(Seen.of(batch, t), carry, 0, False, generator)
        taken.append(actions)
    return replace(batch, actions=torch.stack(taken, dim=1), carry=start)


@pytest.mark.parametrize("learner", ["ppo", "happo"])
@pytest.mark.parametrize("recurrent", [False, True])
def test_padding_has_no_influence(learner: str, recurrent: bool) -> None:
    batch = random_batch()
    noise = torch.randn(batch.obs.shape) * 100
    entries = torch.arange(13) <= batch.lengths[:, None]
    dirty = replace(
        batch,
        obs=torch.where(entries[..., None, None], batch.obs, noise),
        state=torch.where(entries[..., None], batch.state, torch.tensor(50.0)),
        reward=torch.where(batch.filled, batch.reward, torch.tensor(1e3)),
    )
    results = [
        gradients(build(learner, agent={"recurrent": recurrent}, ppo_epoch=1), b)
        for b in (batch, dirty)
    ]
    for clean, with_noise in zip(*results, strict=True):
        torch.testing.assert_close(clean, with_noise, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("learner", ["ppo", "happo"])
def test_the_dead_count_in_the_value_loss_alone(learner: str) -> None:
    batch = random_batch()
    assert batch.alive is not None
    built = build(learner, ppo_epoch=1)
    targets = built.prepare(batch)
    active = batch.alive[:, :-1] & batch.filled[..., None]
    assert torch.equal(targets.active, active)
    # Moving what only dead agents did or could do leaves the policy's loss and the entropy alone.
    dead = ~batch.alive
    everything = batch.avail_actions | dead[..., None]
    other = replace(
        batch,
        avail_actions=everything,
        actions=torch.where(dead[:, :-1], 1, batch.actions),
    )
    parameters = list(built.policy.parameters())
    losses = []
    for b in (batch, other):
        cutting = Cutting.of(b, 1)
        chunks = Chunks.of(b, cutting, built.prepare(b).carry)
        evaluation = built.policy.evaluate(chunks)
        loss, metrics = built.policy_loss(evaluation, cutting, built.prepare(b))
        losses.append([loss, metrics["entropy"], *torch.autograd.grad(loss, parameters)])
    for one, another in zip(*losses, strict=True):
        torch.testing.assert_close(one, another)
    # Their normalisation leaves them out, too.
    some = targets.advantage[active]
    assert some.mean().item() == pytest.approx(0, abs=1e-5)
    assert some.std(correction=0).item() == pytest.approx(1, abs=1e-3)
    # The value loss does not: the dead agents' return is the team's.
    cutting = Cutting.of(batch, 1)
    chunks = Chunks.of(batch, cutting, targets.carry)
    built.track_returns(cutting, targets)
    with_dead = built.critic_loss(chunks, None, cutting, targets)
    masked = build(learner, use_value_active_masks=True)
    masked.value_norm.load_state_dict(built.value_norm.state_dict())
    without = masked.critic_loss(chunks, None, cutting, targets)
    assert with_dead.item() != pytest.approx(without.item())


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("per_team", [False, True])
def test_value_loss_is_a_mean_over_all_steps_or_those_of_the_living(
    per_team: bool, masked: bool
) -> None:
    sees = {"see_obs": not per_team, "see_agent_id": not per_team}
    keys = {"value_norm": "none", "huber_delta": None, "use_value_active_masks": masked}
    learner = build(critic=sees, ppo_epoch=1, **keys)
    batch = random_batch()
    assert batch.alive is not None
    batch.alive[1, :4] = False
    targets = learner.prepare(batch)
    error = (targets.returns - targets.values).square() / 2
    of_anyone = targets.active.any(dim=-1, keepdim=True) if per_team else targets.active
    counts = of_anyone if masked else batch.filled[..., None].expand_as(error)
    loss = learner.learn(batch, 0)["loss_value"]
    torch.testing.assert_close(loss, error[counts].mean(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_policy_loss_is_a_mean_over_all_steps_or_those_of_the_living(masked: bool) -> None:
    learner = build(ppo_epoch=1, use_policy_active_masks=masked)
    batch = random_batch()
    targets, cutting = learner.prepare(batch), Cutting.of(batch, 1)
    evaluation = learner.policy.evaluate(Chunks.of(batch, cutting, targets.carry))
    entropy = cutting.put(evaluation.entropy.detach())[..., 0]
    counts = targets.active if masked else batch.filled[..., None].expand_as(entropy)
    metrics = learner.learn(batch, 0)
    # Ratios are 1 in the first step, so that the objective is the advantage.
    expected = -targets.advantage[counts].mean()
    torch.testing.assert_close(metrics["loss_policy"], expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(metrics["entropy"], entropy[counts].mean(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("norm", "clipped"), [("valuenorm", True), ("popart", True), ("none", False)]
)
@pytest.mark.parametrize("aggregation", ["prod", "dim"])
def test_loss_of_a_later_step_is_that_of_the_formulas(
    aggregation: str, norm: str, clipped: bool
) -> None:
    spec = ACTIONS["continuous"]
    rates = {"lr": 3e-3, "critic_lr": 0.02, "ppo_epoch": 3}
    weights = {"entropy_coef": 0.3, "value_loss_coef": 0.7, "clip_param": 0.1, "huber_delta": 0.4}
    kinds = {"action_aggregation": aggregation, "value_norm": norm, "clip_value_loss": clipped}
    learner = build(spec=spec, **rates, **weights, **kinds)
    batch = random_batch(spec=spec)
    old, cutting = learner.prepare(batch), Cutting.of(batch, 1)
    descend, losses = learner.descend, []

    def spy(loss: torch.Tensor, *rest: Any) -> Any:
        chunks = Chunks.of(batch, cutting, old.carry)
        now = learner.policy.evaluate(chunks)
        log_ratio = cutting.put(now.log_prob) - old.log_prob
        gain = surrogate(log_ratio, old.advantage, 0.1, per_dimension=aggregation == "dim")
        entropy = cutting.put(now.entropy).sum(dim=-1)
        fields = (batch.obs, batch.state, batch.alive, batch.avail_actions)
        values = learner.critic(*(cutting.take(x).flatten(0, 1) for x in fields)).unsqueeze(1)
        # PopArt rescales the outputs when returns change their scale, ValueNorm does not.
        scale = learner.value_norm.normalise
        before = scale(old.raw_values) if norm == "popart" else old.values
        reach = 0.1 if clipped else None
        errors = value_loss(cutting.put(values), before, scale(old.returns), reach, 0.4)
        of_critic = masked_mean(errors, batch.filled[..., None].expand_as(errors))
        of_policy = masked_mean(gain + 0.3 * entropy, old.active)
        losses.append((loss.detach(), (0.7 * of_critic - of_policy).detach()))
        return descend(loss, *rest)

    learner.descend = spy
    learner.learn(batch, 0)
    assert len(losses) == 3
    for loss, expected in losses:
        torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)


def test_value_loss_coef_scales_the_gradient_of_happos_critic() -> None:
    keys = {"critic_epoch": 1, "max_grad_norm": 1e9}
    whole, half = (
        gradients(build("happo", value_loss_coef=c, **keys), random_batch())[-1] for c in (1.0, 0.5)
    )
    assert whole.any()
    torch.testing.assert_close(half, 0.5 * whole)


@pytest.mark.parametrize("learner", ["ppo", "happo"])
def test_minibatches_of_a_pass_cover_every_chunk_once(learner: str) -> None:
    epochs = {"ppo_epoch": 2} | ({"critic_epoch": 2} if learner == "happo" else {})
    built = build(learner, num_mini_batch=3, **epochs)
    batch = random_batch()
    actors, critics = spied(built, "policy_loss"), spied(built, "critic_loss")
    built.learn(batch, 0)
    steps = batch.filled.nonzero().tolist()
    assert len(steps) == 23
    parts = [part for _, part, *_ in actors] + [part for _, _, part, _ in critics]
    assert len(parts) == 3 * 2 * (4 if learner == "happo" else 2)
    passes = []
    for k in range(0, len(parts), 3):
        assert sorted(len(part) for part in parts[k : k + 3]) == [7, 8, 8]
        rows, starts = (
            torch.cat([getattr(p, x) for p in parts[k : k + 3]]) for x in ("row", "start")
        )
        passes.append(torch.stack([rows, starts], dim=-1).tolist())
        assert sorted(passes[-1]) == steps
    assert passes[0] != passes[1]


@pytest.mark.parametrize("learner", ["ppo", "happo"])
def test_applied_gradients_are_no_longer_than_allowed(learner: str) -> None:
    built = build(learner, max_grad_norm=1e-3)
    assert built.learn(random_batch(), 0)["grad_norm"].item() > 1e-3
    for optimiser in built.optimisers:
        (group,) = optimiser.param_groups
        norm = torch.stack([p.grad.norm() for p in group["params"]]).norm()
        assert norm.item() == pytest.approx(1e-3, rel=1e-2)


def test_a_dead_agent_shows_the_critic_who_it_is_and_no_more() -> None:
    learner = build()
    batches = random_batch(seed=0), random_batch(seed=1)
    alive = batches[0].alive
    assert alive is not None
    values, others = (
        learner.critic(b.obs[:, 0], b.state[:, 0], alive[:, 0], b.avail_actions[:, 0])
        for b in batches
    )
    dead = ~alive[:, 0]
    assert dead.any()
    assert torch.equal(values[dead], others[dead])
    assert (values != others)[~dead].all()
    of_dead = learner.critic(
        torch.zeros(1, 3, SPEC.obs_dim),
        torch.zeros(1, SPEC.state_dim),
        torch.zeros(1, 3, dtype=torch.bool),
        torch.ones(1, 3, SPEC.n_actions, dtype=torch.bool),
    )[0]
    assert len(of_dead.unique()) == 3


@pytest.mark.parametrize("per_team", [False, True])
def test_truncation_bootstraps_and_termination_does_not(per_team: bool) -> None:
    sees = {"see_obs": not per_team, "see_agent_id": not per_team}
    learner = build(critic=sees, gae_lambda=0.0, gamma=0.5)
    learner.value_norm.update(torch.tensor([4.0, 8.0]))
    batch = random_batch((3, 4, 5))  # the last one is truncated
    cut = replace(batch, truncated=torch.zeros_like(batch.truncated))
    ended = replace(cut, terminated=batch.terminated | batch.truncated)
    at = (torch.tensor([2]), torch.tensor([5]))
    assert batch.alive is not None
    fields = (batch.obs, batch.state, batch.alive, batch.avail_actions)
    last = learner.value_norm.denormalise(learner.critic(*(f[at] for f in fields)))
    for b, bootstrap in ((batch, last), (cut, last), (ended, torch.zeros_like(last))):
        returns = learner.prepare(b).returns
        expected = b.reward[2, 4] + 0.5 * bootstrap[0]
        torch.testing.assert_close(returns[2, 4], expected.detach())
        torch.testing.assert_close(returns[0, 2], b.reward[0, 2].expand_as(returns[0, 2]))


@pytest.mark.parametrize("recurrent", [False, True])
def test_first_ratios_are_one(recurrent: bool) -> None:
    batch = replace(random_batch(), alive=None)
    learner = build(
        agent={"recurrent": recurrent}, ppo_epoch=1, data_chunk_length=4, entropy_coef=0.0
    )
    metrics = learner.learn(batch, 0)
    assert metrics["loss_policy"].item() == pytest.approx(0, abs=1e-6)
    assert metrics["approx_kl"].item() == pytest.approx(0, abs=1e-6)
    assert metrics["ratio_clipped"].item() == 0


@pytest.mark.parametrize("width", [1, 4, 9])
@pytest.mark.parametrize("spec", ACTIONS.values(), ids=ACTIONS)
def test_evaluation_agrees_with_acting(spec: EnvSpec, width: int) -> None:
    agent = {"recurrent": True, "obs_last_action": not spec.dimensions}
    learner = build(spec=spec, agent=agent)
    policy = learner.policy
    batch = acted(policy, spec)
    # What acting had, step by step.
    carry, expected = dict(batch.carry or {}), []
    for t in range(9):
        out = policy.agent(batch.obs[:, t : t + 1], carry["last_actions"][:, None], carry["hidden"])
        fields = (out.values, batch.avail_actions[:, t : t + 1], batch.actions[:, t : t + 1])
        expected.append(policy.distribution.log_prob(*fields)[0])
        last = carry["last_actions"] if spec.dimensions else batch.actions[:, t] + 1
        carry = {"hidden": out.carry, "last_actions": last}
    whole = torch.cat(expected, dim=1)
    targets = learner.prepare(batch)
    torch.testing.assert_close(targets.log_prob, whole, atol=1e-5, rtol=1e-5)
    cutting = Cutting.of(batch, width)
    chunked = policy.evaluate(Chunks.of(batch, cutting, targets.carry))
    torch.testing.assert_close(cutting.put(chunked.log_prob), whole, atol=1e-5, rtol=1e-5)


def test_happo_of_one_agent_is_ppo() -> None:
    spec = replace(SPEC, n_agents=1)
    batch = random_batch(spec=spec)
    same = {"share_parameters": False, "recurrent": True}
    happo, ppo = (
        build(name, spec, same, ppo_epoch=3, num_mini_batch=1) for name in ("happo", "ppo")
    )
    happo.config = happo.config.model_copy(update={"critic_epoch": 3})
    for learner in (happo, ppo):
        learner.learn(batch, 0)
    assert happo.factor is not None
    assert (happo.factor == 1).all()
    for a, b in zip(happo.policy.parameters(), ppo.policy.parameters(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(happo.critic.parameters(), ppo.critic.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("kind", ["discrete", "continuous"])
def test_happo_factor_is_the_change_of_those_before(kind: str, recurrent: bool) -> None:
    keys = {"ppo_epoch": 2, "lr": 1e-3, "data_chunk_length": 4}
    learner = build("happo", ACTIONS[kind], {"recurrent": recurrent}, **keys)
    batch = random_batch(spec=ACTIONS[kind])
    before = learner.prepare(batch)
    calls = spied(learner, "policy_loss")
    learner.learn(batch, 0)
    change = changes(learner, batch, before, 4 if recurrent else 1)
    assert (change != 1).any(dim=0).any(dim=0).all()
    order = [member for _, _, _, member, _, _ in calls[::2]]
    assert sorted(order) == [0, 1, 2]
    for k, (_, _, _, member, factor, _) in enumerate(calls):
        assert member == order[k // 2]
        expected = change[..., order[: k // 2]].prod(dim=-1, keepdim=True)
        torch.testing.assert_close(factor, expected, atol=1e-5, rtol=1e-4)


def test_the_dead_do_not_change_happos_factor() -> None:
    spec = ACTIONS["continuous"]
    batch = random_batch(spec=spec)
    assert batch.alive is not None
    dead = ~batch.alive[:, :-1]
    other = replace(batch, actions=torch.where(dead[..., None], 0.3, batch.actions))
    factors = []
    for b in (batch, other):
        learner = build("happo", spec, fixed_order=True, ppo_epoch=2, lr=1e-3)
        learner.learn(b, 0)
        factors.append(learner.factor)
    torch.testing.assert_close(*factors)
    of_nobody = dead[:, :, :2].all(dim=-1) & batch.filled
    assert of_nobody.any()
    assert (factors[0][of_nobody] == 1).all()


def test_happo_normalises_advantages_of_a_critic_per_team_agent_by_agent() -> None:
    learner = build("happo", critic={"see_obs": False, "see_agent_id": False}, ppo_epoch=1)
    calls = spied(learner, "policy_loss")
    learner.learn(random_batch(), 0)
    assert len(calls) == 3
    for _, _, targets, member, _, advantage in calls:
        own = advantage[..., member][targets.active[..., member]]
        assert own.mean().item() == pytest.approx(0, abs=1e-5)
        assert own.std(correction=0).item() == pytest.approx(1, abs=1e-3)


def test_happo_normalises_advantages_of_a_critic_per_agent_jointly() -> None:
    learner = build("happo", ppo_epoch=1)
    calls = spied(learner, "policy_loss")
    learner.learn(random_batch(), 0)
    assert len(calls) == 3
    for _, _, targets, _, _, advantage in calls:
        raw, active = targets.raw_advantage, targets.active
        some = raw[active]
        expected = (raw - some.mean()) / (some.std(correction=0) + 1e-5)
        torch.testing.assert_close(advantage[active], expected[active])
        own = advantage[..., 0][active[..., 0]]
        assert abs(own.mean().item()) > 1e-3  # not an agent's own mean


@pytest.mark.parametrize("masked", [True, False])
def test_happo_leaves_an_agent_without_a_living_step_alone(masked: bool) -> None:
    learner = build("happo", ppo_epoch=2, use_policy_active_masks=masked)
    learner.learn(random_batch(), 0)  # momentum, by which steps without a gradient move
    batch = random_batch(seed=1)
    assert batch.alive is not None
    alive = batch.alive.clone()
    alive[..., 1] = False
    before = [p.clone() for p in learner.policy.parameters()]
    steps = [state["step"].item() for state in learner.optimisers[1].state.values()]
    learner.learn(replace(batch, alive=alive), 0)
    assert [state["step"].item() for state in learner.optimisers[1].state.values()] == steps
    own = {id(p) for group in learner.optimisers[1].param_groups for p in group["params"]}
    for p, old in zip(learner.policy.parameters(), before, strict=True):
        assert torch.equal(p, old) == (id(p) in own)
    assert all(torch.isfinite(p).all() for p in learner.policy.parameters())


@pytest.mark.parametrize("fixed", [False, True])
def test_happo_agents_improve_in_random_order_unless_told_otherwise(fixed: bool) -> None:
    learner = build("happo", fixed_order=fixed, ppo_epoch=1, critic_epoch=0)
    orders = set()
    for _ in range(6):
        calls = spied(learner, "policy_loss")
        learner.learn(random_batch(), 0)
        orders.add(tuple(member for _, _, _, member, _, _ in calls))
    assert all(sorted(order) == [0, 1, 2] for order in orders)
    assert orders == {(0, 1, 2)} if fixed else len(orders) > 1


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("keys", [{"ppo_epoch": 0}, {"ppo_epoch": 2, "lr": 1e-30}])
def test_happo_factor_stays_one_when_nobody_moves(keys: dict[str, Any], recurrent: bool) -> None:
    learner = build("happo", agent={"recurrent": recurrent}, data_chunk_length=4, **keys)
    for seed in range(3):
        learner.learn(random_batch(seed=seed), 0)
        filled = random_batch(seed=seed).filled
        torch.testing.assert_close(learner.factor[filled], torch.ones(int(filled.sum()), 1))


def test_happo_objective_is_weighted_by_the_factor() -> None:
    learner = build("happo", entropy_coef=0.0)
    batch = random_batch()
    targets = learner.prepare(batch)
    cutting = Cutting.of(batch, 1)
    evaluation = learner.policy.evaluate(Chunks.of(batch, cutting, targets.carry, 1))
    factor = torch.full((4, 12, 1), 1.2)
    plain, _ = learner.policy_loss(evaluation, cutting, targets, 1)
    weighted, _ = learner.policy_loss(evaluation, cutting, targets, 1, factor)
    assert weighted.item() == pytest.approx(1.2 * plain.item())


def test_happo_refuses_shared_networks() -> None:
    with pytest.raises(ConfigError, match="one network per agent"):
        build("happo", agent={"share_parameters": True})


@pytest.mark.parametrize(
    ("learner", "norm"),
    [("ppo", "valuenorm"), ("ppo", "popart"), ("ppo", "none"), ("happo", "popart")],
)
def test_every_value_norm_learns_a_constant_return(learner: str, norm: str) -> None:
    batch = random_batch()
    paid = torch.where(batch.terminated | batch.truncated, 30.0, 0.0)
    ended = batch.terminated | batch.truncated
    batch = replace(batch, reward=paid, terminated=ended)
    keys = {"value_norm": norm, "gamma": 1.0, "critic_lr": 0.03, "clip_value_loss": False}
    built = build(learner, **keys, ppo_epoch=4, **{"critic_epoch": 4} if learner == "happo" else {})
    losses = []
    for _ in range(10):
        values = built.prepare(batch).raw_values[..., 0][batch.filled]
        losses.append((values - 30).abs().mean().item())
        built.learn(batch, 0)
    assert losses[-1] < 0.4 * losses[0]


@pytest.mark.parametrize("learner", ["ppo", "happo"])
def test_state_continues_bit_for_bit(learner: str) -> None:
    keys = {"num_mini_batch": 3, "ppo_epoch": 2}
    one, other = build(learner, **keys), build(learner, **keys)
    one.learn(random_batch(), 0)
    other.load_state_dict(deepcopy(one.state_dict()))
    for seed in (1, 2):
        a, b = (x.learn(random_batch(seed=seed), 0) for x in (one, other))
        assert a.keys() == b.keys()
        assert all(torch.equal(a[k], b[k]) for k in a)
    assert one.metrics() == other.metrics()


def test_learning_rates_fall_to_zero() -> None:
    learner = build(lr_anneal_time=100, ppo_epoch=1)
    learner.learn(random_batch(), 75)
    assert [o.param_groups[0]["lr"] for o in learner.optimisers] == [1.25e-4, 1.25e-4]
    learner.learn(random_batch(), 1000)
    assert [o.param_groups[0]["lr"] for o in learner.optimisers] == [0, 0]


def test_gaussian_deviations() -> None:
    gaussian = DiagonalGaussian()
    outputs = torch.tensor([[0.3, -0.2, 1.0, 0.0]])
    log_p, entropy = gaussian.log_prob(outputs, torch.zeros(1, 0), torch.tensor([[0.5, 0.5]]))
    deviations = torch.tensor([[0.36553, 0.25]])
    normal = torch.distributions.Normal(outputs[:, :2], deviations)
    actions = torch.tensor([[0.5, 0.5]])
    torch.testing.assert_close(log_p, normal.log_prob(actions), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(entropy, normal.entropy(), atol=1e-4, rtol=1e-4)


def test_categorical_draws_available_actions_as_often_as_it_says() -> None:
    categorical, generator = MaskedCategorical(), torch.Generator().manual_seed(0)
    logits = torch.tensor([1.0, 5.0, 0.0, -1.0]).expand(20_000, 4)
    avail = torch.tensor([True, False, True, True]).expand(20_000, 4)
    drawn = categorical.choose(logits, categorical.offsets(logits, avail, generator))
    frequencies = torch.bincount(drawn, minlength=4) / 20_000
    expected = torch.tensor([1.0, -torch.inf, 0.0, -1.0]).softmax(0)
    torch.testing.assert_close(frequencies, expected, atol=0.015, rtol=0)
    log_p, entropy = categorical.log_prob(logits[:1], avail[:1], torch.tensor([2]))
    assert log_p.item() == pytest.approx(expected[2].log().item())
    kept = expected[expected > 0]
    assert entropy.item() == pytest.approx(-(kept * kept.log()).sum().item())


def test_mixed_actions_are_a_choice_and_a_vector() -> None:
    mixed = MixedDistribution(2)
    outputs = torch.tensor([[0.0, math.log(3.0), 0.3, -0.2, 1.0, 0.0]])
    avail = torch.tensor([[True, True, True, False]])
    log_p, entropy = mixed.log_prob(outputs, avail, torch.tensor([[1.0, 0.5, 0.0]]))
    normal = torch.distributions.Normal(0.3, 0.36553)
    assert log_p[0].tolist() == pytest.approx(
        [math.log(0.75), normal.log_prob(torch.tensor(0.5)).item(), 0.0], abs=1e-4
    )
    of_choice = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert entropy[0].tolist() == pytest.approx([of_choice, normal.entropy().item(), 0], abs=1e-4)
    drawn = mixed.choose(outputs, mixed.offsets(outputs, avail, torch.Generator().manual_seed(0)))
    assert drawn[0, 0] in (0.0, 1.0)
    assert drawn[0, 1] != 0.3
    assert drawn[0, 2] == 0.0
    likely = mixed.choose(outputs, mixed.offsets(outputs, avail, None))
    torch.testing.assert_close(likely, torch.tensor([[1.0, 0.3, 0.0]]))


@pytest.mark.parametrize("kind", ["unequal", "mixed"])
def test_what_an_agent_does_not_have_is_not_learnt_from(kind: str) -> None:
    spec = ACTIONS[kind]
    batch = random_batch(spec=spec)
    lacks = ~batch.avail_actions[:, :-1, :, -spec.dimensions :]
    actions = batch.actions.clone()
    actions[..., -spec.dimensions :][lacks] = 9.0
    results = [
        gradients(build(spec=spec, ppo_epoch=1), b)
        for b in (batch, replace(batch, actions=actions))
    ]
    assert lacks.any()
    for clean, with_noise in zip(*results, strict=True):
        assert torch.equal(clean, with_noise)


def test_metric_sums_forget_what_was_read() -> None:
    sums = MetricSums()
    sums.add({"x": torch.tensor(1.0)})
    sums.add({"x": torch.tensor(4.0)})
    assert sums.means() == {"x": 2.5}
    assert sums.means() == {}


def test_a_policy_that_keeps_no_memory_of_steps_learns_through_whole_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where memory of steps is too much to file, rows are evaluated from their start."""
    batch = acted(build("ppo", agent={"recurrent": True}).policy)
    expected = gradients(
        build("ppo", agent={"recurrent": True}, ppo_epoch=1, data_chunk_length=99), batch
    )
    learner = build("ppo", agent={"recurrent": True}, ppo_epoch=1, data_chunk_length=2)
    evaluate = learner.policy.evaluate
    monkeypatch.setattr(type(learner.policy), "whole_rows", True)
    monkeypatch.setattr(
        learner.policy, "evaluate", lambda chunks: replace(evaluate(chunks), carry=None)
    )
    for ours, theirs in zip(gradients(learner, batch), expected, strict=True):
        assert torch.equal(ours, theirs)


def test_divergences_by_hand() -> None:
    """KL((.5, .5) || (.25, .75)) among two of three actions, and of Gaussians of deviations .25 and .125."""
    p, q = torch.tensor([[0.5, 0.5, 0.9]]).log(), torch.tensor([[0.25, 0.75, 0.1]]).log()
    two = torch.tensor([[True, True, False]])
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    torch.testing.assert_close(MaskedCategorical().kl(p, q, two), torch.tensor([[expected]]))
    wide, narrow = math.log(1), math.log(1 / 3)  # 0.5 sigmoid of them: 1/4 and 1/8
    p, q = torch.tensor([[0.5, wide]]), torch.tensor([[0.0, narrow]])
    expected = math.log(0.125 / 0.25) + (0.25**2 + 0.5**2) / (2 * 0.125**2) - 0.5
    every = torch.ones(1, 0, dtype=torch.bool)
    torch.testing.assert_close(DiagonalGaussian().kl(p, q, every), torch.tensor([[expected]]))


@pytest.mark.parametrize("actions", ACTIONS)
def test_a_distribution_is_no_distance_from_itself_and_some_from_others(actions: str) -> None:
    spec = ACTIONS[actions]
    distribution = distribution_of(spec)
    avail = random_batch((2, 2), spec).avail_actions[:, 0]
    p, q = torch.randn(2, *avail.shape[:-1], spec.policy_outputs)
    _, entropy = distribution.log_prob(p, avail, random_batch((2, 2), spec).actions[:, 0])
    assert not distribution.kl(p, p, avail).any()
    divergence = distribution.kl(p, q, avail)
    assert divergence.shape == entropy.shape
    assert divergence.sum() > 0
    assert (divergence >= -1e-6).all()


@pytest.mark.parametrize("learner", ["ppo", "happo"])
def test_the_anchor_is_the_policy_as_it_came_and_holds_it(learner: str) -> None:
    keys = {"lr": 5e-3, "ppo_epoch": 1, "agent": {"recurrent": True}}
    free, held = (build(learner, anchor_coef=c, **keys) for c in (0.0, 100.0))
    assert free.anchor is None
    batch = acted(held.policy)
    first = {name: float(value) for name, value in held.learn(batch, 0).items()}
    # One pass only for each agent of happo, and of its own network: all that is compared is what acted.
    assert first["loss_anchor"] == pytest.approx(0.0, abs=1e-6)
    free.learn(batch, 0)
    for _ in range(5):
        later = held.learn(batch, 0)
        free.learn(batch, 0)
    assert later["loss_anchor"] > 0
    start = build(learner, **keys).policy.state_dict()
    moved = [
        sum(float((value - start[name]).square().sum()) for name, value in state.items())
        for state in (held.policy.state_dict(), free.policy.state_dict())
    ]
    assert moved[0] < moved[1]
    assert all(torch.equal(v, start[k]) for k, v in held.modules["anchor"].state_dict().items())
