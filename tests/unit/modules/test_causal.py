"""Layers over time: whole rows and single steps agree, and every token sees what it should."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from phalanx.modules.layers.causal import Band, BandedAttention, Trunk

CPU = torch.device("cpu")
CASES = [(context, tokens) for context in (1, 3, 20) for tokens in (1, 3)]


def make(context: int, *, blocks: int = 2, read: int | None = None) -> Trunk:
    """A trunk of width 8 with weights large enough that everything matters."""
    torch.manual_seed(0)
    mixer = partial(BandedAttention, heads=2, context=context)
    trunk = Trunk(8, blocks, mixer, read=read)
    for parameter in trunk.parameters():
        parameter.data += 0.5 * torch.randn_like(parameter)
    return trunk.requires_grad_(False)


@pytest.mark.parametrize(("context", "tokens"), CASES)
def test_a_row_at_once_equals_single_steps(context: int, tokens: int) -> None:
    trunk, x = make(context), torch.randn(2, 9, tokens, 8)
    whole, remembered, _ = trunk(x)
    past, features = trunk.begin(2, tokens, CPU), []
    for t in range(9):
        step, past = trunk.step(x[:, t], past, torch.full((2,), t))
        features.append(step)
    torch.testing.assert_close(torch.stack(features, dim=1), whole, atol=1e-5, rtol=1e-5)
    seen = min(context - 1, 9)
    for ours, theirs in zip(past, remembered, strict=True):
        last = slice(context - 1 - seen, None)
        torch.testing.assert_close(ours[:, last], theirs[:, last], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("context", "tokens"), CASES)
def test_rows_go_on_where_they_were_cut_each_at_its_own_step(context: int, tokens: int) -> None:
    trunk, x = make(context), torch.randn(2, 9, tokens, 8)
    whole = trunk(x).features
    cuts = torch.tensor([2, 5])
    pasts = [trunk(x[b : b + 1, :cut]).memory for b, cut in enumerate(cuts.tolist())]
    past = [torch.cat(of_block) for of_block in zip(*pasts, strict=True)]
    late = torch.stack([x[0, 2:6], x[1, 5:9]])
    ours = trunk(late, past, cuts).features
    expected = torch.stack([whole[0, 2:6], whole[1, 5:9]])
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def moved(trunk: Trunk, x: Tensor, t: int, p: int) -> Tensor:
    """(T, R) bool: whose features change with token ``p`` of step ``t``."""
    other = x.clone()
    other[0, t, p] += torch.arange(8.0)  # a constant would be normalised away
    return (trunk(other).features - trunk(x).features)[0].abs().amax(dim=-1) > 0


@pytest.mark.parametrize("blocks", [1, 2])
def test_a_token_is_seen_by_later_ones_within_the_band_and_by_no_others(blocks: int) -> None:
    trunk, x, reach = make(3, blocks=blocks), torch.randn(1, 9, 2, 8), 2 * blocks
    for t in (0, 4):
        for p in (0, 1):
            within = [[s > t or q >= p for q in (0, 1)] for s in range(t, min(t + reach + 1, 9))]
            expected = torch.zeros(9, 2, dtype=torch.bool)
            expected[t : t + reach + 1] = torch.tensor(within)
            assert torch.equal(moved(trunk, x, t, p), expected)


def test_what_is_read_is_the_last_tokens_of_the_whole() -> None:
    whole, last = make(3), make(3, read=1)
    x = torch.randn(2, 9, 3, 8)
    torch.testing.assert_close(last(x).features, whole(x).features[:, :, -1:])


def test_stretches_look_at_the_steps_before_them() -> None:
    band = Band(context=2, steps=3, tokens=1, asked=1, seen=torch.tensor([0, 1]), device=CPU)
    x = torch.arange(4.0).view(1, 4, 1, 1)  # one remembered step, and three
    assert band.visible(x)[0, :, :, 0].tolist() == [[0, 1, 2], [2, 3, 0]]
    assert band.asking(x)[0, :, :, 0].tolist() == [[1, 2], [3, 0]]
    nothing, one = band.mask.int().tolist()
    assert nothing == [[[0, 1, 0], [0, 1, 1]], [[1, 1, 0], [0, 1, 1]]]
    assert one == [[[1, 1, 0], [0, 1, 1]], [[1, 1, 0], [0, 1, 1]]]
