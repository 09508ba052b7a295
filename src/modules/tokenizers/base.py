"""What a world model over tokens, and whoever acts on what it imagines, need of a tokenizer.

Axes: O observation, K tokens of an observation, V vocabulary, M observations.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ...envs.protocol import EnvSpec

DEAD_AFTER = 20
"""Updates after which a code that nothing chose counts as dead."""


class TokenizerOutput(NamedTuple):
    """What a tokenizer learns of some observations."""

    losses: dict[str, Tensor]  # scalars, to be added up as they are
    metrics: dict[str, Tensor]  # scalars without gradient


class Tokenizer(nn.Module, ABC):
    """Observations of one agent as ``tokens`` codes below ``vocabulary``, the same for all agents.

    Attributes:
        trained_by: kind of the part that trains it and must therefore ask for it; None: nobody has to.
        tokens: K.
        vocabulary: V.
        unused_for: (V,) updates since a code was last chosen.
    """

    trained_by: ClassVar[str | None] = "buffer"
    tokens: int
    vocabulary: int
    unused_for: Tensor

    def __init__(self, spec: EnvSpec, tokens: int, vocabulary: int) -> None:
        super().__init__()
        self.tokens, self.vocabulary = tokens, vocabulary
        self._bound = spec.obs_bound
        self.register_buffer("unused_for", torch.zeros(vocabulary, dtype=torch.int64))

    @abstractmethod
    def encode(self, obs: Tensor) -> Tensor:
        """Codes (..., K) int64 of observations (..., O)."""

    def decode(self, codes: Tensor) -> Tensor:
        """Observations (..., O) of codes (..., K), within the bound that the environment declares."""
        obs = self.reconstruct(codes)
        return obs if self._bound is None else obs.clamp(-self._bound, self._bound)

    @abstractmethod
    def reconstruct(self, codes: Tensor) -> Tensor:
        """Observations (..., O) of codes (..., K) as they come."""

    @abstractmethod
    def losses(self, obs: Tensor) -> TokenizerOutput:
        """What is to be descended on observations (M, O); a codebook that moves by itself does so here."""

    def note(self, codes: Tensor) -> Tensor:
        """Count what was chosen in an update; returns (V,) how often."""
        chosen = torch.bincount(codes.flatten(), minlength=self.vocabulary)
        self.unused_for.add_(1).masked_fill_(chosen > 0, 0)
        return chosen

    @property
    def dead(self) -> Tensor:
        """(V,) bool: codes that nothing has chosen for long."""
        return self.unused_for >= DEAD_AFTER


def layers(widths: Sequence[int]) -> nn.Sequential:
    """``Linear, GELU, Linear, GELU ... Linear`` through these widths."""
    made: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        made += [nn.Linear(inputs, outputs), nn.GELU()]
    return nn.Sequential(*made[:-1])


def straight_through(z: Tensor, quantised: Tensor) -> Tensor:
    """``quantised`` with the gradient of ``z``."""
    return z + (quantised - z).detach()
