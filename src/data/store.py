"""Preallocated room for whole episodes, in compact types."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..envs.protocol import EnvSpec, Timestep
from .batch import EpisodeBatch, episode_fields
from .collate import collate
from .compact import refuse_what_float16_loses

_CARRY = "carry_"  # before the names of the policy's memory in a checkpoint


class EpisodeStore:
    """Rows of one episode each.

    Args:
        capacity: number of rows.
        spec: the environment's description.
        float_dtype: type observations and states are kept in; float16 halves the memory.
        optional: fields kept only on request (see :func:`episode_fields`).
        carry: what the policy remembers, (1, ...) each; given where rows may begin within an episode.
        max_steps: most steps of a row, default the episode limit.
    """

    def __init__(
        self,
        capacity: int,
        spec: EnvSpec,
        *,
        float_dtype: type[np.floating] = np.float32,
        optional: frozenset[str] = frozenset(),
        carry: Mapping[str, torch.Tensor] | None = None,
        max_steps: int | None = None,
    ) -> None:
        self.capacity, self.spec = capacity, spec
        limit = spec.episode_limit if max_steps is None else min(max_steps, spec.episode_limit)
        self.fields = episode_fields(spec, float_dtype=float_dtype, optional=optional)
        # np.zeros maps the pages without touching them: memory is taken as rows are first written.
        self.arrays: dict[str, NDArray[np.generic]] = {
            name: np.zeros((capacity, f.steps(limit), *f.shape), f.dtype)
            for name, f in self.fields.items()
        }
        self._tensors = _views(self.arrays)
        self.lengths = np.zeros(capacity, np.int64)
        # Of a runner's rows: the copy of the environment that each is of, the step of its episode at which it
        # begins, and what an episode ended with.
        self.copies = np.arange(capacity)
        self.begins = np.zeros(capacity, np.int64)
        self.outcomes: list[dict[str, float]] = [{} for _ in range(capacity)]
        self.carry: dict[str, torch.Tensor] | None = None
        if carry is not None:
            self.carry = {
                k: torch.zeros((capacity, *v.shape[1:]), dtype=v.dtype) for k, v in carry.items()
            }

    @staticmethod
    def episode_bytes(
        spec: EnvSpec,
        *,
        float_dtype: type[np.floating] = np.float32,
        optional: frozenset[str] = frozenset(),
    ) -> int:
        """Bytes of one row when the episode lasts to the limit."""
        fields = episode_fields(spec, float_dtype=float_dtype, optional=optional)
        return sum(
            int(np.prod((f.steps(spec.episode_limit), *f.shape))) * np.dtype(f.dtype).itemsize
            for f in fields.values()
        )

    def write_seen(self, rows: NDArray[np.int64], t: NDArray[np.int64], seen: Timestep) -> None:
        """File what was seen at step ``t`` (R,) of ``rows`` (R,), taken from the same rows of ``seen``."""
        for name, field in self.fields.items():
            if field.final:
                self.arrays[name][rows, t] = getattr(seen, name)[rows]

    def write_carry(self, rows: NDArray[np.int64], carry: Mapping[str, torch.Tensor]) -> None:
        """File what the policy remembers before the first entry of ``rows`` (R,), where it is kept."""
        if self.carry is not None:
            at = torch.from_numpy(rows)
            for name, kept in self.carry.items():
                kept[at] = carry[name][at.to(carry[name].device)].cpu()

    def write_taken(
        self,
        rows: NDArray[np.int64],
        t: NDArray[np.int64],
        actions: NDArray[Any],
        after: Timestep,
        log_prob: NDArray[np.float32] | None = None,
    ) -> None:
        """File the ``actions`` (B, N) or (B, N, D) taken at step ``t`` of ``rows`` and what they earned.

        Args:
            log_prob: (B, N, F) how likely they were, where that is kept.
        """
        self.arrays["actions"][rows, t] = actions[rows]
        if log_prob is not None and "log_prob" in self.arrays:
            self.arrays["log_prob"][rows, t] = log_prob[rows]
        for name in ("reward", "terminated", "truncated"):
            self.arrays[name][rows, t] = getattr(after, name)[rows]
        self.lengths[rows] = t + 1

    def copy_rows(
        self, source: EpisodeStore, from_rows: NDArray[np.int64], to_rows: NDArray[np.int64]
    ) -> None:
        """Copy whole episodes from another store, converting types.

        Raises:
            EnvError: observations or states are too large for float16, in which this store keeps them.
        """
        for src, dst in zip(from_rows.tolist(), to_rows.tolist(), strict=True):
            length = int(source.lengths[src])
            for name, field in self.fields.items():
                steps = field.steps(length)
                values = source._tensors[name][src, :steps]
                if field.dtype is np.float16:
                    refuse_what_float16_loses(name, values)
                self._tensors[name][dst, :steps] = values
            self.lengths[dst] = length
        if self.carry is not None and source.carry is not None:
            for name, kept in self.carry.items():
                kept[torch.from_numpy(to_rows)] = source.carry[name][torch.from_numpy(from_rows)]

    def apart(self, rows: NDArray[np.int64]) -> EpisodeStore:
        """A store of these runner's ``rows`` (R,) alone, with room for no more."""
        longest = int(self.lengths[rows].max(initial=0))
        kept = object.__new__(EpisodeStore)
        kept.capacity, kept.spec, kept.fields = len(rows), self.spec, self.fields
        kept.arrays = {
            name: self.arrays[name][rows, : field.steps(longest)]
            for name, field in self.fields.items()
        }
        kept._tensors = _views(kept.arrays)
        kept.lengths, kept.copies, kept.begins = (
            each[rows] for each in (self.lengths, self.copies, self.begins)
        )
        kept.carry = None
        kept.outcomes = [self.outcomes[row] for row in rows.tolist()]
        if self.carry is not None:
            kept.carry = {name: of[torch.from_numpy(rows)] for name, of in self.carry.items()}
        return kept

    def __getstate__(self) -> dict[str, Any]:
        """Arrays alone, which need not be copied on their way to another process."""
        state = {name: value for name, value in vars(self).items() if name != "_tensors"}
        if self.carry is not None:
            state["carry"] = {name: kept.numpy() for name, kept in self.carry.items()}
        return state

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Undo :meth:`__getstate__`."""
        vars(self).update(state)
        self._tensors = _views(self.arrays)
        if self.carry is not None:
            self.carry = _views(state["carry"])

    def batch(
        self,
        rows: NDArray[np.int64],
        starts: NDArray[np.int64] | None = None,
        steps: int | None = None,
    ) -> EpisodeBatch:
        """See :class:`~.collate.Episodes`; what an older, longer episode left behind is never read."""
        carry = None
        if self.carry is not None:
            carry = {name: kept[torch.from_numpy(rows)] for name, kept in self.carry.items()}
        return collate(
            self.spec, self.fields, self.lengths, rows, self._entries, starts, steps, carry
        )

    def _entries(self, name: str, row: int, first: int, last: int) -> NDArray[Any]:
        return self.arrays[name][row, first:last]

    def entries(self, name: str, rows: NDArray[np.int64], steps: NDArray[np.int64]) -> torch.Tensor:
        """Entries (R, ...) of a field at ``steps`` (R,) of the episodes in ``rows`` (R,), for learners."""
        found = self._tensors[name][torch.from_numpy(rows), torch.from_numpy(steps)]
        return found.to(self.fields[name].learner_dtype)

    def pack(self, rows: NDArray[np.int64]) -> dict[str, torch.Tensor]:
        """Filled steps of ``rows`` laid end to end: what a checkpoint holds."""
        packed: dict[str, torch.Tensor] = {"lengths": torch.from_numpy(self.lengths[rows].copy())}
        for name, field in self.fields.items():
            parts = [
                self.arrays[name][r, : field.steps(int(self.lengths[r]))] for r in rows.tolist()
            ]
            empty = np.zeros((0, *field.shape), field.dtype)
            packed[name] = torch.from_numpy(np.concatenate([empty, *parts]))
        for name, kept in (self.carry or {}).items():
            packed[_CARRY + name] = kept[torch.from_numpy(rows)]
        return packed

    @staticmethod
    def packed_carry(packed: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What :meth:`pack` has of the policy's memory."""
        return {k.removeprefix(_CARRY): v for k, v in packed.items() if k.startswith(_CARRY)}

    def unpack(self, rows: NDArray[np.int64], packed: dict[str, torch.Tensor]) -> None:
        """Undo :meth:`pack` into ``rows``."""
        lengths = packed["lengths"].numpy()
        self.lengths[rows] = lengths
        for name, field in self.fields.items():
            values, start = packed[name].numpy(), 0
            for r, length in zip(rows.tolist(), lengths.tolist(), strict=True):
                steps = field.steps(length)
                self.arrays[name][r, :steps] = values[start : start + steps]
                start += steps
        for name, kept in (self.carry or {}).items():
            kept[torch.from_numpy(rows)] = packed[_CARRY + name]


def _views(arrays: Mapping[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    """The same memory: torch converts between float16 and float32 many times faster."""
    with warnings.catch_warnings():
        # Of memory that another process wrote, which is read and no more.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
