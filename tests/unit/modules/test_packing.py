"""Packed rows: nothing lost, nothing padded, predecessors in the right place."""

from __future__ import annotations

import torch

from phalanx.modules.layers.packing import Packing

from .toys import CPU, random_batch


def test_rows_come_by_time_longest_first() -> None:
    packing = Packing.of(torch.tensor([2, 3, 1]), 3, CPU)
    # (episode, time) -> position 3 * episode + time
    assert packing.index.tolist() == [3, 0, 6, 4, 1, 5]
    assert packing.order.tolist() == [1, 0, 2]
    assert packing.sizes == (3, 2, 1)
    assert packing.previous.tolist() == [0, 1, 3]
    assert packing.previous_step.tolist() == [2, 0, 3]


def test_pad_undoes_pack() -> None:
    batch = random_batch()
    packing = Packing.of(batch.lengths + 1, batch.max_t + 1, CPU)
    assert torch.equal(packing.pad(packing.pack(batch.obs)), batch.obs)
    assert len(packing.index) == int((batch.lengths + 1).sum())


def test_fields_of_actions_line_up_with_the_entries_around_them() -> None:
    batch = random_batch()
    packing = Packing.of(batch.lengths + 1, batch.max_t + 1, CPU)
    taken = batch.actions.flatten(0, 1)[packing.previous_step]
    assert torch.equal(taken + 1, packing.pack(batch.last_actions)[batch.batch_size :])


def test_shift_brings_the_row_before() -> None:
    packing = Packing.of(torch.tensor([2, 3, 1]), 3, CPU)
    rows = packing.pack(torch.arange(9.0).view(3, 3, 1))
    assert packing.shift(rows).flatten().tolist() == [0, 0, 0, 3, 0, 4]
    first = torch.tensor([[-1.0]])
    assert packing.shift(rows, first=first).flatten().tolist() == [-1, -1, -1, 3, 0, 4]


def test_part_is_the_packing_of_some_episodes() -> None:
    packing = Packing.of(torch.tensor([2, 3, 1]), 3, CPU)
    # Places 0 and 2 in the order [1, 0, 2].
    part, rows = packing.part(torch.tensor([True, False, True]))
    assert part.order.tolist() == [1, 2]
    assert part.sizes == (2, 1, 1)
    assert part.index.tolist() == [3, 6, 4, 5]
    assert packing.index[rows].tolist() == part.index.tolist()
    assert part.previous.tolist() == [0, 2]
