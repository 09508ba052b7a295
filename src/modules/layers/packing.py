"""Rows of the entries that exist in a batch of episodes, so that padding costs nothing.

Axes: B episodes, T entries of the longest one, P entries that exist. Packed rows are ordered by time, within
one time by length, longest episode first (the order of ``torch.nn.utils.rnn.PackedSequence``): the episodes
still running at time t are the first rows of the slice of time t - 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Packing:
    """Where each packed row stands in the padded batch, and which row comes before it.

    Attributes:
        index: (P,) position in the flattened (B, T) axes, on the device of the data.
        order: (B',) episodes that have rows here, longest first, on the device of the data.
        sizes: rows at each time, at most T of them, never rising.
        shape: (B, T).
    """

    index: Tensor
    order: Tensor
    sizes: tuple[int, ...]
    shape: tuple[int, int]

    @classmethod
    def of(cls, lengths: Tensor, max_t: int, device: torch.device) -> Packing:
        """Packing of episodes with ``lengths`` (B,) entries, given on the CPU so that nothing waits."""
        ordered, order = torch.sort(lengths, descending=True, stable=True)
        times = torch.arange(int(ordered[0]))
        running = times[:, None] < ordered  # (T, B)
        index = (order * max_t + times[:, None])[running]
        sizes = tuple(running.sum(dim=1).tolist())
        return cls(index.to(device), order.to(device), sizes, (len(lengths), max_t))

    @cached_property
    def previous(self) -> Tensor:
        """(P - B,) packed row one step before each packed row from the B-th on (time 1 and later).

        Read the other way round: the rows that have a successor, in the order of these successors.
        """
        starts = torch.tensor((0, *self.sizes[:-1])).cumsum(0)
        parts = [
            torch.arange(start, start + size)
            for start, size in zip(starts.tolist(), self.sizes[1:], strict=False)
        ]
        rows = torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)
        return rows.to(self.index.device)

    @cached_property
    def previous_step(self) -> Tensor:
        """(P - B,) position of the :attr:`previous` rows in the flattened axes (B, T - 1).

        Fields that belong to an action have one entry less than those seen around it.
        """
        T = self.shape[1]
        index = self.index[self.previous]
        return index - torch.div(index, T, rounding_mode="floor")

    def part(self, members: Tensor) -> tuple[Packing, Tensor]:
        """Packing of some episodes, and the rows (P',) of theirs among these.

        Args:
            members: (B,) bool on the CPU, by place in :attr:`order`.
        """
        place = torch.cat([torch.arange(size) for size in self.sizes])
        rows = members[place].nonzero()[:, 0]
        counts = (0, *members.cumsum(0).tolist())
        sizes = tuple(counts[size] for size in self.sizes if counts[size])
        device = self.index.device
        rows = rows.to(device)
        order = self.order[members.to(device)]
        return Packing(self.index[rows], order, sizes, self.shape), rows

    def shift(self, rows: Tensor, first: Tensor | None = None) -> Tensor:
        """What stood in ``rows`` (P, ...) one step before: ``first`` (1, ...), default zeros, at time 0."""
        start = torch.zeros_like(rows[:1]) if first is None else first
        start = start.expand(self.sizes[0], *rows.shape[1:])
        return torch.cat([start, rows.index_select(0, self.previous)])

    def pack(self, x: Tensor) -> Tensor:
        """Rows (P, ...) of the padded ``x`` (B, T, ...)."""
        return x.flatten(0, 1).index_select(0, self.index)

    def pad(self, rows: Tensor) -> Tensor:
        """Padded (B, T, ...) of packed ``rows`` (P, ...), zeros where nothing was."""
        B, T = self.shape
        padded = rows.new_zeros((B * T, *rows.shape[1:])).index_copy(0, self.index, rows)
        return padded.view(B, T, *rows.shape[1:])
