"""What stays as it is: features of the observation (Wang and Meger, 2024, section 4)."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .branch import BranchSettings, Entries
from .gala import GALA, Operators
from .scale import RunningVariance


class Static(nn.Module):
    """Graph auto-encoder of the observations: no distribution, no prior, no time.

    Args:
        settings: shared by the branches. This branch has no posterior, so it keeps its graph when the
            others' posteriors go without.
        obs_dim: O.
    """

    def __init__(self, settings: BranchSettings, obs_dim: int) -> None:
        super().__init__()
        Z = settings.latent_dim
        self.autoencoder = GALA(
            obs_dim, settings.gala_hidden_dim, Z, Z, own_rows=settings.own_rows
        )
        self.aggregate = nn.Linear(settings.n_agents * obs_dim, settings.rollout_dim)
        self.scale = RunningVariance()

    def features(self, obs: Tensor, operators: Operators) -> Tensor:
        """What the reconstruction of obs (P, N, O) is made of, before the last weights."""
        return self.autoencoder.expand(self.autoencoder.encode(obs, operators), operators)

    def losses(self, obs: Tensor, entries: Entries) -> dict[str, Tensor]:
        """``rec``: share of the variance of living agents' obs (P, N, O) that is lost."""
        guess = self.autoencoder.fourth(self.features(obs, entries.operators))
        return {"rec": self.scale.share(guess, obs, entries.living)}

    def context(self, features: Tensor, *, detach: bool) -> Tensor:
        """(P, C): ``aggregate(fourth(features))`` over all agents at once, as one linear map.

        The two maps are multiplied first, which is nothing next to reconstructing every observation.

        Args:
            features: (P, N, .) of :meth:`features`.
            detach: no gradient for the auto-encoder's weights.
        """
        last, stack = self.autoencoder.fourth, self.aggregate
        per_agent = rearrange(stack.weight, "c (n o) -> c n o", o=last.out_features)
        last_weight: Tensor = last.weight
        last_bias: Tensor = last.bias
        if detach:
            last_weight, last_bias = last_weight.detach(), last_bias.detach()
        weight = rearrange(per_agent @ last_weight, "c n h -> c (n h)")
        bias = stack.bias + per_agent.sum(dim=1) @ last_bias
        return F.linear(features.flatten(1), weight, bias)
