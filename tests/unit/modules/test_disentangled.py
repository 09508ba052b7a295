"""The world model of VDFD: parallel equals sequential, masks, options, and it learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from phalanx.errors import ConfigError
from phalanx.modules.layers.gala import GALA, Operators
from phalanx.modules.layers.gaussian import Gaussian
from phalanx.modules.layers.one_hot import one_hot_actions
from phalanx.modules.layers.packing import Packing
from phalanx.modules.layers.vae import JointAutoEncoder
from phalanx.modules.mixers.base import Choice
from phalanx.modules.world_models.action_conditioned import imagined_actions
from phalanx.modules.world_models.base import weighted_sum
from phalanx.modules.world_models.branch import Noise, joint
from phalanx.modules.world_models.disentangled import Disentangled

from .toys import CPU, SPEC, assemble, random_batch

N, S = SPEC.n_agents, SPEC.state_dim
ALL_LOSSES = {"ac_kl", "ac_rec", "af_kl", "af_rec", "st_rec"}


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


def test_parallel_action_conditioned_branch_equals_a_loop_over_time() -> None:
    batch = random_batch()
    model, unrolled, packing = look(parts(), batch)
    branch, draw = model.action_conditioned, Replayed()
    hidden, values = packing.pack(unrolled.hidden), packing.pack(unrolled.values)
    avail, last = packing.pack(batch.avail_actions), packing.pack(batch.last_actions)
    operators = model.operators(hidden, batch, packing)
    together = branch(hidden, values, avail, last, operators, packing, draw, learn=True)

    posterior_noise, *imagination_noise, prior_noise = draw.drawn
    contexts, kl, rec, at = [], [], [], 0
    Z = branch.settings.latent_dim
    state = torch.zeros(packing.sizes[0], N * Z)
    for size in packing.sizes:
        rows = slice(at, at + size)
        before = state[:size]
        now = Operators(*(o[rows] for o in operators))
        q = branch.posterior(hidden[rows], now)
        latent = q.sample(posterior_noise[rows])
        state = latent.flatten(1)
        actions = one_hot_actions(last[rows], SPEC.n_actions).flatten(1)
        p = branch.transition(before, actions)
        decoded = branch.prior.decode(p.sample(prior_noise[rows]))
        kl.append(branch.settings.kl_loss(joint(q), p) * size)
        errors = (
            (branch.autoencoder.decode(latent, now) - hidden[rows]).square().mean(),
            (decoded[:, : N * Z] - before).square().mean(),
            (decoded[:, N * Z :] - actions).square().mean(),
        )
        rec.append(sum(errors) * size)
        noise = [n[rows] for n in imagination_noise]
        imagined = branch.imagine(
            state, values[rows], avail[rows], now, lambda _, noise=noise: noise.pop(0)
        )
        contexts.append(branch.aggregate(torch.cat(imagined, dim=1)))
        at += size
    close = {"atol": 1e-5, "rtol": 1e-4}
    torch.testing.assert_close(together.context, torch.cat(contexts), **close)
    torch.testing.assert_close(together.losses["kl"], sum(kl) / at, **close)
    torch.testing.assert_close(together.losses["rec"], sum(rec) / at, **close)


def test_action_free_scan_is_the_auto_encoder_of_latent_and_observation() -> None:
    batch = random_batch()
    model, _, packing = look(parts(), batch)
    branch, draw = model.action_free, Replayed()
    obs = packing.pack(batch.obs)
    operators = model.operators(obs, batch, packing)
    posterior, latent = branch.scan(obs, operators, packing, draw)
    # One layer on [v, obs] is what the two layers on v and on obs add up to.
    net = branch.autoencoder
    both = torch.cat([packing.shift(latent), obs], dim=-1)
    weight = torch.cat([net.first_latent.weight, net.first.weight], dim=1)
    first = torch.relu(operators.smooth @ both @ weight.t() + net.first.bias)
    code = operators.smooth @ first @ net.second.weight.t() + net.second.bias
    torch.testing.assert_close(posterior.mean, Gaussian.of(code).mean, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(latent, posterior.sample(draw.drawn[0]), atol=1e-5, rtol=1e-4)


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
        {"imagined_actions": "hard"},
        {"kl_balancing": False},
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
    batch = random_batch((4, 4, 4, 4))
    kept: dict[float, list[Tensor]] = {}
    for share, updates in ((1.0, 1), (0.25, 400)):
        model, unrolled, packing = look(parts(train_share=share), batch)
        weights = [p for name, p in model.named_parameters() if name.startswith("static")]
        total = [torch.zeros_like(p) for p in weights]
        for _ in range(updates):
            out = model(unrolled, batch, packing)
            found = torch.autograd.grad(
                out.context.mean() + out.losses["st_rec"], weights, retain_graph=True
            )
            for at, gradient in enumerate(found):
                total[at] += gradient / updates
        kept[share] = [out.context.detach(), *total]
    (whole, *exact), (part, *mean) = kept[1.0], kept[0.25]
    for expected, estimate in zip(exact, mean, strict=True):
        torch.testing.assert_close(
            estimate, expected, rtol=0.2, atol=0.1 * float(expected.abs().max())
        )
    assert part.shape == whole.shape
    assert bool(part.any(dim=1).all())  # every entry has its context


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
    operators = model.operators(hidden, batch, packing)
    for parameter in branch.autoencoder.second.parameters():
        torch.nn.init.zeros_(parameter)  # cut the way through the encoder
    zeros = torch.zeros(len(hidden), N, dtype=torch.int64)
    none = torch.zeros(len(hidden), N, SPEC.n_actions)
    out = branch(hidden, none, none.bool(), zeros, operators, packing, torch.zeros, learn=True)
    (gradient,) = torch.autograd.grad(out.losses["rec"], hidden, allow_unused=True)
    assert gradient is None or not gradient.any()


def test_imagined_actions() -> None:
    values = torch.tensor([[[1.0, 3.0, 2.0]]], requires_grad=True)
    avail = torch.tensor([[[True, False, True]]])
    soft = imagined_actions(values, avail, 1.0, "soft")
    torch.testing.assert_close(soft[0, 0], torch.tensor([1, 0, torch.e]) / (1 + torch.e))
    hard = imagined_actions(values, avail, 1.0, "hard")
    assert hard.tolist() == [[[0, 0, 1]]]
    assert torch.autograd.grad(hard[0, 0, 0], values)[0].any()
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
    assert isinstance(model.action_free.autoencoder, kind)
    assert isinstance(model.static.autoencoder, GALA)


def test_graph_names_are_checked_and_visibility_is_asked_for() -> None:
    with pytest.raises(ValueError, match=r"should be one of .*knn.* Did you mean 'knn'"):
        Disentangled.Config(graph="knnn")
    assert parts(graph="visibility").build("world_model").optional_fields == {"visibility"}
    assert parts().build("world_model").optional_fields == frozenset()
    from dataclasses import replace

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
