"""The variational mixer: its size, what it lets through, and rows against steps."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from phalanx.modules.layers.causal import Band, Block, Trunk
from phalanx.modules.layers.vae_mixer import LagMix, VAEMixer

CPU = torch.device("cpu")


def make(mix: Any = "causal", **keys: Any) -> Trunk:
    """A trunk of width 8 over two tokens a step, three steps at once, large weights."""
    torch.manual_seed(0)
    trunk = Trunk(8, 2, partial(VAEMixer, context=3, tokens=2, mix=mix, **keys))
    generator = torch.Generator().manual_seed(0)
    for name, parameter in trunk.named_parameters():
        if "mix.weight" not in name:
            parameter.data += 0.5 * torch.randn(parameter.shape, generator=generator)
    return trunk.requires_grad_(False)


def mixing(trunk: Trunk) -> list[LagMix]:
    """What mixes tokens in each block."""
    return [module for module in trunk.modules() if isinstance(module, LagMix)]


def noisy(trunk: Trunk, x: Tensor) -> Tensor:
    """Features with noise, the same in each call."""
    torch.manual_seed(3)
    return trunk.train()(x).features


def test_sizes_are_the_published_ones() -> None:
    published = partial(VAEMixer, context=1, tokens=1, mix="none")
    mixer, block = published(32), Block(32, published, 2)
    sizes = [sum(p.numel() for p in part.parameters()) for part in (mixer, block)]
    assert sizes == [4_768, 9_088]


def test_a_mix_of_each_token_with_itself_is_none() -> None:
    mixed, x = make("causal"), torch.randn(3, 7, 2, 8)
    for module in mixing(mixed):
        module.weight.data[..., 0] = torch.eye(2)
    assert torch.equal(noisy(mixed, x), noisy(make("none"), x))


def test_to_begin_with_a_token_is_given_those_of_its_step_up_to_itself() -> None:
    mix, x = LagMix(tokens=3, context=2, heads=1), torch.randn(1, 2, 3, 4)
    band = Band(context=2, steps=1, tokens=3, asked=3, seen=torch.ones(1), device=CPU)
    torch.testing.assert_close(mix(x, band)[0, 0], x[0, 1].cumsum(dim=0))


@pytest.mark.parametrize("heads", [1, 2])
def test_tokens_reach_later_ones_within_the_band_alone(heads: int) -> None:
    trunk, x = make(heads=heads), torch.randn(1, 9, 2, 8)
    for module in mixing(trunk):
        module.weight.data += torch.randn_like(module.weight)
    for p in (0, 1):
        other = x.clone()
        other[0, 2, p] += torch.arange(8.0)
        moved = (noisy(trunk, other) - noisy(trunk, x))[0].abs().amax(dim=-1) > 0
        expected = torch.zeros(9, 2, dtype=torch.bool)
        expected[2:7] = True
        expected[2, 0] = p == 0
        assert torch.equal(moved, expected)


def test_mixing_weighs_tokens_by_age() -> None:
    trunk = Trunk(2, 1, partial(VAEMixer, context=2, tokens=1))
    mix = mixing(trunk)[0]
    mix.weight.data = torch.tensor([[[[1.0, 0.5]]]])
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 4.0], [0.0, 8.0]]).view(1, 4, 1, 2)
    band = Band(context=2, steps=3, tokens=1, asked=1, seen=None, device=CPU)  # one step before
    assert mix(x, band)[0, :, 0].tolist() == [[1.0, 0.0], [2.5, 4.0], [1.0, 10.0]]


@pytest.mark.parametrize("mix", ["none", "causal"])
def test_without_noise_a_row_at_once_equals_single_steps(mix: str) -> None:
    trunk, x = make(mix, heads=2).eval(), torch.randn(2, 9, 2, 8)
    for module in mixing(trunk):
        module.weight.data += torch.randn_like(module.weight)
    whole, past, steps = trunk(x).features, trunk.begin(2, 2, CPU), []
    for t in range(9):
        step, past = trunk.step(x[:, t], past, torch.full((2,), t))
        steps.append(step)
    torch.testing.assert_close(torch.stack(steps, dim=1), whole, atol=1e-5, rtol=1e-5)
    assert torch.equal(trunk(x).features, whole)


def test_noise_has_the_moments_it_says_and_costs_what_it_should() -> None:
    mixer = VAEMixer(4, 1, 1, mix="none")
    mixer.mean.bias.data = torch.tensor([1.0, -0.5])
    mixer.logvar.bias.data = torch.tensor([0.0, -1.0])
    for layer in (mixer.mean, mixer.logvar):
        layer.weight.data.zero_()
    mixer.decoder = torch.nn.Identity()
    band = Band(context=1, steps=100_000, tokens=1, asked=1, seen=None, device=CPU)
    z, cost = mixer(torch.zeros(1, 100_000, 1, 4), band)
    torch.testing.assert_close(
        z.mean(dim=(0, 1, 2)), torch.tensor([1.0, -0.5]), atol=0.01, rtol=0.01
    )
    deviation = torch.tensor([1.0, 0.606531])
    torch.testing.assert_close(z.std(dim=(0, 1, 2)), deviation, atol=0.01, rtol=0.01)
    assert cost[0, 0, 0].item() == pytest.approx(0.808940, abs=1e-6)
