"""What stays as it is: features of the observation (Wang and Meger, 2024, section 4)."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers.gala import GALA, Operators
from .branch import BranchOutput, BranchSettings


class Static(nn.Module):
    """Graph auto-encoder of the observations: no distribution, no prior, no time.

    Args:
        settings: shared by the branches. This branch has no posterior, so it keeps its graph when the
            others' posteriors go without.
        obs_dim: O.
    """

    def __init__(self, settings: BranchSettings, obs_dim: int) -> None:
        super().__init__()
        self.settings = settings
        Z = settings.latent_dim
        self.autoencoder = GALA(obs_dim, settings.gala_hidden_dim, Z, Z)
        self.aggregate = nn.Linear(settings.n_agents * obs_dim, settings.rollout_dim)

    def forward(self, obs: Tensor, operators: Operators, learn: bool) -> BranchOutput:
        """Context for obs (P, N, O), and loss if the branch is to ``learn`` from these entries."""
        hidden = self.autoencoder.expand(self.autoencoder.encode(obs, operators), operators)
        context = self._aggregate(hidden.detach() if self.settings.detach else hidden)
        if not learn:
            return BranchOutput(context, {})
        return BranchOutput(context, {"rec": F.mse_loss(self.autoencoder.fourth(hidden), obs)})

    def _aggregate(self, hidden: Tensor) -> Tensor:
        """``aggregate(fourth(hidden))`` over all agents at once, as one linear map (P, N, hidden) -> (P, C).

        The two maps are multiplied first, which is nothing next to reconstructing every observation.
        """
        last, stack = self.autoencoder.fourth, self.aggregate
        per_agent = rearrange(stack.weight, "c (n o) -> c n o", o=last.out_features)
        last_weight: Tensor = last.weight
        last_bias: Tensor = last.bias
        if self.settings.detach:
            last_weight, last_bias = last_weight.detach(), last_bias.detach()
        weight = rearrange(per_agent @ last_weight, "c n h -> c (n h)")
        bias = stack.bias + per_agent.sum(dim=1) @ last_bias
        return F.linear(hidden.flatten(1), weight, bias)
