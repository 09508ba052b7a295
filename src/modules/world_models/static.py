"""What stays as it is: features of the observation (Wang and Meger, 2024, section 4)."""

from __future__ import annotations

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
        Z = settings.latent_dim
        self.autoencoder = GALA(obs_dim, settings.gala_hidden_dim, Z, Z)

    def forward(self, obs: Tensor, operators: Operators) -> BranchOutput:
        """Loss and reconstruction (P, N O) for obs (P, N, O)."""
        code = self.autoencoder.encode(obs, operators)
        reconstruction = self.autoencoder.decode(code, operators)
        return BranchOutput(reconstruction.flatten(1), {"rec": F.mse_loss(reconstruction, obs)})
