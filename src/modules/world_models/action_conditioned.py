"""Controllable dynamics: what the team's actions bring about (Wang and Meger, 2024, section 4).

Axes: P entries that exist, B episodes, N agents, H agent hidden, A actions, Z latent per agent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers.gala import Operators
from ..layers.gaussian import Gaussian
from ..layers.one_hot import one_hot_actions
from ..layers.packing import Packing
from ..layers.vae import TransitionVAE
from .branch import BranchOutput, BranchSettings, Draw, joint


def imagined_actions(
    values: Tensor, avail: Tensor | None, temperature: float, kind: Literal["soft", "hard"]
) -> Tensor:
    """Actions (P, N, A) an agent would take, as far as it knows, so that gradients reach its values.

    Args:
        values: (P, N, A) action values.
        avail: (P, N, A) bool where the mask is known.
        kind: softmax of the values, or their maximum with the softmax's gradient.
    """
    if avail is not None:
        # The lowest number instead of -inf: an agent without any action gets a uniform choice, not NaN.
        values = values.masked_fill(~avail, torch.finfo(values.dtype).min)
    soft = torch.softmax(values / temperature, dim=-1)
    if kind == "soft":
        return soft
    best = F.one_hot(soft.argmax(dim=-1), soft.shape[-1]).to(soft.dtype)
    return best + soft - soft.detach()


class ActionConditioned(nn.Module):
    """Posterior ``q(s_t | h_t)``, prior ``p(s_t | s_t-1, a_t-1)`` and imagination with own actions.

    Nothing here is recurrent over time: all entries are worked on at once.

    Args:
        settings: shared by the branches.
        hidden_dim: H of the agent.
        n_actions: A.
        head: the agent's map from hidden states to action values.
        temperature: of the softmax over values.
        kind: of imagined action.
    """

    def __init__(
        self,
        settings: BranchSettings,
        hidden_dim: int,
        n_actions: int,
        head: Callable[[Tensor], Tensor],
        temperature: float,
        kind: Literal["soft", "hard"],
    ) -> None:
        super().__init__()
        self.settings, self.n_actions = settings, n_actions
        # A bound method, not a module: the agent's weights belong to the policy.
        self._head, self._temperature, self._kind = head, temperature, kind
        self.autoencoder = settings.autoencoder(hidden_dim)
        joint_dim = settings.joint_dim
        self.prior = (
            TransitionVAE(joint_dim, settings.vae_hidden_dim, settings.n_agents * n_actions)
            if settings.prior
            else None
        )
        self.aggregate = nn.Linear(settings.stacked_dim, settings.rollout_dim)

    def forward(
        self,
        hidden: Tensor,
        values: Tensor,
        avail: Tensor,
        last_actions: Tensor,
        operators: Operators,
        packing: Packing,
        draw: Draw,
        learn: bool,
    ) -> BranchOutput:
        """Context, and losses if the branch is to ``learn`` from these entries.

        Args:
            hidden: (P, N, H). values: (P, N, A). avail: (P, N, A) bool.
            last_actions: (P, N) int64, action that led to each entry plus one, 0 where there was none.
        """
        posterior = self.posterior(hidden, operators)
        latent = posterior.sample(draw(posterior.mean.shape))
        state = latent.flatten(1)
        states = [state]
        if self.prior is not None:
            states = self.imagine(state, values, avail, operators, draw)
        context = self.settings.aggregate(self.aggregate, states)
        if not learn:
            return BranchOutput(context, {})

        # Reconstruction targets are detached: chasing them would be easiest with hidden states of zero.
        rec = F.mse_loss(self.autoencoder.decode(latent, operators), hidden.detach())
        prior = None
        if self.prior is not None:
            before = packing.shift(state)
            taken = one_hot_actions(last_actions, self.n_actions).flatten(1)
            prior = self.transition(before, taken)
            decoded_state, decoded_action = torch.split(
                self.prior.decode(prior.sample(draw(prior.mean.shape))),
                [before.shape[1], taken.shape[1]],
                dim=1,
            )
            rec = rec + F.mse_loss(decoded_state, before.detach())
            rec = rec + F.mse_loss(decoded_action, taken)
        return BranchOutput(
            context, {"kl": self.settings.kl_loss(joint(posterior), prior), "rec": rec}
        )

    def posterior(self, hidden: Tensor, operators: Operators) -> Gaussian:
        """``q(s_t | h_t)`` over (P, N, Z) for hidden (P, N, H)."""
        return Gaussian.of(self.autoencoder.encode(hidden, operators))

    def transition(self, state: Tensor, actions: Tensor) -> Gaussian:
        """``p(s_t+1 | s_t, a_t)`` over (P, N Z) for a joint latent (P, N Z) and action (P, N A)."""
        assert self.prior is not None, "this branch was built without a prior"
        return self.prior.encode(state, actions)

    def imagine(
        self, state: Tensor, values: Tensor, avail: Tensor, operators: Operators, draw: Draw
    ) -> list[Tensor]:
        """Joint latents (P, N Z) at the steps 0 .. horizon from every entry at once.

        The first action follows the real values under the real mask; later ones the values of decoded
        hidden states, whose mask nobody knows. The graph stays that of the start (choice).
        """
        states = [state]
        mask: Tensor | None = avail
        for step in range(self.settings.horizon):
            if step > 0:
                latent = state.view(-1, self.settings.n_agents, self.settings.latent_dim)
                values, mask = self._head(self.autoencoder.decode(latent, operators)), None
            actions = imagined_actions(values, mask, self._temperature, self._kind)
            following = self.transition(state, actions.flatten(1))
            state = following.sample(draw(following.mean.shape))
            states.append(state)
        return states
