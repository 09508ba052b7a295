"""Controllable dynamics: what the team's actions bring about (Wang and Meger, 2024, section 4).

Axes: P entries that exist, M steps between them, N agents, H agent hidden, A actions, Z latent per agent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...layers.gaussian import Gaussian
from ...layers.one_hot import one_hot_actions
from .branch import Branch, BranchSettings, Entries, Steps, aggregate, following, joint
from .gala import Operators
from .scale import RunningVariance
from .vae import TransitionVAE


def imagined_actions(
    values: Tensor, avail: Tensor, temperature: float, kind: Literal["greedy", "soft"]
) -> Tensor:
    """Actions (P, N, A) an agent would take, as far as it knows, so that gradients reach its values.

    Args:
        values: (P, N, A) action values.
        avail: (P, N, A) bool; unavailable actions get nothing, an agent without any action a uniform choice.
        temperature: of the softmax, in units of the standard deviation of an agent's available values.
        kind: the softmax itself, or the best action with the softmax's gradient.
    """
    count = avail.sum(dim=-1, keepdim=True).clamp(min=1)
    known = values.detach().masked_fill(~avail, 0.0)
    mean = known.sum(dim=-1, keepdim=True) / count
    spread = ((known - mean) * avail).square().sum(dim=-1, keepdim=True).div(count).sqrt()
    # The lowest number instead of -inf: an agent without any action gets a uniform choice, not NaN.
    values = values / (temperature * spread.clamp(min=1e-6))
    soft = torch.softmax(values.masked_fill(~avail, torch.finfo(values.dtype).min), dim=-1)
    if kind == "soft":
        return soft
    best = F.one_hot(soft.argmax(dim=-1), soft.shape[-1]).to(soft.dtype)
    return best + soft - soft.detach()


def shuffled_actions(actions: Tensor, living: Tensor | None, generator: torch.Generator) -> Tensor:
    """Actions (M, N) exchanged between the moments in which their agent lives, at random.

    What a model that knows the actions predicts with these is what it would predict if it did not use them.
    """
    keys = torch.rand(actions.shape, generator=generator, device=generator.device).to(
        actions.device
    )
    if living is None:
        return actions.gather(0, keys.argsort(dim=0))
    # Both orders have the living first, so the k-th of one is exchanged with the k-th of the other.
    dead = (~living).to(keys.dtype)
    order = (keys + 2 * dead).argsort(dim=0)
    places = dead.argsort(dim=0, stable=True)
    return actions.scatter(0, places, actions.gather(0, order))


class ActionConditioned(Branch):
    """Posterior ``q(s_t | h_t)``, prior ``p(s_t | s_t-1, a_t-1)`` and imagination with own actions.

    Nothing here is recurrent over time: all entries are worked on at once.

    Args:
        settings: shared by the branches.
        hidden_dim: H of the agent.
        n_actions: A.
        head: the agent's map from hidden states to action values.
        temperature: of imagined actions.
        kind: of imagined action.
        step: it also learns to predict one step ahead.
    """

    def __init__(
        self,
        settings: BranchSettings,
        hidden_dim: int,
        n_actions: int,
        head: Callable[[Tensor], Tensor],
        temperature: float,
        kind: Literal["greedy", "soft"],
        *,
        step: bool,
    ) -> None:
        super().__init__()
        self.settings, self.n_actions, self._step = settings, n_actions, step
        # A bound method, not a module: the agent's weights belong to the policy.
        self._head, self._temperature, self._kind = head, temperature, kind
        self.autoencoder = settings.autoencoder(hidden_dim)
        joint_dim = settings.joint_dim
        self.prior = (
            TransitionVAE(joint_dim, settings.vae_hidden_dim, settings.n_agents, n_actions)
            if settings.prior
            else None
        )
        self.aggregate = nn.Linear(settings.stacked_dim, settings.rollout_dim)
        self.hidden_scale, self.change_scale = RunningVariance(), RunningVariance()
        self.state_scale, self.action_scale = RunningVariance(), RunningVariance()

    def posterior(self, hidden: Tensor, operators: Operators) -> Gaussian:
        """``q(s_t | h_t)`` over (P, N, Z) for hidden (P, N, H)."""
        return Gaussian.of(self.autoencoder.encode(hidden, operators))

    def transition(self, state: Tensor, actions: Tensor) -> Gaussian:
        """``p(s_t+1 | s_t, a_t)`` over (P, N Z) for a joint latent (P, N Z) and actions.

        Args:
            actions: (P, N) int64, each plus one and 0 for none, or (P, N, A) shares.
        """
        assert self.prior is not None, "this branch was built without a prior"
        return self.prior.encode(state, actions)

    def context(self, states: list[Tensor]) -> Tensor:
        """(P, C) from what :meth:`imagine` gives."""
        return aggregate(self.aggregate, states)

    def imagine(
        self, hidden: Tensor, values: Tensor, avail: Tensor, entries: Entries
    ) -> tuple[list[Tensor], Tensor | None]:
        """Joint latents (P, N Z) at the steps 0 .. horizon from every entry at once, and the first actions.

        The first action (P, N, A) follows the real values; later ones the values of decoded hidden states.
        Choices: the graph and the mask stay those of the start, so the dead keep doing what the dead may do.

        Args:
            hidden: (P, N, H). values: (P, N, A). avail: (P, N, A) bool.
        """
        operators = entries.operators

        draw = entries.draw if self.settings.sample else None
        posterior = self.posterior(hidden, operators)
        latent = posterior.mean if draw is None else posterior.sample(draw(posterior.mean.shape))
        states, first = [latent.flatten(1)], None
        if self.prior is None:
            return states, first
        floor = torch.where(avail, 0.0, torch.finfo(values.dtype).min)
        known, zero = None, hidden.new_zeros(1, 1, 1)
        for step in range(self.settings.horizon):
            if step > 0:
                latent = self.settings.of_agents(states[-1])
                if (
                    self.settings.residual and known is None
                ):  # what the latent at the start leaves out
                    start = self.settings.of_agents(states[0])
                    known = hidden - self.autoencoder.decode(start, operators, zero)
                values = self._head(self.autoencoder.decode(latent, operators, known))
            if self._kind == "greedy" and not torch.is_grad_enabled():
                actions = (values + floor).argmax(dim=-1) + 1
            else:
                actions = imagined_actions(values, avail, self._temperature, self._kind)
            first = actions if first is None else first
            states.append(following(self.prior, states[-1], actions, draw))
        return states, first

    def losses(self, hidden: Tensor, last_actions: Tensor, entries: Entries) -> dict[str, Tensor]:
        """``kl``, ``rec`` and, where it learns that, ``step``, the error of predicting one step ahead.

        Errors are shares of the variance of what they are errors of, over living agents.

        Args:
            hidden: (P, N, H). last_actions: (P, N) int64, action that led to each entry plus one, 0 where
                there was none.
        """
        operators, packing, living, draw = entries
        posterior = self.posterior(hidden, operators)
        latent = posterior.sample(draw(posterior.mean.shape))
        # Reconstruction targets are detached: chasing them would be easiest with hidden states of zero.
        target = hidden.detach()
        rec = self.hidden_scale.share(self.autoencoder.decode(latent, operators), target, living)
        if self.prior is None:
            return {"kl": self.settings.kl_loss(joint(posterior), None, living), "rec": rec}
        state = latent.flatten(1)
        before = packing.shift(state.detach() if self.settings.detach_prior else state)
        taken = one_hot_actions(last_actions, self.n_actions)
        prior = self.transition(before, last_actions)
        decoded_state, decoded_action = self.prior.decode(prior.sample(draw(prior.mean.shape)))
        of_agents = self.settings.of_agents
        rec = rec + self.state_scale.share(
            of_agents(decoded_state), of_agents(before.detach()), living
        )
        rec = rec + self.action_scale.share(decoded_action, taken, living)
        losses = {"kl": self.settings.kl_loss(joint(posterior), prior, living), "rec": rec}
        if self._step:
            steps = Steps.of(entries)
            now, mean = target[steps.before], posterior.mean[steps.before]
            guess = self.predict(now, mean, [last_actions[steps.after]], steps.operators)
            losses["step"] = self.change_scale.share(guess, target[steps.after] - now, steps.living)
        return losses

    def predict(
        self, hidden: Tensor, mean: Tensor, actions: Sequence[Tensor], operators: Operators
    ) -> Tensor:
        """How hidden states (M, N, H) change by ``actions``, by the means of posterior and prior.

        Residual decoding (a deviation) takes the change of what the decoder makes of the latents; without it
        the decoder says what the hidden state will be.

        Args:
            hidden: (M, N, H) before the first action. mean: (M, N, Z) of its posterior.
            actions: (M, N) int64 each, plus one and 0 for none, one after the other.
        """
        assert self.prior is not None, "this branch was built without a prior"
        state = mean.flatten(1)
        for taken in actions:
            state = following(self.prior, state, taken, None)
        latent = self.settings.of_agents(state)
        if self.settings.residual:
            return self.autoencoder.decode_change(mean, latent, operators)
        return self.autoencoder.decode(latent, operators) - hidden
