"""Layers that read rows in parts are those that read whole rows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from phalanx.modules.layers.normed import NormedLinear


def rows(state: Tensor | None, obs: Tensor, alive: Tensor | None, agents: int) -> Tensor:
    """(M, N, I): the parts side by side, zeros where not alive, and who it is."""
    M, N = obs.shape[:2]
    parts = [] if state is None else [state.expand(M, N, -1)]
    x = torch.cat([*parts, obs], dim=-1)
    x = x if alive is None else x * alive[..., None]
    return torch.cat([x, torch.eye(N).expand(M, N, N)], dim=-1) if agents else x


@pytest.mark.parametrize("agents", [0, 3])
@pytest.mark.parametrize("some_dead", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_parts_give_what_whole_rows_give(
    agents: int, some_dead: bool, shared: bool, offset: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    obs = torch.rand(5, 3, 4, generator=generator) + offset
    state = torch.rand(5, 1, 6, generator=generator) if shared else None
    alive = torch.rand(5, 3, generator=generator) < 0.5 if some_dead else None
    layer = NormedLinear([6, 4] if shared else [4], 7, agents=agents).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    parts = [x.double() for x in (state, obs) if x is not None]
    x = rows(state, obs, alive, agents).double()
    expected = layer.linear(F.layer_norm(x, x.shape[-1:], layer.norm.weight, layer.norm.bias))
    outputs = layer(*parts, alive=alive)
    torch.testing.assert_close(outputs, expected)
    weights = list(layer.parameters())
    wanted = torch.autograd.grad(expected.square().sum(), weights)
    for ours, theirs in zip(
        torch.autograd.grad(outputs.square().sum(), weights), wanted, strict=True
    ):
        torch.testing.assert_close(ours, theirs)
    # Single precision loses no more than it does with whole rows.
    single = layer.float()(*(x.float() for x in parts), alive=alive)
    torch.testing.assert_close(single.double(), expected, rtol=1e-3, atol=max(1e-5, 1e-5 * offset))
