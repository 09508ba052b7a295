"""The world model of VDFD: parallel equals sequential, masks, options, who learns from what."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from phalanx.errors import ConfigError
from phalanx.learners.sums import weighted_sum
from phalanx.modules.layers.one_hot import one_hot_actions
from phalanx.modules.layers.packing import Packing
from phalanx.modules.mixers.base import Choice
from phalanx.modules.world_models.base import WorldModelOutput
from phalanx.modules.world_models.disentangled.action_conditioned import (
    imagined_actions,
    shuffled_actions,
)
from phalanx.modules.world_models.disentangled.branch import Noise, joint
from phalanx.modules.world_models.disentangled.gala import GALA, Operators
from phalanx.modules.world_models.disentangled.model import Disentangled
from phalanx.modules.world_models.disentangled.vae import JointAutoEncoder

from ..toys import CPU, SPEC, assemble, random_batch

N, S = SPEC.n_agents, SPEC.state_dim
ALL_LOSSES = {"ac_kl", "ac_rec", "ac_step", "af_kl", "af_rec", "af_step", "st_rec"}


def parts(**config: Any) -> Any:
    config = {"train_share": 1.0} | config
    return assemble({"world_model": config}, world_model="disentangled")


class Replayed:
    """Draws noise once and hands the same rows out again, in the order of the packing."""

    def __init__(self) -> None:
        self.drawn: list[Tensor] = []

    def __call__(self, shape: torch.Size) -> Tensor:
        generator = torch.Generator().manual_seed(len(self.drawn))
        self.drawn.append(torch.randn(shape, generator=generator))
        return self.drawn[-1]


def look(assembler: Any, batch: Any) -> Any:
    model: Disentangled = assembler.build("world_model")
    unrolled = assembler.build("policy").unroll(batch)
    packing = Packing.of(batch.lengths + 1, batch.max_t + 1, CPU)
    return model, unrolled, packing


def of(entries: Any, **changed: Any) -> Any:
    return entries._replace(**changed)


def test_parallel_action_conditioned_losses_equal_a_loop_over_time() -> None:
    batch = random_batch()
    model, unrolled, packing = look(parts(detach_prior_input=False), batch)
    branch, draw = model.action_conditioned, Replayed()
    hidden, last = packing.pack(unrolled.hidden), packing.pack(batch.last_actions)
    entries = of(model.entries(hidden, batch, packing), draw=draw)
    together = branch.losses(hidden, last, entries)

    posterior_noise, prior_noise = draw.drawn
    errors: dict[str, list[Tensor]] = {
        "hidden": [],
        "state": [],
        "action": [],
        "kl": [],
        "step": [],
    }
    Z, at = branch.settings.latent_dim, 0
    state, mean, seen = torch.zeros(packing.sizes[0], N * Z), None, hidden[:0]
    ops = earlier = entries.operators
    for size in packing.sizes:
        rows = slice(at, at + size)
        now, living = Operators(*(o[rows] for o in ops)), entries.living[rows]
        q = branch.posterior(hidden[rows], now)
        latent = q.sample(posterior_noise[rows])
        before = state[:size]
        actions = one_hot_actions(last[rows], SPEC.n_actions)
        p = branch.transition(before, last[rows])
        decoded_state, decoded_actions = branch.prior.decode(p.sample(prior_noise[rows]))
        for name, error in (
            ("hidden", branch.autoencoder.decode(latent, now) - hidden[rows]),
            ("state", (decoded_state - before).view(size, N, Z)),
            ("action", decoded_actions - actions),
        ):
            errors[name].append(error.square().mean(-1)[living])
        kl = branch.settings.kl_loss(joint(q), p, living)
        errors["kl"].append(kl * living.sum())
        if mean is not None:  # what the entry before foretold
            started = Operators(*(o[:size] for o in earlier))
            change = branch.predict(seen[:size], mean[:size], [last[rows]], started)
            error = seen[:size] + change - hidden[rows]
            errors["step"].append(error.square().mean(-1)[living])
        state, mean, seen, earlier = latent.flatten(1), q.mean, hidden[rows], now
        at += size
    means = {
        k: torch.cat([e.reshape(-1) for e in v]).mean() for k, v in errors.items() if k != "kl"
    }
    scale = {
        name: getattr(branch, f"{name}_scale").total / getattr(branch, f"{name}_scale").weight
        for name in ("hidden", "state", "action", "change")
    }
    close = {"atol": 1e-5, "rtol": 1e-4}
    kl = torch.stack(errors["kl"]).sum() / entries.living.sum()
    torch.testing.assert_close(together["kl"], kl, **close)
    rec = sum(means[name] / scale[name] for name in ("hidden", "state", "action"))
    torch.testing.assert_close(together["rec"], rec, **close)
    torch.testing.assert_close(together["step"], means["step"] / scale["change"], **close)


def test_imagination_goes_on_from_every_entry_by_itself() -> None:
    """Rows do not see each other, and the first step is the prior's under the greedy action."""
    batch = random_batch()
    model, unrolled, packing = look(parts(rollout_horizon=2), batch)
    branch, hidden = model.action_conditioned, packing.pack(unrolled.hidden).detach()
    values, avail = packing.pack(unrolled.values).detach(), packing.pack(batch.avail_actions)
    entries = model.entries(hidden, batch, packing)
    with torch.no_grad():
        states, first = branch.imagine(hidden, values, avail, entries)
        alone, _ = branch.imagine(
            hidden[3:4],
            values[3:4],
            avail[3:4],
            of(entries, operators=Operators(*(o[3:4] for o in entries.operators))),
        )
        greedy = values.masked_fill(~avail, -torch.inf).argmax(-1) + 1
        step = branch.transition(states[0], greedy).mean
    assert len(states) == 3
    for together, single in zip(states, alone, strict=True):
        torch.testing.assert_close(together[3:4], single, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(states[1], step)
    assert torch.equal(first, greedy)


def test_imagined_actions_are_always_available_at_the_start() -> None:
    batch = random_batch()
    model, unrolled, packing = look(parts(rollout_horizon=3), batch)
    branch, hidden = model.action_conditioned, packing.pack(unrolled.hidden)
    values, avail = packing.pack(unrolled.values), packing.pack(batch.avail_actions)
    entries = model.entries(hidden, batch, packing)
    taken: list[Tensor] = []
    mean = branch.prior.mean

    def watched(state: Tensor, actions: Tensor) -> Tensor:
        taken.append(actions)
        return mean(state, actions)

    branch.prior.mean = watched
    for grad in (False, True):
        taken.clear()
        with torch.set_grad_enabled(grad):
            branch.imagine(hidden, values, avail, entries)
        assert len(taken) == 3
        for actions in taken:
            if actions.is_floating_point():
                assert not actions[~avail].any()
            else:
                assert bool(avail.gather(-1, (actions - 1)[..., None]).all())


def test_index_and_one_hot_actions_move_a_prior_alike() -> None:
    model = parts().build("world_model")
    state = torch.randn(6, N * 16)
    last = torch.randint(0, SPEC.n_actions + 1, (6, N))
    by_index = model.action_conditioned.transition(state, last)
    by_share = model.action_conditioned.transition(state, one_hot_actions(last, SPEC.n_actions))
    torch.testing.assert_close(model.action_conditioned.prior.mean(state, last), by_index.mean)
    for a, b in zip(by_index, by_share, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("residual", [True, False])
def test_prediction_is_posterior_prior_decoder(residual: bool) -> None:
    batch = random_batch()
    model, unrolled, packing = look(parts(residual_decoding=residual), batch)
    branch, hidden = model.action_conditioned, packing.pack(unrolled.hidden)
    entries = model.entries(hidden, batch, packing)
    mean = branch.posterior(hidden, entries.operators).mean
    actions = torch.randint(1, SPEC.n_actions + 1, (len(hidden), N))
    state = branch.transition(mean.flatten(1), actions).mean
    decode = branch.autoencoder.decode
    then = decode(branch.settings.of_agents(state), entries.operators)
    expected = then - decode(mean, entries.operators) if residual else then - hidden
    change = branch.predict(hidden, mean, [actions], entries.operators)
    torch.testing.assert_close(change, expected, atol=1e-5, rtol=1e-4)


def test_masks_at_zero_give_qmix() -> None:
    batch = random_batch()
    vdfd = parts(mask_ac=0.0, mask_af=0.0, mask_st=0.0)
    model, unrolled, packing = look(vdfd, batch)
    out = model(unrolled, batch, packing)
    assert not out.context.any()
    assert out.losses == {}
    ours, theirs = vdfd.build("mixer"), assemble().build("mixer")
    with torch.no_grad():
        for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            # First layers see the state, then the context.
            b.copy_(a[:, :S] if a.shape != b.shape else a)
            assert a.shape == b.shape or a.shape[1] == S + model.output_dim, name
    q, state = torch.randn(len(packing.index), N), packing.pack(batch.state)
    choice = Choice(q, q, torch.zeros_like(q).long())
    torch.testing.assert_close(ours(choice, state, out.context), theirs(choice, state))


@pytest.mark.parametrize("branch", ["ac", "af", "st"])
def test_a_masked_branch_does_not_exist(branch: str) -> None:
    batch = random_batch()
    model, unrolled, packing = look(parts(**{f"mask_{branch}": 0.0}), batch)
    out = model(unrolled, batch, packing)
    assert set(out.losses) == {name for name in ALL_LOSSES if not name.startswith(branch)}
    whole = parts().build("world_model")
    assert sum(p.numel() for p in model.parameters()) < sum(p.numel() for p in whole.parameters())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"graph": "complete"},
        {"graph": "visibility"},
        {"posterior": "vae"},
        {"prior": False},
        {"rollout_horizon": 0},
        {"imagined_actions": "soft"},
        {"kl_balancing": False},
        {"own_rows": False},
        {"residual_decoding": False},
        {"detach_prior_input": False},
        {"detach_context": False},
        {"sample_context": True},
        {"weight_ac_step": 0.0, "weight_af_step": 0.0},
    ],
)
def test_options_train_every_weight(options: dict[str, Any]) -> None:
    batch = random_batch()
    model, unrolled, packing = look(parts(**options), batch)
    out = model(unrolled, batch, packing)
    assert out.context.shape == (len(packing.index), model.output_dim)
    total = weighted_sum(out.losses, model.loss_weights) + out.context.square().mean()
    total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name


