"""The GRU over packed rows is torch's GRU."""

from __future__ import annotations

import pytest
import torch
from torch.nn.utils.rnn import PackedSequence

from phalanx.modules.layers.gru import PackedGRU, recurrence


@pytest.mark.parametrize("sizes", [(4, 4, 3, 1), (2,), (5, 5, 5), (3, 1, 1, 1, 1)])
def test_equals_torch_forward_and_backward(sizes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    gru = PackedGRU(6, 5)
    results = []
    x = torch.randn(sum(sizes), 6, requires_grad=True)
    start = torch.randn(sizes[0], 5, requires_grad=True)
    weights = torch.randn(sum(sizes), 5)
    for ours in (True, False):
        if ours:
            rows, last = gru.run(x, start, sizes)
        else:
            (rows, *_), last = gru(PackedSequence(x, torch.tensor(sizes)), start[None])
            last = last[0]
        loss = (rows * weights).sum() + last.square().sum()
        results.append([rows, last, *torch.autograd.grad(loss, [x, start, *gru.parameters()])])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_gradients_are_derivatives() -> None:
    torch.manual_seed(0)
    sizes = (3, 3, 2, 1)
    gru = PackedGRU(4, 3).double()
    x = torch.randn(sum(sizes), 4, dtype=torch.double, requires_grad=True)
    start = torch.randn(3, 3, dtype=torch.double, requires_grad=True)
    inputs = (x, start, *gru.parameters())
    assert torch.autograd.gradcheck(lambda *a: recurrence(*a, sizes), inputs)


def test_parameters_are_those_of_torch() -> None:
    PackedGRU(4, 3).load_state_dict(torch.nn.GRU(4, 3).state_dict())
