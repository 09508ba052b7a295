"""From pieces of episodes of unequal lengths to one padded batch: the one place that does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..envs.protocol import EnvSpec
from .batch import EpisodeBatch, Field


class Episodes(Protocol):
    """Episodes that can be read in any order: a runner's or replay's store, or a dataset.

    Attributes:
        spec: the environment's description.
        lengths: (E,) steps of each.
    """

    spec: EnvSpec
    lengths: NDArray[np.int64]

    def batch(
        self,
        rows: NDArray[np.int64],
        starts: NDArray[np.int64] | None = None,
        steps: int | None = None,
    ) -> EpisodeBatch:
        """The episodes in ``rows`` (B,), or a window of each, padded to the longest of them.

        Args:
            starts: (B,) first step of each window; a window never goes beyond its episode's end. What a
                policy would remember of the steps before is then in the batch's ``carry``, as far as the
                data know: ``last_actions`` (see :attr:`EpisodeBatch.last_actions`), ``step`` and
                ``return_to_go``, the sum of rewards from there to the episode's end.
            steps: most steps of a window; None: to the end.
        """
        ...


class Entries(Protocol):
    """Reads entries ``first`` to ``last`` (not included) of one field of the episode in ``row``."""

    def __call__(self, name: str, row: int, first: int, last: int) -> NDArray[Any]: ...


def collate(
    spec: EnvSpec,
    fields: Mapping[str, Field],
    lengths: NDArray[np.int64],
    rows: NDArray[np.int64],
    read: Entries,
    starts: NDArray[np.int64] | None = None,
    steps: int | None = None,
    carry: Mapping[str, Tensor] | None = None,
) -> EpisodeBatch:
    """What :meth:`Episodes.batch` returns, of episodes whose ``lengths`` (E,) and entries are given.

    Args:
        read: gives entries in the type they are kept in.
        carry: (B, ...) what the policy remembered before the first entry, where that is known; windows
            get what the data say of it.
    """
    first = np.zeros_like(rows) if starts is None else starts
    taken = lengths[rows] - first
    if steps is not None:
        taken = np.minimum(taken, steps)
    if len(taken) and taken.min() < 1:
        b = int(taken.argmin())
        raise ValueError(
            f"a window at step {first[b]} of episode {rows[b]}, which has {lengths[rows[b]]}"
        )
    pieces = list(zip(rows.tolist(), first.tolist(), taken.tolist(), strict=True))
    longest = int(taken.max(initial=0))
    tensors = {
        name: _padded(name, field, pieces, field.steps(longest), read)
        for name, field in fields.items()
    }
    if starts is not None:
        carry = _before(spec, pieces, lengths, read)
    return EpisodeBatch(spec=spec, lengths=torch.from_numpy(taken), carry=carry, **tensors)


def _padded(
    name: str, field: Field, pieces: Sequence[tuple[int, int, int]], steps: int, read: Entries
) -> Tensor:
    """One field of all pieces (row, first, length), in the learner's type, zeros behind their ends."""
    kept, more = np.empty((len(pieces), steps, *field.shape), field.dtype), field.steps(0)
    for b, (row, first, length) in enumerate(pieces):
        end = length + more
        kept[b, :end] = read(name, row, first, first + end)
        if end < steps:
            kept[b, end:] = 0
    # All at once: numpy copies a piece in less time than torch takes to begin, and torch converts faster.
    return torch.from_numpy(kept).to(field.learner_dtype)


def _before(
    spec: EnvSpec,
    pieces: Sequence[tuple[int, int, int]],
    lengths: NDArray[np.int64],
    read: Entries,
) -> dict[str, Tensor]:
    """What is known of the steps before each window, and of the rewards that follow."""
    B = len(pieces)
    last, to_go = np.zeros((B, spec.n_agents), np.int64), np.zeros(B, np.float32)
    for b, (row, first, _) in enumerate(pieces):
        to_go[b] = read("reward", row, first, int(lengths[row])).sum(dtype=np.float64)
        if first and not spec.action_shape:
            last[b] = read("actions", row, first - 1, first)[0]
            last[b] += 1
    step = torch.tensor([first for _, first, _ in pieces], dtype=torch.int64)
    return {
        "last_actions": torch.from_numpy(last),
        "step": step,
        "return_to_go": torch.from_numpy(to_go),
    }
