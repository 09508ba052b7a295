"""What stays as it is: features of the observation (Wang and Meger, 2024, section 4)."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .branch import BranchSettings, Entries, ObservingBranch
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
        self.aggregate = nn.Linear(settings.n_agents * obs_dim, settings.rollout_dim)
        self.scale = RunningVariance()

    def imagine(self, obs: Tensor, entries: Entries) -> list[Tensor]:
        """What the reconstruction of obs (P, N, O) is made of, before the last weights; time adds nothing."""
        return [self._features(obs, entries)]

    def losses(self, obs: Tensor, entries: Entries) -> dict[str, Tensor]:
        """``rec``: share of the variance of living agents' obs (P, N, O) that is lost."""
        return {"rec": self.scale.share(self.reconstruct(obs, entries), obs, entries.living)}

    def reconstruct(self, obs: Tensor, entries: Entries) -> Tensor:
        """(P, N, O) what is left of obs (P, N, O)."""
        guess: Tensor = self.autoencoder.fourth(self._features(obs, entries))
        return guess

    def context(self, states: list[Tensor]) -> Tensor:
        """(P, C): ``aggregate(fourth(features))`` over all agents at once, as one linear map.

        The two maps are multiplied first, which is nothing next to reconstructing every observation.

        Args:
            states: features (P, N, .) of :meth:`imagine`.
        """
        (features,) = states
        last, stack = self.autoencoder.fourth, self.aggregate
        per_agent = rearrange(stack.weight, "c (n o) -> c n o", o=last.out_features)
        last_weight: Tensor = last.weight
        last_bias: Tensor = last.bias
        if not features.requires_grad:  # the TD loss is kept out of the auto-encoder
            last_weight, last_bias = last_weight.detach(), last_bias.detach()
        weight = rearrange(per_agent @ last_weight, "c n h -> c (n h)")
        bias = stack.bias + per_agent.sum(dim=1) @ last_bias
        return F.linear(features.flatten(1), weight, bias)

    def _features(self, obs: Tensor, entries: Entries) -> Tensor:
        operators = entries.operators
        return self.autoencoder.expand(self.autoencoder.encode(obs, operators), operators)
