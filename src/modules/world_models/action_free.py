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
from ..layers.vae import TransitionVAE
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
        self.prior = TransitionVAE(joint_dim, settings.vae_hidden_dim) if settings.prior else None
        self.aggregate = nn.Linear(settings.stacked_dim, settings.rollout_dim)

    def forward(
        self, obs: Tensor, operators: Operators, packing: Packing, draw: Draw, learn: bool
    ) -> BranchOutput:
        """Context for obs (P, N, O), and losses if the branch is to ``learn`` from these entries."""
        posterior, latent = self.scan(obs, operators, packing, draw)
        state = latent.flatten(1)
        states, prior, rec = [state], None, torch.zeros_like(obs[0, 0, 0])
        if self.prior is not None:
            # p(v_t+1 | v_t) from every entry serves twice: as the prior of the entry after it, and as
            # the first imagined step.
            following = self.prior.encode(state)
            first = ahead = following.sample(draw(state.shape))
            for step in range(self.settings.horizon):
                states.append(ahead)
                if step + 1 < self.settings.horizon:
                    ahead = self.prior.encode(ahead).sample(draw(state.shape))
            if learn:
                start = self.prior.encode(torch.zeros_like(state[:1]))
                pairs = zip(following, start, strict=True)
                prior = Gaussian(*(packing.shift(later, earliest) for later, earliest in pairs))
                rec = F.mse_loss(self.prior.decode(first), state.detach())
        context = self.settings.aggregate(self.aggregate, states)
        if not learn:
            return BranchOutput(context, {})

        decoded = self.autoencoder.decode_both(latent, operators)
        rec = rec + _mse_of_both(decoded, (packing.shift(latent).detach(), obs))
        return BranchOutput(
            context, {"kl": self.settings.kl_loss(joint(posterior), prior), "rec": rec}
        )

    def scan(
        self, obs: Tensor, operators: Operators, packing: Packing, draw: Draw
    ) -> tuple[Gaussian, Tensor]:
        """Posterior over (P, N, Z) and its samples (P, N, Z), step after step.

        The only part of the world model that time forces into a loop: all that does not depend on the
        latent is computed before it.
        """
        N, Z, sizes = self.settings.n_agents, self.settings.latent_dim, list(packing.sizes)
        projected = self.autoencoder.project(obs, operators)
        noise = draw(torch.Size((len(obs), N, Z)))
        latent = obs.new_zeros(sizes[0], N, Z)
        posteriors, latents = [], []
        # split, not slices: the gradient of a slice is a zeroed copy of the whole.
        parts = (torch.split(x, sizes) for x in (projected, operators.smooth, noise))
        for drive, smooth, epsilon in zip(*parts, strict=True):
            code = self.autoencoder.code(drive, smooth, latent[: len(drive)])
            posterior = Gaussian.of(code)
            latent = posterior.sample(epsilon)
            posteriors.append(posterior)
            latents.append(latent)
        means, logvars = zip(*posteriors, strict=True)
        return Gaussian(torch.cat(means), torch.cat(logvars)), torch.cat(latents)


def _mse_of_both(decoded: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor]) -> Tensor:
    """Mean squared error of two tensors laid side by side, without building them."""
    errors = [F.mse_loss(x, y, reduction="sum") for x, y in zip(decoded, target, strict=True)]
    return sum(errors, start=torch.zeros_like(errors[0])) / sum(x.numel() for x in decoded)
