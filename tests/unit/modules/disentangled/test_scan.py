"""One node for the whole recurrence: the loop it replaces, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from phalanx.modules.layers.gaussian import Gaussian
from phalanx.modules.layers.packing import Packing
from phalanx.modules.world_models.disentangled.gala import GALA
from phalanx.modules.world_models.disentangled.scan import graph_scan

N, D, Z = 3, 6, 2


def loop(
    drive: Tensor, smooth: Tensor, noise: Tensor | None, weights: list[Tensor], packing: Packing
) -> list[Tensor]:
    w_in, u_in, w_out, u_out, b_out = weights
    v = torch.zeros(packing.sizes[0], N, Z, dtype=drive.dtype)
    found: list[tuple[Tensor, ...]] = []
    at = 0
    for size in packing.sizes:
        rows = slice(at, at + size)
        v = v[:size]
        x = torch.relu(drive[rows] + smooth[rows] @ v @ w_in.t() + v @ u_in.t())
        now = Gaussian.of(smooth[rows] @ x @ w_out.t() + x @ u_out.t() + b_out)
        v = now.mean if noise is None else now.sample(noise[rows])
        found.append((*now, v))
        at += size
    return [torch.cat(parts) for parts in zip(*found, strict=True)]


@pytest.mark.parametrize("sampled", [True, False])
@pytest.mark.parametrize("lengths", [(5, 2, 3), (1,), (2, 2)])
def test_equals_the_loop_forward_and_backward(lengths: tuple[int, ...], sampled: bool) -> None:
    torch.manual_seed(0)
    packing = Packing.of(torch.tensor(lengths), max(lengths), torch.device("cpu"))
    P = sum(lengths)
    smooth = torch.rand(P, N, N, dtype=torch.double)
    smooth = smooth + smooth.transpose(1, 2)
    shapes = [(P, N, D), (D, Z), (D, Z), (2 * Z, D), (2 * Z, D), (2 * Z,)]
    drive, *weights = (torch.randn(*s, dtype=torch.double, requires_grad=True) for s in shapes)
    noise = torch.randn(P, N, Z, dtype=torch.double) if sampled else None
    wanted = [torch.randn(P, N, Z, dtype=torch.double) for _ in range(3)]
    results = []
    for ours in (True, False):
        if ours:
            found, sample = graph_scan(
                drive, smooth, noise, tuple(weights[:2]), tuple(weights[2:]), packing
            )
            outputs = [*found, sample]
        else:
            outputs = loop(drive, smooth, noise, weights, packing)
        loss = sum((out * w).sum() for out, w in zip(outputs, wanted, strict=True))
        results.append([*outputs, *torch.autograd.grad(loss, [drive, *weights])])
    for ours_, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours_, theirs)


@pytest.mark.parametrize("own_rows", [True, False])
def test_is_the_auto_encoder_of_latent_and_observation(own_rows: bool) -> None:
    """One layer on [v, obs] is what the two layers on v and on obs add up to."""
    torch.manual_seed(0)
    net = GALA(features=4, hidden=D, code=2 * Z, latent=Z, recurrent=True, own_rows=own_rows)
    packing = Packing.of(torch.tensor([3, 2]), 3, torch.device("cpu"))
    obs, noise = torch.randn(5, N, 4), torch.randn(5, N, Z)
    smooth = torch.rand(5, N, N)
    smooth = smooth + smooth.transpose(1, 2)
    posterior, latent = net.scan(net.first(obs, smooth), smooth, noise, packing)
    both = torch.cat([packing.shift(latent), obs], dim=-1)

    def layer(x: Tensor, weight: Tensor, own: Tensor | None, bias: Tensor | None) -> Tensor:
        y = smooth @ x @ weight.t()
        if own is not None:
            y = y + x @ own.t()
        return y if bias is None else y + bias

    assert net.first_latent is not None
    weight = torch.cat([net.first_latent.weight, net.first.weight], dim=1)
    own = None
    if own_rows:
        assert net.first_latent.own is not None
        assert net.first.own is not None
        own = torch.cat([net.first_latent.own, net.first.own], dim=1)
    hidden = torch.relu(layer(both, weight, own, net.first.bias))
    code = layer(hidden, net.second.weight, net.second.own, net.second.bias)
    torch.testing.assert_close(posterior.mean, Gaussian.of(code).mean, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(latent, posterior.sample(noise), atol=1e-5, rtol=1e-4)