def test_detached_context_keeps_the_td_gradient_out() -> None:
    batch = random_batch()
    reached = {}
    for detach in (False, True):
        model, unrolled, packing = look(parts(detach_context=detach), batch)
        model(unrolled, batch, packing).context.square().sum().backward()
        names = {name for name, p in model.named_parameters() if p.grad is not None}
        reached[detach] = {name for name in names if "aggregate" not in name}
        # What turns latents into a context has nothing but TD to learn from.
        assert names > reached[detach]
    assert reached[False]
    assert not reached[True]


def test_learning_from_some_episodes_is_right_on_average() -> None:
    B = 4
    batch = random_batch((4,) * B)
    # With deaths a few episodes' mean over the living is that of all but for a small bias.
    batch = replace(batch, alive=torch.ones_like(batch.alive))  # type: ignore[arg-type]
    options = {"detach_context": False, "sample_context": False}

    def learnt(share: float, *choices: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The context, and the mean gradient over choices of episodes to learn from."""
        model, unrolled, packing = look(parts(train_share=share, **options), batch)
        # The loss's unit, a moving average, is that of all episodes here.
        scale = model.branches["st"].scale
        scale.update(packing.pack(batch.obs), packing.pack(batch.alive))
        scale.DECAY = 1.0
        weights = list(model.branches["st"].parameters())
        total = [torch.zeros_like(p) for p in weights]
        for members in choices:
            model._choose = lambda _, members=members: members
            out = model(unrolled, batch, packing)
            loss = out.context.mean() + out.losses["st_rec"]
            for at, gradient in enumerate(torch.autograd.grad(loss, weights, retain_graph=True)):
                total[at] += gradient / len(choices)
        return out.context.detach(), total

    whole, exact = learnt(1.0, torch.ones(B, dtype=torch.bool))
    part, mean = learnt(1 / B, *torch.eye(B, dtype=torch.bool))
    for expected, estimate in zip(exact, mean, strict=True):
        assert float((estimate - expected).norm()) < 1e-4 * float(expected.norm())
    assert part.shape == whole.shape
    assert bool(part.any(dim=1).all())  # every entry has its context


def test_every_episode_is_learnt_from_as_often() -> None:
    model, _, packing = look(parts(train_share=0.5), random_batch((4, 4, 4, 4)))
    chosen = torch.stack([model._choose(packing) for _ in range(1000)])
    assert set(chosen.sum(1).tolist()) == {2}
    assert chosen.double().mean(0).tolist() == pytest.approx([0.5] * 4, abs=0.05)


def test_noise_of_one_row_is_all_different() -> None:
    draw = Noise(50, 6, 4, torch.Generator().manual_seed(0))
    drawn = [draw(torch.Size((50, 3, 2))).flatten(1) for _ in range(4)]
    for a in range(4):
        for b in range(a):
            assert not bool((drawn[a] == drawn[b]).any())
    numbers = torch.cat(drawn)
    assert abs(float(numbers.mean())) < 0.2
    assert abs(float(numbers.std()) - 1) < 0.2


def test_reconstruction_does_not_pull_at_its_target() -> None:
    """The error in h reaches the agent through the encoder only."""
    batch = random_batch()
    model, unrolled, packing = look(parts(prior=False), batch)
    branch = model.action_conditioned
    hidden = packing.pack(unrolled.hidden).detach().requires_grad_()
    entries = model.entries(hidden, batch, packing)
    for parameter in branch.autoencoder.second.parameters():
        torch.nn.init.zeros_(parameter)  # cut the way through the encoder
    losses = branch.losses(hidden, packing.pack(batch.last_actions), entries)
    (gradient,) = torch.autograd.grad(losses["rec"], hidden, allow_unused=True)
    assert gradient is None or not gradient.any()


@pytest.mark.parametrize("train_agent", [True, False])
def test_whether_the_losses_train_the_agent_is_a_key(train_agent: bool) -> None:
    batch = random_batch()
    vdfd = parts(train_agent=train_agent)
    model, unrolled, packing = look(vdfd, batch)
    losses = model(unrolled, batch, packing).losses
    weighted_sum(losses, model.loss_weights).backward()  # type: ignore[union-attr]
    agent = vdfd.build("policy").agent
    reached = [p for p in agent.parameters() if p.grad is not None and p.grad.any()]
    assert bool(reached) == train_agent


def gradients(model: Disentangled, loss: Tensor, part: str) -> list[Tensor]:
    parameters = list(getattr(model.action_conditioned, part).parameters())
    found = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    return [g for g in found if g is not None]


def test_kl_balancing_reaches_the_parameters_it_names() -> None:
    """The posterior's network gets alpha of the divergence's gradient, the prior's 1 - alpha."""
    batch = random_batch()
    found: dict[float | None, dict[str, list[Tensor]]] = {}
    for alpha in (0.2, 1.0, None):
        options = {"kl_balancing": False} if alpha is None else {"kl_alpha": alpha}
        model, unrolled, packing = look(parts(**options), batch)
        loss = model(unrolled, batch, packing).losses["ac_kl"]
        found[alpha] = {
            part: gradients(model, loss, name)
            for part, name in (("posterior", "autoencoder"), ("prior", "prior"))
        }
    plain, balanced, normal = found[None], found[0.2], found[1.0]
    for whole, share in zip(plain["posterior"], balanced["posterior"], strict=True):
        assert whole.any()
        torch.testing.assert_close(share, 0.2 * whole, atol=1e-6, rtol=1e-3)
    # At alpha = 1 the prior is held by N(0, I) alone: what it gets beyond that is its share.
    for whole, share, alone in zip(plain["prior"], balanced["prior"], normal["prior"], strict=True):
        assert (whole - alone).any()
        torch.testing.assert_close(share - alone, 0.8 * (whole - alone), atol=1e-6, rtol=1e-3)


def test_without_detaching_the_prior_pulls_at_the_state_it_starts_from() -> None:
    batch = random_batch()
    grads = []
    for alpha in (0.2, 1.0):
        model, unrolled, packing = look(parts(detach_prior_input=False, kl_alpha=alpha), batch)
        loss = model(unrolled, batch, packing).losses["ac_kl"]
        grads.append(gradients(model, loss, "autoencoder"))
    assert not all(
        torch.allclose(a, 0.2 * b, atol=1e-6, rtol=1e-2) for a, b in zip(*grads, strict=True)
    )


def test_the_dead_have_no_part_in_the_losses() -> None:
    batch = random_batch()
    found = []
    for value in (0.0, 5.0):
        model, unrolled, packing = look(parts(graph="none"), batch)
        # The posterior of the living must not see the dead: neither through a graph nor as a team.
        hidden = torch.where(batch.alive[..., None], unrolled.hidden.detach(), value)
        obs = torch.where(batch.alive[..., None], batch.obs, value)
        out = model(unrolled._replace(hidden=hidden), replace(batch, obs=obs), packing)
        found.append(out.losses["st_rec"])
        found.append(model.branches["ac"].hidden_scale.total)
    torch.testing.assert_close(found[0], found[2])
    torch.testing.assert_close(found[1], found[3])


def test_losses_without_context_and_context_without_losses() -> None:
    batch = random_batch()
    masks = {"mask_ac": 0.0, "mask_af": 0.0, "mask_st": 0.0}
    model, unrolled, packing = look(parts(mask_losses=False, **masks), batch)
    out = model(unrolled, batch, packing)
    assert set(out.losses) == ALL_LOSSES
    assert not out.context.any()
    weights = {f"weight_{name}": 0.0 for name in ALL_LOSSES}
    model, unrolled, packing = look(parts(**weights), batch)
    out = model(unrolled, batch, packing)
    assert out.losses == {}
    assert out.context.any()


def test_controls_know_nothing_of_the_batch() -> None:
    batch, other = random_batch(), random_batch(seed=1)
    for kind in ("constant", "random"):
        contexts = []
        for seen in (batch, other):
            model, unrolled, packing = look(parts(context=kind), seen)
            out = model(unrolled, seen, packing)
            assert out.losses == {}
            assert not list(model.parameters())
            contexts.append(out.context)
        assert torch.equal(*contexts)
        assert (contexts[0].std() > 0.1) == (kind == "random")


def test_target_networks_have_a_context_of_their_own() -> None:
    """The copy's own weights and agent; what comes of observations, or all, may be the online model's."""
    batch = random_batch()
    for kind in ("own", "shared", "online"):
        vdfd = parts(target_context=kind)
        learner = vdfd.build("learner")
        model, target = learner.world_model, learner.target_world_model
        packing = Packing.of(batch.lengths + 1, batch.max_t + 1, CPU)
        with torch.no_grad():
            for parameter in learner.policy.agent.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
            # The copy values hidden states with the copy of the agent.
            head = target.action_conditioned._head
            h = torch.randn(1, N, learner.policy.agent.hidden_dim)
            assert torch.equal(head(h), learner.target_agent.head(h))
            online = model(learner.policy.unroll(batch), batch, packing)
            unrolled = learner.policy.unroll(batch, agent=learner.target_agent)
            ours = target.context(unrolled, batch, packing, online)
            exact = target.context(unrolled, batch, packing, WorldModelOutput())
            if kind == "online":
                assert torch.equal(ours, online.context)
                continue
            if kind == "shared":  # the target's maps over the online model's observed states
                observed = online.observed
                assert set(observed) == {"af", "st"}
                assert not torch.equal(ours, exact)
                again = target._look(unrolled, batch, packing, observed).context
                assert torch.equal(ours, again)
            else:
                assert torch.equal(ours, exact)
            assert not torch.allclose(ours, online.context)
            assert learner.gather(batch).drift["context_drift"] > 1e-3
        learner._update_targets()  # after it they are the same whatever the key says
        with torch.no_grad():
            unrolled = learner.policy.unroll(batch)
            same = target.context(unrolled, batch, packing, WorldModelOutput())
            online = model(unrolled, batch, packing)
        torch.testing.assert_close(same, online.context)


def test_metrics_say_how_well_it_predicts_and_imagines() -> None:
    batch = random_batch()
    model, unrolled, packing = look(parts(), batch)
    metrics = model(unrolled, batch, packing).metrics
    assert set(metrics) == {
        "prediction_error",
        "prediction_error_repeat",
        "prediction_error_shuffled",
        "imagined_greedy",
        "imagined_entropy",
    }
    assert float(metrics["imagined_greedy"]) == 1.0
    assert float(metrics["imagined_entropy"]) == 0.0
    hidden, at = packing.pack(unrolled.hidden), packing.previous
    living = packing.pack(batch.alive)[batch.batch_size :]
    repeat = (hidden[batch.batch_size :] - hidden[at]).square().mean(-1)[living].mean()
    torch.testing.assert_close(metrics["prediction_error_repeat"], repeat.detach())
    model, unrolled, packing = look(parts(imagined_actions="soft", temperature=100.0), batch)
    metrics = model(unrolled, batch, packing).metrics
    assert float(metrics["imagined_greedy"]) < 0.9
    assert float(metrics["imagined_entropy"]) > 0.3


def test_shuffled_actions_stay_with_their_agent_and_with_the_living() -> None:
    living = torch.rand(50, 3) < 0.6
    actions = torch.where(living, torch.arange(150).view(50, 3), -1)
    mixed = shuffled_actions(actions, living, torch.Generator().manual_seed(0))
    assert not torch.equal(mixed, actions)
    assert bool((mixed[~living] == -1).all())
    for agent in range(3):
        assert sorted(mixed[:, agent].tolist()) == sorted(actions[:, agent].tolist())
    whole = shuffled_actions(torch.arange(150).view(50, 3), None, torch.Generator())
    assert sorted(whole[:, 1].tolist()) == list(range(1, 150, 3))


def test_imagined_actions() -> None:
    # Available values 1 and 2: half a unit around their mean.
    values = torch.tensor([[[1.0, 3.0, 2.0]]], requires_grad=True)
    avail = torch.tensor([[[True, False, True]]])
    soft = imagined_actions(values, avail, 2.0, "soft")
    torch.testing.assert_close(soft[0, 0], torch.tensor([1, 0, torch.e]) / (1 + torch.e))
    scaled = imagined_actions(100 * values, avail, 2.0, "soft")
    torch.testing.assert_close(scaled, soft)  # the values' scale does not matter
    greedy = imagined_actions(values, avail, 1.0, "greedy")
    assert greedy.tolist() == [[[0, 0, 1]]]
    assert torch.autograd.grad(greedy[0, 0, 0], values)[0].any()
    none = imagined_actions(values, torch.zeros_like(avail), 1.0, "soft")
    torch.testing.assert_close(none, torch.full_like(none, 1 / 3))


def test_losses_and_weights_must_have_the_same_names() -> None:
    with pytest.raises(ValueError, match="differ in name"):
        weighted_sum({"a": torch.ones(())}, {"b": 1.0})


def test_acting_does_not_touch_the_world_model() -> None:
    vdfd = parts()
    vdfd.build("learner")
    names = {name for name, _ in vdfd.build("policy").named_parameters()}
    assert names == {name for name, _ in assemble().build("policy").named_parameters()}
    assert not any("fc2" in name for name, _ in vdfd.build("world_model").named_parameters())


@pytest.mark.parametrize("kind", [GALA, JointAutoEncoder])
def test_posterior_networks(kind: type) -> None:
    name = "gala" if kind is GALA else "vae"
    model = parts(posterior=name).build("world_model")
    assert isinstance(model.action_conditioned.autoencoder, kind)
    assert isinstance(model.branches["af"].autoencoder, kind)
    assert isinstance(model.branches["st"].autoencoder, GALA)


def test_graph_names_are_checked_and_visibility_is_asked_for() -> None:
    with pytest.raises(ValueError, match=r"should be 'complete', 'knn', 'none' or 'visibility'"):
        Disentangled.Config(graph="knnn")
    assert parts(graph="visibility").build("world_model").optional_fields == {"visibility"}
    assert parts().build("world_model").optional_fields == frozenset()
    blind = replace(SPEC, has_visibility=False)
    config = {"world_model": {"graph": "visibility"}}
    with pytest.raises(ConfigError, match="who sees whom"):
        assemble(config, spec=blind, world_model="disentangled").build("world_model")


def test_noise_is_the_models_own() -> None:
    batch = random_batch()
    contexts = []
    for global_seed in (1, 2):
        model, unrolled, packing = look(parts(), batch)
        torch.manual_seed(global_seed)
        contexts.append(model(unrolled, batch, packing).context)
    assert torch.equal(*contexts)
