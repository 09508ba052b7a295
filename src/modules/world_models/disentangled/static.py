"""What stays as it is: features of the observation (Wang and Meger, 2024, section 4)."""

from __future__ import annotations

from torch import Tensor, nn

from .branch import BranchSettings, Entries, ObservingBranch, aggregate
from .gala import GALA
from .scale import RunningVariance


class Static(ObservingBranch):
    """Graph auto-encoder of the observations: no distribution, no prior, no time.

    Args:
        settings: shared by the branches. This branch has no posterior, so it keeps its graph when the
            others' posteriors go without.
        obs_dim: O. hidden_dim: width of the hidden layers. latent_dim: code of one agent.
    """

    def __init__(
        self, settings: BranchSettings, obs_dim: int, hidden_dim: int, latent_dim: int
    ) -> None:
        super().__init__()
        self.autoencoder = GALA(
            obs_dim, hidden_dim, latent_dim, latent_dim, own_rows=settings.own_rows
        )
        width = self.autoencoder.fourth.in_features
        self.aggregate = nn.Linear(settings.n_agents * width, settings.rollout_dim)
        self.scale = RunningVariance()

    def imagine(self, obs: Tensor, entries: Entries) -> list[Tensor]:
        """What the reconstruction of obs (P, N, O) is made of, before the last weights; time adds nothing."""
        operators = entries.operators
        return self.autoencoder.expand(self.autoencoder.encode(obs, operators), operators)

    def losses(self, obs: Tensor, entries: Entries) -> dict[str, Tensor]:
        """``rec``: share of the variance of living agents' obs (P, N, O) that is lost."""
        return {"rec": self.scale.share(self.reconstruct(obs, entries), obs, entries.living)}

    def reconstruct(self, obs: Tensor, entries: Entries) -> Tensor:
        """(P, N, O) what is left of obs (P, N, O)."""
        operators = entries.operators
        return self.autoencoder.decode(self.autoencoder.encode(obs, operators), operators)

    def context(self, states: list[Tensor]) -> Tensor:
        """(P, C) from what :meth:`imagine` gives.

        Of what the reconstruction is made of, not of the reconstruction itself: whatever is linear in this is
        linear in that, which is narrower.
        """
        return aggregate(self.aggregate, [features.flatten(1) for features in states])
