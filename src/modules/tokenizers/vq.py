"""Vector quantisation with a codebook that follows what is encoded.

Axes: O observation, K tokens, V codes of the codebook, D their width, M observations, R = M K vectors.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from ...envs.protocol import EnvSpec
from ...registry import TOKENIZERS, PartConfig
from ...seeding import named_generator
from .base import Tokenizer, TokenizerOutput, layers, straight_through

EPS = 1e-5


class Codebook(NamedTuple):
    """Codes with the running sums that they are means of."""

    codes: Tensor  # (V, D)
    counts: Tensor  # (V,) vectors per update
    sums: Tensor  # (V, D) of these vectors


def nearest(codes: Tensor, z: Tensor) -> Tensor:
    """Index (R,) of the code (V, D) that is nearest to each vector z (R, D)."""
    distance = codes.square().sum(dim=1) - 2 * z @ codes.t()  # less |z|^2, the same for all codes
    return distance.argmin(dim=1)


def moved(book: Codebook, chosen: Tensor, z: Tensor, decay: float) -> Codebook:
    """The codebook after an update: exponential means of what chose each code (van den Oord et al., 2017).

    Args:
        chosen: (R,) code of each vector.
        z: (R, D) vectors.
        decay: weight of what was.
    """
    V = len(book.codes)
    count = torch.bincount(chosen, minlength=V).to(z.dtype)
    total = torch.zeros_like(book.sums).index_add_(0, chosen, z)
    counts = decay * book.counts + (1 - decay) * count
    sums = decay * book.sums + (1 - decay) * total
    n = counts.sum()
    smoothed = (counts + EPS) / (n + V * EPS) * n
    return Codebook(sums / smoothed[:, None], counts, sums)


def revived(book: Codebook, dead: Tensor, vectors: Tensor) -> Codebook:
    """The codebook with ``dead`` (V,) codes put where ``vectors`` (V, D) are, as if one had chosen each."""
    return Codebook(
        torch.where(dead[:, None], vectors, book.codes),
        book.counts.masked_fill(dead, 1.0),
        torch.where(dead[:, None], vectors, book.sums),
    )


@TOKENIZERS.register("vq")
class VQTokenizer(Tokenizer):
    """Auto-encoder with a learnt codebook that all tokens share (van den Oord et al., 2017)."""

    class Config(PartConfig):
        tokens: int = Field(16, ge=1, description="K, tokens of an observation")
        codes: int = Field(512, ge=2, description="V, codes of the codebook")
        code_dim: int = Field(128, ge=1, description="D, width of a code")
        hidden_width: int = Field(256, ge=1, description="width of the two hidden layers, each way")
        decay: float = Field(0.8, ge=0, lt=1, description="of the codebook's running means")
        commitment: float = Field(
            10.0, ge=0, description="weight of the distance from what is encoded to its code"
        )
        revive: bool = Field(
            True, description="codes that nothing chooses take the place of encoded vectors"
        )
        initial_count: float = Field(
            1.0,
            ge=0,
            description="vectors a code stands for at first; 0, as published, throws unused codes far out",
        )

    codes: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, config: Config, spec: EnvSpec, *, seed: int, device: torch.device) -> None:
        super().__init__(spec, config.tokens, config.codes)
        self._config = config
        K, V, D, H = config.tokens, config.codes, config.code_dim, config.hidden_width
        self.encoder = layers([spec.obs_dim, H, H, K * D])
        self.decoder = layers([K * D, H, H, spec.obs_dim])
        bound = (6 / (V * D)) ** 0.5
        self.register_buffer("codes", torch.empty(V, D).uniform_(-bound, bound))
        self.register_buffer("counts", torch.full((V,), config.initial_count))
        self.register_buffer("sums", self.codes * (config.initial_count or 1.0))
        self._generator = named_generator(seed, "codebook", device)

    def encode(self, obs: Tensor) -> Tensor:
        """See :meth:`Tokenizer.encode`."""
        z = self._vectors(obs)
        return nearest(self.codes, z.flatten(0, -2)).view(z.shape[:-1])

    def reconstruct(self, codes: Tensor) -> Tensor:
        """See :meth:`Tokenizer.reconstruct`."""
        obs: Tensor = self.decoder(self.codes[codes].flatten(-2))
        return obs

    def losses(self, obs: Tensor) -> TokenizerOutput:
        """Error of the reconstruction, and distance to the codes; the codebook moves in training mode."""
        z = self._vectors(obs)
        vectors = z.detach().flatten(0, -2)
        chosen = nearest(self.codes, vectors)
        quantised = self.codes[chosen].view_as(z)
        error = (self.decoder(straight_through(z, quantised).flatten(-2)) - obs).abs().mean()
        commitment = self._config.commitment * (quantised - z).square().mean()
        dead = self._move(chosen, vectors) if self.training else self.dead
        return TokenizerOutput(
            {"reconstruction": error, "commitment": commitment},
            {"dead_codes": dead.sum().to(error.dtype), "reconstruction_error": error.detach()},
        )

    @torch.no_grad()
    def _move(self, chosen: Tensor, vectors: Tensor) -> Tensor:
        """Learn from the vectors (R, D) that chose codes (R,); which codes (V,) were dead."""
        self.note(chosen)
        dead = self.dead
        book = moved(
            Codebook(self.codes, self.counts, self.sums), chosen, vectors, self._config.decay
        )
        missed = (vectors - self.codes[chosen]).square().sum(dim=1)
        if self._config.revive and dead.any() and missed.sum() > 0:
            # Where the codes miss most there is most to gain (Arthur and Vassilvitskii, 2007).
            drawn = missed.multinomial(len(dead), replacement=True, generator=self._generator)
            book = revived(book, dead, vectors[drawn])
            self.unused_for.masked_fill_(dead, 0)
        for name, value in book._asdict().items():
            getattr(self, name).copy_(value)
        return dead

    def _vectors(self, obs: Tensor) -> Tensor:
        """(..., K, D) of observations (..., O)."""
        z: Tensor = self.encoder(obs)
        return z.view(*z.shape[:-1], self.tokens, -1)

    def get_extra_state(self) -> dict[str, Any]:
        """The generator's state belongs to what a checkpoint holds."""
        return {"generator": self._generator.get_state()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Undo :meth:`get_extra_state`."""
        self._generator.set_state(state["generator"].cpu())
