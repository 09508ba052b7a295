"""Finite scalar quantisation: a grid in place of a codebook (Mentzer et al., 2024).

Axes: O observation, K tokens, L coordinates of a token, M observations.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from ...envs.protocol import EnvSpec
from ...registry import TOKENIZERS, PartConfig
from .base import Tokenizer, TokenizerOutput, layers, straight_through


def bounded(z: Tensor, levels: Tensor) -> Tensor:
    """z (..., L) squeezed so that each coordinate rounds to one of ``levels`` (L,) integers."""
    half = (levels - 1) * (1 + 1e-3) / 2
    offset = torch.where(levels % 2 == 0, 0.5, 0.0)
    shift = torch.atanh(offset / half)
    return torch.tanh(z + shift) * half - offset


def quantise(z: Tensor, levels: Tensor) -> Tensor:
    """Grid points (..., L) within [-1, 1] nearest to z (..., L), with its gradient."""
    squeezed = bounded(z, levels)
    return straight_through(squeezed, squeezed.round()) / (levels // 2)


def index_of(points: Tensor, levels: Tensor) -> Tensor:
    """Index (...) int64 of grid points (..., L); the first coordinate counts fastest."""
    half = levels // 2
    digits = (points * half + half).round().long()
    return (digits * _places(levels)).sum(dim=-1)


def points_of(index: Tensor, levels: Tensor) -> Tensor:
    """Undo :func:`index_of`."""
    digits = index[..., None] // _places(levels) % levels
    half = levels // 2
    return (digits - half) / half


def _places(levels: Tensor) -> Tensor:
    return torch.cat([levels.new_ones(1), levels[:-1]]).cumprod(dim=0)


@TOKENIZERS.register("fsq")
class FSQTokenizer(Tokenizer):
    """Auto-encoder whose tokens are points of a fixed grid (Mentzer et al., 2024)."""

    class Config(PartConfig):
        tokens: int = Field(16, ge=1, description="K, tokens of an observation")
        levels: list[Annotated[int, Field(ge=2)]] = Field(
            [8, 8, 8], min_length=1, description="values of each of a token's coordinates"
        )
        hidden_width: int = Field(512, ge=1, description="width of the two hidden layers, each way")

    levels: Tensor

    def __init__(self, config: Config, spec: EnvSpec) -> None:
        super().__init__(spec, config.tokens, math.prod(config.levels))
        K, L, H = config.tokens, len(config.levels), config.hidden_width
        self.encoder = layers([spec.obs_dim, H, H, K * L])
        self.decoder = layers([K * L, H, H, spec.obs_dim])
        # Kept in checkpoints: another grid under the same weights would decode something else.
        self.register_buffer("levels", torch.tensor(config.levels))

    def encode(self, obs: Tensor) -> Tensor:
        """See :meth:`Tokenizer.encode`."""
        return index_of(self._points(obs), self.levels)

    def reconstruct(self, codes: Tensor) -> Tensor:
        """See :meth:`Tokenizer.reconstruct`."""
        obs: Tensor = self.decoder(points_of(codes, self.levels).flatten(-2))
        return obs

    def losses(self, obs: Tensor) -> TokenizerOutput:
        """Error of the reconstruction."""
        points = self._points(obs)
        error = (self.decoder(points.flatten(-2)) - obs).abs().mean()
        if self.training:
            self.note(index_of(points.detach(), self.levels))
        return TokenizerOutput(
            {"reconstruction": error},
            {"dead_codes": self.dead.sum().to(error.dtype), "reconstruction_error": error.detach()},
        )

    def _points(self, obs: Tensor) -> Tensor:
        """(..., K, L) of observations (..., O)."""
        return quantise(self.encoder(obs).unflatten(-1, (self.tokens, -1)), self.levels)
