"""Quantisers against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch

from phalanx.modules.layers.symlog import bin_of, centre_of, symexp, symlog
from phalanx.modules.tokenizers.fsq import index_of, points_of, quantise
from phalanx.modules.tokenizers.vq import Codebook, moved, nearest, revived


def test_the_codebook_follows_what_chose_it() -> None:
    """Codes 0 and 1; 0.2, 0.4 and 0.4 choose the first."""
    z = torch.tensor([[0.2], [0.4], [0.4]])
    book = Codebook(torch.tensor([[0.0], [1.0]]), torch.zeros(2), torch.tensor([[0.0], [1.0]]))
    chosen = nearest(book.codes, z)
    assert chosen.tolist() == [0, 0, 0]
    after = moved(book, chosen, z, decay=0.8)
    torch.testing.assert_close(after.counts, torch.tensor([0.6, 0.0]))
    torch.testing.assert_close(after.sums, torch.tensor([[0.2], [0.8]]))
    # Counts that begin with 0, as published, throw the unused code far out.
    torch.testing.assert_close(
        after.codes, torch.tensor([[0.333339], [80002.67]]), rtol=1e-5, atol=0
    )


@pytest.mark.parametrize(
    ("updates", "size"), [(1, 8.0e4), (10, 1.07e4), (20, 1.15e3), (40, 13.3), (52, 0.91)]
)
def test_unused_codes_explode_when_counts_begin_with_zero(updates: int, size: float) -> None:
    z = torch.zeros(100, 1)
    book = Codebook(torch.tensor([[0.0], [1.0]]), torch.zeros(2), torch.tensor([[0.0], [1.0]]))
    for _ in range(updates):
        book = moved(book, torch.zeros(100, dtype=torch.int64), z, decay=0.8)
    assert float(book.codes[1]) == pytest.approx(size, rel=0.02)


def test_unused_codes_stay_where_they_are_when_counts_begin_with_one() -> None:
    z = torch.zeros(100, 1)
    book = Codebook(torch.tensor([[0.0], [1.0]]), torch.ones(2), torch.tensor([[0.0], [1.0]]))
    for _ in range(50):
        book = moved(book, torch.zeros(100, dtype=torch.int64), z, decay=0.8)
        assert 0.5 < float(book.codes[1]) < 2.0


def test_the_dead_take_a_vectors_place() -> None:
    book = Codebook(
        torch.tensor([[0.0], [9.0]]), torch.tensor([3.0, 0.1]), torch.tensor([[0.0], [0.9]])
    )
    after = revived(book, torch.tensor([False, True]), torch.tensor([[5.0], [6.0]]))
    assert after.codes.flatten().tolist() == [0.0, 6.0]
    assert after.counts.tolist() == [3.0, 1.0]
    assert after.sums.flatten().tolist() == [0.0, 6.0]


@pytest.mark.parametrize(
    ("levels", "z", "points", "index"),
    [
        ([8, 8, 8], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], 292),
        ([8, 8, 8], [10.0, 10.0, 10.0], [0.75, 0.75, 0.75], 511),
        ([8, 8, 8], [-10.0, -10.0, -10.0], [-1.0, -1.0, -1.0], 0),
        ([8, 8, 8], [0.3, -0.3, 1.0], [0.25, -0.25, 0.5], 413),
        ([8, 6, 5], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], 124),
    ],
)
def test_the_grid_by_hand(
    levels: list[int], z: list[float], points: list[float], index: int
) -> None:
    grid = torch.tensor(levels)
    found = quantise(torch.tensor(z), grid)
    torch.testing.assert_close(found, torch.tensor(points))
    assert int(index_of(found, grid)) == index


@pytest.mark.parametrize("levels", [[8, 8, 8], [8, 6, 5], [2, 3], [7]])
def test_every_index_of_the_grid_comes_back(levels: list[int]) -> None:
    grid = torch.tensor(levels)
    every = torch.arange(int(grid.prod()))
    points = points_of(every, grid)
    assert torch.equal(index_of(points, grid), every)
    assert points.abs().max() <= 1


def test_bins_by_hand() -> None:
    """256 bins of [-1, 1]: the ends are the first and the last, 0 begins the upper half."""
    x = torch.tensor([-1.0, 1.0, 0.0, -7.0, 7.0])
    assert bin_of(x, 256, -1.0, 1.0).tolist() == [0, 255, 128, 0, 255]
    assert centre_of(torch.tensor([0, 255]), 256, -1.0, 1.0).tolist() == [-1 + 1 / 256, 1 - 1 / 256]
    every = torch.arange(256)
    assert torch.equal(bin_of(centre_of(every, 256, -3.0, 3.0), 256, -3.0, 3.0), every)


def test_logarithms_with_a_sign_come_back() -> None:
    x = torch.tensor([-19.0, -0.5, 0.0, 2.0, 1e4])
    torch.testing.assert_close(symexp(symlog(x)), x)
    assert float(symlog(torch.tensor(-(torch.e - 1)))) == pytest.approx(-1.0)
