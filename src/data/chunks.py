"""Stretches of consecutive steps cut from a batch: what one gradient step of an on-policy learner reads.

Axes: B episodes (or pieces) of up to T steps, K chunks of up to C steps. C = 1 is single steps in any order,
C = T whole rows, anything between is backpropagation through C steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from .batch import EpisodeBatch


@dataclass(frozen=True)
class Cutting:
    """Where chunks lie in a batch.

    Attributes:
        row: (K,) row of the batch each chunk is cut from.
        start: (K,) its first step.
        lengths: (K,) its steps, at least 1; on the CPU.
        shape: (B, T) of the batch.
        width: C.
    """

    row: Tensor
    start: Tensor
    lengths: Tensor
    shape: tuple[int, int]
    width: int

    @classmethod
    def of(cls, batch: EpisodeBatch, width: int) -> Cutting:
        """Cut every row of ``batch`` into chunks of ``width`` steps; the last of a row may be shorter."""
        device, width = batch.reward.device, min(width, batch.max_t)
        starts = torch.arange(0, batch.max_t, width)
        row, place = (starts < batch.lengths[:, None]).nonzero(as_tuple=True)
        start = starts[place]
        lengths = (batch.lengths[row] - start).clamp(max=width)
        shape = (batch.batch_size, batch.max_t)
        return cls(row.to(device), start.to(device), lengths, shape, width)

    def __len__(self) -> int:
        return int(self.row.shape[0])

    def part(self, members: Tensor) -> Cutting:
        """The chunks in ``members`` (K',), given on the CPU."""
        at = members.to(self.row.device)
        return Cutting(self.row[at], self.start[at], self.lengths[members], self.shape, self.width)

    @cached_property
    def filled(self) -> Tensor:
        """(K, C) bool: steps that exist."""
        steps = torch.arange(self.width, device=self.row.device)
        return steps < self.lengths.to(self.row.device)[:, None]

    def take(self, x: Tensor) -> Tensor:
        """Chunks (K, C, ...) of x (B, T, ...) or (B, T+1, ...); anything beyond their ends."""
        return x.flatten(0, 1)[self._positions(x.shape[1])]

    def put(self, chunks: Tensor) -> Tensor:
        """Undo :meth:`take`: (B, T, ...) of chunks (K, C, ...), zeros where no chunk is."""
        B, T = self.shape
        whole = chunks.new_zeros((B * T, *chunks.shape[2:]))
        whole[self._positions(T)[self.filled]] = chunks[self.filled]
        return whole.view(B, T, *chunks.shape[2:])

    def _positions(self, steps: int) -> Tensor:
        time = self.start[:, None] + torch.arange(self.width, device=self.row.device)
        return self.row[:, None] * steps + time.clamp(max=steps - 1)


@dataclass(frozen=True)
class Chunks:
    """K chunks of up to C steps, gathered when they are read; what is beyond a chunk's end is arbitrary.

    Attributes:
        batch: what they are cut from.
        cutting: where.
        carry: (K, ...) what the policy remembers before the first step.
        member: of this agent alone, N being 1, or of all.
    """

    batch: EpisodeBatch
    cutting: Cutting
    carry: Mapping[str, Tensor]
    member: int | None = None

    @classmethod
    def of(
        cls,
        batch: EpisodeBatch,
        cutting: Cutting,
        carry: Mapping[str, Tensor],
        member: int | None = None,
    ) -> Chunks:
        """The steps of ``batch`` that ``cutting`` says.

        Args:
            carry: (B, T, ...) or (B, 1, ...) what the policy remembers before each step; with one entry
                per row only chunks that begin with their row have theirs.
            member: of this agent alone; ``carry`` then has agents as its third axis.
        """
        if member is not None:
            carry = {k: v[:, :, agents_of(member)] for k, v in carry.items()}
        row, start = cutting.row, cutting.start
        own = {k: v[row, start.clamp(max=v.shape[1] - 1)] for k, v in carry.items()}
        return cls(batch, cutting, own, member)

    @property
    def lengths(self) -> Tensor:
        """(K,) int64 on the CPU."""
        return self.cutting.lengths

    @cached_property
    def obs(self) -> Tensor:
        """(K, C, N, O) float32."""
        return self._of_agents(self.batch.obs)

    @cached_property
    def state(self) -> Tensor:
        """(K, C, S) float32."""
        return self.cutting.take(self.batch.state)

    @cached_property
    def avail_actions(self) -> Tensor:
        """(K, C, N, A) bool."""
        return self._of_agents(self.batch.avail_actions)

    @cached_property
    def actions(self) -> Tensor:
        """(K, C, N) int64, or (K, C, N, numbers) float32, see ``EnvSpec.action_shape``."""
        return self._of_agents(self.batch.actions)

    @cached_property
    def reward(self) -> Tensor:
        """(K, C) float32."""
        return self.cutting.take(self.batch.reward)

    @cached_property
    def last_actions(self) -> Tensor:
        """(K, C, N) int64, see :attr:`EpisodeBatch.last_actions`."""
        return self._of_agents(self.batch.last_actions)

    def frames(self, name: Literal["obs", "state"], count: int) -> Tensor:
        """(K, C, ..., count * width), see :meth:`EpisodeBatch.frames`; gathered once."""
        if count == 1:
            found: Tensor = getattr(self, name)
            return found
        if (name, count) not in self._frames:
            stacked = self.batch.frames(name, count)
            take = self._of_agents if name == "obs" else self.cutting.take
            self._frames[name, count] = take(stacked)
        return self._frames[name, count]

    @cached_property
    def _frames(self) -> dict[tuple[str, int], Tensor]:
        return {}

    @cached_property
    def alive(self) -> Tensor:
        """(K, C, N) bool, all true where the environment does not tell."""
        return self._of_agents(alive_of(self.batch))

    def _of_agents(self, x: Tensor) -> Tensor:
        return self.cutting.take(x[:, :, agents_of(self.member)])


def agents_of(member: int | None) -> slice:
    """Where along the agents' axis this agent stands, or all of them."""
    return slice(None) if member is None else slice(member, member + 1)


def alive_of(batch: EpisodeBatch) -> Tensor:
    """(B, T+1, N) bool: who is alive; everyone where the environment does not tell."""
    if batch.alive is not None:
        return batch.alive
    return torch.ones(batch.obs.shape[:3], dtype=torch.bool, device=batch.obs.device)
