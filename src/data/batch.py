"""A batch of episodes: what runners, files and world models produce, and what learners read.

Axes: B episodes, T steps, N agents, O observation, S state, A actions. Fields seen *before* an action have
T + 1 entries (the last one is what the final action led to), fields that belong to an action have T.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..envs.protocol import EnvSpec

TOLD_FIELDS = frozenset({"visibility"})
"""Fields that environments may tell and most learners do not need: stored where a part reads them."""

OPTIONAL_FIELDS = TOLD_FIELDS | {"log_prob"}
"""All fields that are stored only where a part asks for them."""


@dataclass(frozen=True)
class Field:
    """How one field of an episode is stored.

    Attributes:
        shape: axes after time.
        dtype: compact type it is kept in.
        learner_dtype: type the learner gets.
        final: whether there is an entry after the last action (T + 1 in all).
    """

    shape: tuple[int, ...]
    dtype: type[np.generic]
    learner_dtype: torch.dtype
    final: bool

    def steps(self, episode_limit: int) -> int:
        """Entries along time for an episode of ``episode_limit`` actions."""
        return episode_limit + self.final


def episode_fields(
    spec: EnvSpec,
    *,
    float_dtype: type[np.floating] = np.float32,
    optional: frozenset[str] = frozenset(),
) -> dict[str, Field]:
    """The fields of an episode of ``spec``, in storage order.

    Args:
        float_dtype: what observations and states are kept in.
        optional: which of :data:`OPTIONAL_FIELDS` are stored, where there are such.
    """
    n, a = spec.n_agents, spec.mask_dim
    action = Field((n,), np.uint8 if a <= 256 else np.int16, torch.int64, False)
    if spec.action_shape:
        action = Field((n, *spec.action_shape), np.float32, torch.float32, False)
    fields = {
        "obs": Field((n, spec.obs_dim), float_dtype, torch.float32, True),
        "state": Field((spec.state_dim,), float_dtype, torch.float32, True),
        "avail_actions": Field((n, a), np.bool_, torch.bool, True),
        "actions": action,
        "reward": Field((), np.float32, torch.float32, False),
        "terminated": Field((), np.bool_, torch.bool, False),
        "truncated": Field((), np.bool_, torch.bool, False),
    }
    if spec.has_alive:
        fields["alive"] = Field((n,), np.bool_, torch.bool, True)
    if spec.has_visibility and "visibility" in optional:
        fields["visibility"] = Field((n, n), np.bool_, torch.bool, True)
    if "log_prob" in optional:
        numbers = spec.dimensions + (1 if spec.choices else 0)
        fields["log_prob"] = Field((n, numbers), np.float32, torch.float32, False)
    return fields


@dataclass(frozen=True)
class EpisodeBatch:
    """Episodes, padded to the longest one in the batch.

    ``terminated`` (no value beyond) and ``truncated`` (only the clock stopped) are kept apart; an episode
    ends at its last filled step. Padding is zeros. On-policy batches also hold pieces of episodes, with what
    the policy remembered before each; a piece that is neither terminated nor truncated at its end goes on in
    the next batch.
    """

    spec: EnvSpec
    obs: Tensor  # (B, T+1, N, O) float32
    state: Tensor  # (B, T+1, S) float32
    avail_actions: Tensor  # (B, T+1, N, A) bool
    actions: Tensor  # (B, T, N) int64, or (B, T, N, numbers) float32, see EnvSpec.action_shape
    reward: Tensor  # (B, T) float32
    terminated: Tensor  # (B, T) bool
    truncated: Tensor  # (B, T) bool
    lengths: Tensor  # (B,) int64 on the CPU, steps of each episode
    alive: Tensor | None = None  # (B, T+1, N) bool
    visibility: Tensor | None = None  # (B, T+1, N, N) bool
    log_prob: Tensor | None = None  # (B, T, N, F) of the actions, by whoever chose each
    carry: Mapping[str, Tensor] | None = None  # (B, ...) policy's memory before the first entry
    codes: Tensor | None = None  # (B, T+1, N, K) int64 of the observations, of a tokenizer

    def __post_init__(self) -> None:
        B, T = self.reward.shape
        N, A = self.spec.n_agents, self.spec.mask_dim
        expected = {
            "obs": (B, T + 1, N, self.spec.obs_dim),
            "state": (B, T + 1, self.spec.state_dim),
            "avail_actions": (B, T + 1, N, A),
            "actions": (B, T, N, *self.spec.action_shape),
            "terminated": (B, T),
            "truncated": (B, T),
            "lengths": (B,),
            "alive": (B, T + 1, N),
            "visibility": (B, T + 1, N, N),
            "log_prob": (B, T, N, self.spec.dimensions + (1 if self.spec.choices else 0)),
        }
        if self.codes is not None:
            expected["codes"] = (B, T + 1, N, self.codes.shape[-1])
        for name, shape in expected.items():
            tensor = getattr(self, name)
            if tensor is not None and tuple(tensor.shape) != shape:
                raise ValueError(f"batch field {name} has shape {tuple(tensor.shape)}, not {shape}")

    @property
    def batch_size(self) -> int:
        """B, episodes."""
        return int(self.reward.shape[0])

    @property
    def max_t(self) -> int:
        """T, steps of the longest episode."""
        return int(self.reward.shape[1])

    @cached_property
    def filled(self) -> Tensor:
        """(B, T) bool: true where a step was really taken."""
        steps = torch.arange(self.max_t, device=self.reward.device)
        return steps < self.lengths.to(self.reward.device)[:, None]

    @cached_property
    def last_actions(self) -> Tensor:
        """(B, T+1, N) int64: action taken before each entry, plus one; 0 where there was none.

        All zeros where actions are not discrete.
        """
        if self.spec.action_shape:
            return torch.zeros(self.obs.shape[:3], dtype=torch.int64, device=self.obs.device)
        taken = (self.actions + 1) * self.filled[:, :, None]
        first = torch.zeros_like(taken[:, 0])
        if self.carry is not None and "last_actions" in self.carry:
            first = self.carry["last_actions"]
        return torch.cat([first[:, None], taken], dim=1)

    def frames(self, name: Literal["obs", "state"], count: int) -> Tensor:
        """(B, T+1, ..., count * width): each entry of a field with those before it, oldest first.

        What stood before a row that begins within its episode is in ``carry`` (``obs_before``,
        ``state_before``: (B, some, ...), newest last); before an episode there are zeros.
        """
        seen: Tensor = getattr(self, name)
        if count == 1:
            return seen
        before = seen.new_zeros(len(seen), count - 1, *seen.shape[2:])
        known = (self.carry or {}).get(f"{name}_before")
        if known is not None and known.shape[1]:
            kept = known[:, -(count - 1) :]
            before[:, -kept.shape[1] :] = kept
        whole, entries = torch.cat([before, seen], dim=1), seen.shape[1]
        return torch.cat([whole[:, i : i + entries] for i in range(count)], dim=-1)

    def to(self, device: torch.device | str) -> EpisodeBatch:
        """The same batch on ``device`` (``lengths`` stay on the CPU, where packing needs them)."""
        if self.reward.device == torch.device(device):
            return self
        moved = {
            name: getattr(self, name).to(device, non_blocking=True)
            for name in (*episode_fields(self.spec, optional=OPTIONAL_FIELDS), "codes")
            if getattr(self, name) is not None
        }
        if self.carry is not None:
            carry = {name: tensor.to(device) for name, tensor in self.carry.items()}
            return replace(self, **moved, carry=carry)
        return replace(self, **moved)
