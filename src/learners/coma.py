"""COMA: each agent is judged against what its other actions would have been worth."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ..data.batch import EpisodeBatch
from ..envs.protocol import EnvSpec
from ..modules.critics.base import ActionCritic
from ..modules.layers.packing import Packing
from ..modules.mixers.base import of_actions
from ..modules.policies.actor import ActorPolicy
from ..registry import LEARNERS
from ..seeding import named_generator
from .base import Learner, frozen_copy
from .optimiser import OptimiserConfig, make_optimiser
from .targets import targets_of


def counterfactual_advantage(values: Tensor, probabilities: Tensor, actions: Tensor) -> Tensor:
    """``A_i = Q(u_i) - sum_a pi_i(a) Q(a)``, the others' actions fixed (Foerster et al., 2018, equation 4).

    Args:
        values: (..., A) of each action of an agent. probabilities: (..., A) of the policy that acted.
        actions: (...) int64, the one it took.

    Returns:
        (...).
    """
    return of_actions(values, actions) - (probabilities * values).sum(dim=-1)


@LEARNERS.register("coma")
class COMALearner(Learner):
    """Counterfactual multi-agent policy gradients (Foerster et al., 2018).

    One gradient step of the critic and one of the policy per batch. PyMARL's critic takes one per time step
    of the batch, backwards; its `target_update_interval` of 200 such steps is 3 to 4 batches on small maps.
    """

    class Config(OptimiserConfig):
        gamma: float = Field(0.99, ge=0, le=1, description="discount per environment step")
        td_lambda: float = Field(0.8, ge=0, le=1, description="decay of longer returns")
        critic_lr: float = Field(5e-4, gt=0, description="learning rate of the critic")
        target_update_interval: int = Field(
            4, ge=1, description="updates between copies to the target critic"
        )

    on_policy: ClassVar[bool] = True

    def __init__(
        self,
        config: Config,
        spec: EnvSpec,
        *,
        policy: ActorPolicy,
        critic: ActionCritic,
        seed: int,
        device: torch.device,
    ) -> None:
        super().__init__(device)
        self.config, self.spec = config, spec
        self.policy, self.critic = policy.to(device), critic.to(device)
        self.target_critic = frozen_copy(self.critic)
        self.modules = {"policy": policy, "critic": critic, "target_critic": self.target_critic}
        self.optimisers = [
            make_optimiser(config, policy.parameters(), config.lr),
            make_optimiser(config, critic.parameters(), config.critic_lr),
        ]
        self._generator = named_generator(seed, "learn", device)
        self.generators = {"following": self._generator}

    def update(self, batch: EpisodeBatch, t_env: int) -> dict[str, Tensor]:
        """One gradient step of critic and policy, by values of before the step."""
        # Rows of the entries that exist: M steps and the B entries after the last ones.
        packing = Packing.of(batch.lengths + 1, batch.max_t + 1, self.device)
        steps = packing.previous
        fields = (batch.obs, batch.state, batch.avail_actions, batch.last_actions)
        obs, state, avail, last_actions = (packing.pack(field) for field in fields)
        log_probs = packing.pack(self.policy.unroll(batch))  # (P, N, A)
        probabilities = log_probs.detach().exp() * avail
        taken = batch.actions.flatten(0, 1).index_select(0, packing.previous_step)  # (M, N)
        with torch.no_grad():
            # Nothing was done after the last step: there the policy says what it would do.
            actions = self.policy.draw(log_probs, avail, self._generator)  # (P, N)
            actions[steps] = taken
            values = self.target_critic(obs, state, actions, last_actions)
            following = of_actions(values, actions)[batch.batch_size :]  # (M, N)
            target = targets_of(batch, packing, following, self.config.gamma, self.config.td_lambda)

        seen = (obs[steps], state[steps], taken, last_actions[steps])
        q = self.critic(*seen)  # (M, N, A)
        q_taken = of_actions(q, taken)
        critic_loss = (q_taken - target).square().mean()

        advantage = counterfactual_advantage(q.detach(), probabilities[steps], taken)
        policy_loss = -(advantage * of_actions(log_probs[steps], taken)).mean()

        losses = {"policy": policy_loss, "value": critic_loss}
        loss = policy_loss + critic_loss  # they share no parameter
        norm = self.descend(loss, losses, self.optimisers, self.config.grad_norm_clip)
        if (self.n_updates + 1) % self.config.target_update_interval == 0:
            self.target_critic.load_state_dict(self.critic.state_dict())
        entropy = -(probabilities * log_probs.detach().masked_fill(~avail, 0.0)).sum(dim=-1)
        return {
            "loss": loss,
            **{f"loss_{name}": value for name, value in losses.items()},
            "grad_norm": norm,
            "td_error_abs": (q_taken - target).abs().mean(),
            "q_taken_mean": q_taken.mean(),
            "target_mean": target.mean(),
            "advantage_abs": advantage.abs().mean(),
            "entropy": entropy[steps].mean(),
        }
