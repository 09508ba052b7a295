"""Non-controllable dynamics: what happens whatever the team does (Wang and Meger, 2024, section 4).

Axes: P entries that exist, B episodes, N agents, O observation, Z latent per agent.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers.gala import Operators
from ..layers.gaussian import Gaussian
from ..layers.packing import Packing
from ..layers.vae import JointVAE
from .branch import BranchOutput, BranchSettings, Draw, joint


class ActionFree(nn.Module):
    """Posterior ``q(v_t | v_t-1, obs_t)``, prior ``p(v_t | v_t-1)`` and imagination by the prior.

    Choice: what is imagined, and aggregated, are the latents; stepping them needs the prior only. The graph
    of a moment comes from its observations alone, so that it is known before the scan.

    Args:
        settings: shared by the branches.
        obs_dim: O.
    """

    def __init__(self, settings: BranchSettings, obs_dim: int) -> None:
        super().__init__()
        self.settings = settings
        self.autoencoder = settings.autoencoder(obs_dim, recurrent=True)
        joint_dim = settings.joint_dim
        self.prior = (
            JointVAE(joint_dim, settings.vae_hidden_dim, joint_dim) if settings.prior else None
        )

    def forward(
        self, obs: Tensor, operators: Operators, packing: Packing, draw: Draw
    ) -> BranchOutput:
        """Losses, and the team's latents from now to the horizon, for obs (P, N, O)."""
        posterior, latent = self.scan(obs, operators, packing, draw)
        state = latent.flatten(1)
        before = packing.shift(latent)
        decoded_before, decoded_obs = self.autoencoder.decode_both(latent, operators)
        reconstruction = _mse_of_both(decoded_before, before.detach(), decoded_obs, obs)
        if self.prior is None:
            kl = self.settings.kl_loss(posterior, None)
            return BranchOutput(state, {"kl": kl, "rec": reconstruction})

        # p(v_t+1 | v_t) from every entry serves twice: as the prior of the entry after it, and as the
        # first imagined step.
        following = self.prior.encode(state)
        first = self.prior.encode(torch.zeros_like(state[:1]))
        prior = Gaussian(
            *(
                packing.shift(ahead, first=start)
                for ahead, start in zip(following, first, strict=True)
            )
        )
        kl = self.settings.kl_loss(joint(posterior), prior)
        states = [state]
        for step in range(self.settings.horizon):
            if step > 0:
                following = self.prior.encode(states[-1])
            states.append(following.sample(draw(state.shape)))
        ahead = states[1] if len(states) > 1 else following.sample(draw(state.shape))
        reconstruction = reconstruction + F.mse_loss(self.prior.decode(ahead), state.detach())
        return BranchOutput(torch.cat(states, dim=1), {"kl": kl, "rec": reconstruction})

    def scan(
        self, obs: Tensor, operators: Operators, packing: Packing, draw: Draw
    ) -> tuple[Gaussian, Tensor]:
        """Posterior over (P, N, Z) and its samples (P, N, Z), step after step.

        The only part of the world model that time forces into a loop: all that does not depend on the
        latent is computed before it.
        """
        N, Z, sizes = self.settings.n_agents, self.settings.latent_dim, list(packing.sizes)
        projected = self.autoencoder.project(obs, operators)
        noise = draw((obs.shape[0], N, Z))
        latent = obs.new_zeros(sizes[0], N, Z)
        means, logvars, latents = [], [], []
        # split, not slices: the gradient of a slice is a zeroed copy of the whole.
        parts = (torch.split(x, sizes) for x in (projected, operators.smooth, noise))
        for drive, smooth, epsilon in zip(*parts, strict=True):
            code = self.autoencoder.code(drive, smooth, latent[: drive.shape[0]])
            step = Gaussian.of(code)
            latent = step.sample(epsilon)
            means.append(step.mean)
            logvars.append(step.logvar)
            latents.append(latent)
        return Gaussian(torch.cat(means), torch.cat(logvars)), torch.cat(latents)


def _mse_of_both(a: Tensor, a_target: Tensor, b: Tensor, b_target: Tensor) -> Tensor:
    """Mean squared error of the concatenation of a and b, without building it."""
    return (F.mse_loss(a, a_target) * a.shape[-1] + F.mse_loss(b, b_target) * b.shape[-1]) / (
        a.shape[-1] + b.shape[-1]
    )
