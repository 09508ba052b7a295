"""What the branches of the disentangled world model have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from ...layers.gaussian import Gaussian, balanced_kl, kl_divergence, kl_standard_normal
from ...layers.packing import Packing
from .gala import GALA, Operators
from .parts import linear_of_parts
from .scale import mean_over_living
from .vae import JointAutoEncoder, TransitionVAE

Draw = Callable[[torch.Size], Tensor]
"""Standard normal noise of a given shape, one row per entry."""


@dataclass(frozen=True)
class BranchSettings:
    """Sizes and options that branches share; meaning and ranges are in the world model's config."""

    n_agents: int
    latent_dim: int
    rollout_dim: int
    gala_hidden_dim: int
    vae_hidden_dim: int
    own_rows: bool
    posterior: Literal["gala", "vae"]
    prior: bool
    horizon: int
    kl_alpha: float | None
    detach_prior: bool
    residual: bool
    sample: bool

    @property
    def joint_dim(self) -> int:
        """N Z, length of the team's latent."""
        return self.n_agents * self.latent_dim

    @property
    def stacked_dim(self) -> int:
        """Length of the team's latents now and at every imagined step, end to end."""
        return self.joint_dim * (1 + self.horizon if self.prior else 1)

    def autoencoder(self, features: int, *, recurrent: bool = False) -> GALA | JointAutoEncoder:
        """The network of a posterior over node features of this length."""
        Z = self.latent_dim
        if self.posterior == "gala":
            return GALA(
                features,
                self.gala_hidden_dim,
                2 * Z,
                Z,
                recurrent=recurrent,
                own_rows=self.own_rows,
            )
        return JointAutoEncoder(
            self.n_agents, features, self.vae_hidden_dim, 2 * Z, Z, recurrent=recurrent
        )

    def of_agents(self, state: Tensor) -> Tensor:
        """Latents (R, N, Z) in a team's latent (R, N Z)."""
        return state.view(len(state), self.n_agents, self.latent_dim)

    def kl_loss(self, posterior: Gaussian, prior: Gaussian | None, living: Tensor | None) -> Tensor:
        """``KL(prior || N(0, I)) + KL(posterior || prior)``, the second balanced unless switched off.

        Averaged over entries, living agents and dimensions. Choice: without a prior network (ablation) the
        posterior is held by N(0, I) itself, as in an ordinary variational auto-encoder.

        Args:
            posterior: over (P, N Z). prior: over (P, N Z). living: (P, N) bool, or all.
        """
        if prior is None:
            divergence = kl_standard_normal(posterior)
        else:
            if self.kl_alpha is None:
                between = kl_divergence(posterior, prior)
            else:
                between = balanced_kl(posterior, prior, self.kl_alpha)
            divergence = kl_standard_normal(prior) + between
        return mean_over_living(self.of_agents(divergence), living)


class Entries(NamedTuple):
    """Entries of a batch that a branch looks at: what is the same for all branches.

    Axes: P entries, N agents.
    """

    operators: Operators  # (P, N, N)
    packing: Packing
    living: Tensor | None  # (P, N) bool, or all live
    draw: Draw


class Steps(NamedTuple):
    """Pairs of entries with one step between them, M of them."""

    before: Tensor  # (M,) row of the entry before
    after: slice  # rows of the entries after, in the same order
    operators: Operators  # (M, N, N) of the graph before
    living: Tensor | None  # (M, N) bool, who is alive after the step

    @classmethod
    def of(cls, entries: Entries) -> Steps:
        """All steps between the entries."""
        before = entries.packing.previous
        after = slice(entries.packing.sizes[0], None)
        return cls(
            before,
            after,
            Operators(*(operator[before] for operator in entries.operators)),
            None if entries.living is None else entries.living[after],
        )


class Branch(nn.Module, ABC):
    """A part of the dynamics with a share in what the mixer gets."""

    @abstractmethod
    def context(self, states: list[Tensor]) -> Tensor:
        """(P, C) from what the branch imagined."""


class ObservingBranch(Branch):
    """A branch that sees nothing but observations."""

    @abstractmethod
    def imagine(self, obs: Tensor, entries: Entries) -> list[Tensor]:
        """What :meth:`context` is made of, for obs (P, N, O)."""

    @abstractmethod
    def losses(self, obs: Tensor, entries: Entries) -> dict[str, Tensor]:
        """Scalars to learn from, by name, for obs (P, N, O)."""


def following(
    prior: TransitionVAE, state: Tensor, actions: Tensor | None, draw: Draw | None
) -> Tensor:
    """The team's next latent (P, N Z) as a prior sees it: a sample, or without ``draw`` its mean."""
    if draw is None:
        return prior.mean(state, actions)
    distribution = prior.encode(state, actions)
    return distribution.sample(draw(distribution.mean.shape))


def aggregate(linear: nn.Linear, states: list[Tensor]) -> Tensor:
    """Context (P, C) from the team's latents (P, N Z) at each step."""
    return linear_of_parts(linear, states)


class Noise:
    """Hands out standard normal noise for one batch, from a single draw.

    Drawing is slow on a CPU next to the networks that use it. Each call gets the same numbers moved on by
    a few rows, so within one row, where noises meet, all are different and independent; only different
    moments of the batch see the same numbers in different roles.

    Args:
        rows: P, most rows asked for at once.
        columns: numbers per row, the same in every draw.
        draws: most calls.
    """

    _STEP = 7  # rows between one draw and the next

    def __init__(self, rows: int, columns: int, draws: int, generator: torch.Generator) -> None:
        self._numbers = torch.randn(
            rows + draws * self._STEP, columns, device=generator.device, generator=generator
        )
        self._at = 0

    def __call__(self, shape: torch.Size) -> Tensor:
        """The next noise, of ``shape`` (rows, ...) with as many numbers per row as columns."""
        start, self._at = self._at, self._at + self._STEP
        return self._numbers[start : start + shape[0]].view(shape)


def joint(distribution: Gaussian) -> Gaussian:
    """Distribution of the team (P, N Z) from those of the agents (P, N, Z)."""
    return Gaussian(distribution.mean.flatten(1), distribution.logvar.flatten(1))
