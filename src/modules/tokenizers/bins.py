"""Each number of an observation as a token of its own."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from ...envs.protocol import EnvSpec
from ...registry import TOKENIZERS, PartConfig
from ..layers.symlog import bin_of, centre_of, symexp, symlog
from .base import Tokenizer, TokenizerOutput


@TOKENIZERS.register("bins")
class BinsTokenizer(Tokenizer):
    """One token for each number of an observation, nothing learnt: bins of its logarithm."""

    class Config(PartConfig):
        bins: int = Field(256, ge=2, description="V, bins of each number")
        limit: float = Field(
            3.0, gt=0, description="largest logarithm sign(x) ln(1 + |x|) told apart"
        )

    trained_by: ClassVar[str | None] = None

    def __init__(self, config: Config, spec: EnvSpec) -> None:
        super().__init__(spec, spec.obs_dim, config.bins)
        self._limit = config.limit

    def encode(self, obs: Tensor) -> Tensor:
        """See :meth:`Tokenizer.encode`."""
        return bin_of(symlog(obs), self.vocabulary, -self._limit, self._limit)

    def reconstruct(self, codes: Tensor) -> Tensor:
        """See :meth:`Tokenizer.reconstruct`."""
        return symexp(centre_of(codes, self.vocabulary, -self._limit, self._limit))

    def losses(self, obs: Tensor) -> TokenizerOutput:
        """Nothing to descend."""
        codes = self.encode(obs)
        self.note(codes)
        error = (self.reconstruct(codes) - obs).abs().mean()
        return TokenizerOutput({}, {"reconstruction_error": error})
