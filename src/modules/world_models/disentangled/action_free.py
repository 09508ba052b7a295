"""Non-controllable dynamics: what happens whatever the team does (Wang and Meger, 2024, section 4).

Axes: P entries that exist, M steps between them, N agents, O observation, Z latent per agent.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...layers.gaussian import Gaussian
from .branch import (
    BranchSettings,
    Draw,
    Entries,
    ObservingBranch,
    Steps,
    aggregate,
    following,
    joint,
)
from .gala import Operators
from .scale import RunningVariance
from .vae import TransitionVAE


class ActionFree(ObservingBranch):
    """Posterior ``q(v_t | v_t-1, obs_t)``, prior ``p(v_t | v_t-1)`` and imagination by the prior.

    Choice: what is imagined, and aggregated, are the latents; stepping them needs the prior only. The graph
    of a moment comes from its observations alone, so that it is known before the scan.

    Args:
        settings: shared by the branches.
        obs_dim: O.
        step: it also learns to predict one step ahead.
    """

    def __init__(self, settings: BranchSettings, obs_dim: int, *, step: bool) -> None:
        super().__init__()
        self.settings, self._step = settings, step
        self.autoencoder = settings.autoencoder(obs_dim, recurrent=True)
        joint_dim = settings.joint_dim
        self.prior = (
            TransitionVAE(joint_dim, settings.vae_hidden_dim, settings.n_agents)
            if settings.prior
            else None
        )
        self.aggregate = nn.Linear(settings.stacked_dim, settings.rollout_dim)
        self.obs_scale, self.change_scale = RunningVariance(), RunningVariance()
        self.state_scale = RunningVariance()

    def context(self, states: list[Tensor]) -> Tensor:
        """(P, C) from what :meth:`imagine` gives."""
        return aggregate(self.aggregate, states)

    def imagine(self, obs: Tensor, entries: Entries) -> list[Tensor]:
        """Joint latents (P, N Z) at the steps 0 .. horizon from every entry, for obs (P, N, O)."""
        draw = entries.draw if self.settings.sample else None
        _, latent = self.scan(obs, entries, draw)
        states = [latent.flatten(1)]
        for _ in range(self.settings.horizon if self.prior is not None else 0):
            assert self.prior is not None
            states.append(following(self.prior, states[-1], None, draw))
        return states

    def losses(self, obs: Tensor, entries: Entries) -> dict[str, Tensor]:
        """``kl``, ``rec`` and, where it learns that, ``step``, the error of predicting the next observation.

        Errors are shares of the variance of what they are errors of, over living agents. obs: (P, N, O).
        """
        operators, packing, living, draw = entries
        posterior, latent = self.scan(obs, entries, draw)
        state, of_agents = latent.flatten(1), self.settings.of_agents
        earlier = packing.shift(latent).detach()
        decoded_latent, decoded_obs = self.autoencoder.decode_both(latent, operators)
        rec = self.obs_scale.share(decoded_obs, obs, living)
        rec = rec + self.state_scale.share(decoded_latent, earlier, living)
        if self.prior is None:
            return {"kl": self.settings.kl_loss(joint(posterior), None, living), "rec": rec}
        before = packing.shift(state.detach() if self.settings.detach_prior else state)
        prior = self.prior.encode(before)
        decoded, _ = self.prior.decode(prior.sample(draw(prior.mean.shape)))
        rec = rec + self.state_scale.share(of_agents(decoded), earlier, living)
        losses = {"kl": self.settings.kl_loss(joint(posterior), prior, living), "rec": rec}
        if self._step:
            steps = Steps.of(entries)
            now, mean = obs[steps.before], posterior.mean[steps.before]
            guess = self.predict(now, mean, 1, steps.operators)
            losses["step"] = self.change_scale.share(guess, obs[steps.after] - now, steps.living)
        return losses

    def predict(self, obs: Tensor, mean: Tensor, steps: int, operators: Operators) -> Tensor:
        """How observations (M, N, O) change in some ``steps``, by the means of posterior and prior.

        Args:
            obs: (M, N, O). mean: (M, N, Z) of the posterior with them.
        """
        assert self.prior is not None, "this branch was built without a prior"
        state = mean.flatten(1)
        for _ in range(steps):
            state = following(self.prior, state, None, None)
        latent = self.settings.of_agents(state)
        if self.settings.residual:
            return self.autoencoder.decode_change(mean, latent, operators)
        return self.autoencoder.decode(latent, operators) - obs

    def scan(self, obs: Tensor, entries: Entries, draw: Draw | None) -> tuple[Gaussian, Tensor]:
        """Posterior over (P, N, Z), and its samples (P, N, Z) or without ``draw`` its means, step by step.

        The only part of the world model that time forces into a loop: all that does not depend on the
        latent is computed before it.
        """
        N, Z = self.settings.n_agents, self.settings.latent_dim
        projected = self.autoencoder.project(obs, entries.operators)
        noise = None if draw is None else draw(torch.Size((len(obs), N, Z)))
        return self.autoencoder.scan(projected, entries.operators.smooth, noise, entries.packing)
