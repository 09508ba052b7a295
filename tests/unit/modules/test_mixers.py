"""Mixers: any leading axes, monotonic, and equal to a computation by hand."""

from __future__ import annotations

import pytest
import torch

from phalanx.modules.mixers.qmix import mix
from phalanx.registry import MIXERS, WORLD_MODELS

from .toys import SPEC, assemble

N, S = SPEC.n_agents, SPEC.state_dim


@pytest.mark.parametrize("name", MIXERS.names())
@pytest.mark.parametrize("world_model", WORLD_MODELS.names())
def test_shapes_and_monotonicity(name: str, world_model: str) -> None:
    parts = assemble(mixer=name, world_model=world_model)
    mixer, width = parts.build("mixer"), parts.build("world_model").output_dim
    q = torch.randn(50, 2, N, requires_grad=True)
    state = 3 * torch.randn(50, 2, S)
    context = 3 * torch.randn(50, 2, width) if width else None
    total = mixer(q, state, context)
    assert total.shape == ((50, 2, N) if name == "none" else (50, 2, 1))
    (slope,) = torch.autograd.grad(total.sum(), q)
    assert bool((slope >= 0).all())


def test_mixing_by_hand() -> None:
    q = torch.tensor([1.0, -2.0])
    w1 = torch.tensor([[1.0, 0.5], [2.0, 0.25]])  # (N, E)
    b1, w2, b2 = torch.tensor([1.0, 0.0]), torch.tensor([3.0, 2.0]), torch.tensor([0.5])
    # Hidden before the activation: 1 - 4 + 1 = -2 and 0.5 - 0.5 = 0.
    expected = 3 * (torch.tensor(-2.0).exp() - 1) + 0 + 0.5
    torch.testing.assert_close(mix(q, w1, b1, w2, b2), expected[None])


def test_vdn_is_a_sum_and_none_is_nothing() -> None:
    q, state = torch.randn(6, N), torch.randn(6, S)
    assert torch.equal(assemble(mixer="vdn").build("mixer")(q, state), q.sum(-1, keepdim=True))
    assert torch.equal(assemble(mixer="none").build("mixer")(q, state), q)


@pytest.mark.parametrize("layers", [1, 2])
def test_state_decides_the_weights(layers: int) -> None:
    mixer = assemble({"mixer": {"hypernet_layers": layers}}).build("mixer")
    q = torch.randn(1, N).expand(2, N)
    a, b = mixer(q, torch.randn(2, S))
    assert not torch.equal(a, b)
