"""Q-learning on whole episodes: IQL, VDN, QMIX and, with a world model, VDFD."""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ..data.batch import EpisodeBatch
from ..envs.protocol import EnvSpec
from ..modules.layers.packing import Packing
from ..modules.policies.value import ValuePolicy
from ..modules.world_models.base import WorldModel, weighted_sum
from ..registry import LEARNERS, PartConfig
from .sums import MetricSums


def td_target(reward: Tensor, terminated: Tensor, next_value: Tensor, gamma: float) -> Tensor:
    """One-step target ``r + gamma * V(next)``, nothing beyond the end of the task.

    A step that only the clock stopped (truncated, not terminated) is followed by a value like any other.

    Args:
        reward: (M,). terminated: (M,) bool. next_value: (M, K), K = 1 for a team value, N without mixing.

    Returns:
        (M, K).
    """
    return reward[:, None] + gamma * next_value.masked_fill(terminated[:, None], 0.0)


@LEARNERS.register("q_learner")
class QLearner:
    """Q-learning with target networks on the mixed value of the team (PyMARL's q_learner)."""

    on_policy: ClassVar[bool] = False

    class Config(PartConfig):
        gamma: float = Field(0.99, ge=0, le=1, description="discount per environment step")
        lr: float = Field(5e-4, gt=0, description="learning rate")
        optim: Literal["rmsprop", "adam"] = Field("rmsprop", description="optimiser")
        optim_alpha: float = Field(0.99, ge=0, lt=1, description="smoothing of RMSprop")
        optim_eps: float = Field(1e-5, gt=0, description="term that keeps the optimiser stable")
        grad_norm_clip: float = Field(10.0, gt=0, description="largest norm of the whole gradient")
        double_q: bool = Field(
            True, description="the online network chooses the action the target network values"
        )
        target_update_interval: int = Field(
            200, ge=1, description="gradient updates between copies to the target networks"
        )

    def __init__(
        self,
        config: Config,
        spec: EnvSpec,
        *,
        policy: ValuePolicy,
        mixer: nn.Module,
        world_model: WorldModel,
        device: torch.device,
    ) -> None:
        self.config, self.spec, self.device = config, spec, device
        self.policy = policy.to(device)
        self.mixer = mixer.to(device)
        self.world_model = world_model.to(device)
        self.target_agent = copy.deepcopy(self.policy.agent).requires_grad_(False)
        self.target_mixer = copy.deepcopy(self.mixer).requires_grad_(False)
        self.parameters = [
            p for part in (self.policy, self.mixer, self.world_model) for p in part.parameters()
        ]
        self.optimiser = _optimiser(config, self.parameters)
        self.n_updates = 0
        self._metrics = MetricSums()

    def learn(self, batch: EpisodeBatch, t_env: int) -> dict[str, Tensor]:
        """One gradient update.

        Returns:
            Metrics of this update as scalars on the device. Reading them waits for the device, so
            training only adds them up; :meth:`metrics` gives their means.
        """
        # Rows of the entries that exist: P = M + B, for M steps and the B entries after the last ones.
        packing = Packing.of(batch.lengths + 1, batch.max_t + 1, self.device)
        before, after = packing.previous, slice(batch.batch_size, None)
        state = packing.pack(batch.state)  # (P, S)
        avail = packing.pack(batch.avail_actions)  # (P, N, A)
        actions, reward, terminated = (
            field.flatten(0, 1).index_select(0, packing.previous_step)  # (M, ...)
            for field in (batch.actions, batch.reward, batch.terminated)
        )

        unrolled = self.policy.unroll(batch)
        values = packing.pack(unrolled.values)  # (P, N, A)
        imagined = self.world_model(unrolled, batch, packing)
        context = imagined.context  # (P, C) or None

        chosen = values[before].gather(-1, actions[..., None]).squeeze(-1)  # (M, N)
        q_taken = self.mixer(chosen, state[before], None if context is None else context[before])

        with torch.no_grad():
            unrolled_target = self.policy.unroll(batch, agent=self.target_agent)
            target_values = packing.pack(unrolled_target.values)[after]
            judge = values.detach()[after] if self.config.double_q else target_values
            best = judge.masked_fill(~avail[after], -torch.inf).argmax(dim=-1, keepdim=True)
            # The target mixer sees the online world model's context: the world model has no target
            # copy, and a second pass would only repeat the one above.
            q_next = self.target_mixer(
                target_values.gather(-1, best).squeeze(-1),
                state[after],
                None if context is None else context.detach()[after],
            )
            target = td_target(reward, terminated, q_next, self.config.gamma)

        td_error = q_taken - target  # (M, 1), or (M, N) without mixing
        loss_td = td_error.square().mean()
        loss = loss_td + weighted_sum(imagined.losses, self.world_model.loss_weights)

        self.optimiser.zero_grad()
        loss.backward()
        grad_norm = nn.utils.clip_grad_norm_(self.parameters, self.config.grad_norm_clip)
        self.optimiser.step()
        self.n_updates += 1
        if self.n_updates % self.config.target_update_interval == 0:
            self._update_targets()

        # As in PyMARL, values are per agent: the team's value divided by N.
        per_agent = q_taken.shape[-1] / self.spec.n_agents
        metrics = {
            "loss": loss,
            "loss_td": loss_td,
            "grad_norm": grad_norm,
            "td_error_abs": td_error.abs().mean(),
            "q_taken_mean": q_taken.mean() * per_agent,
            "target_mean": target.mean() * per_agent,
            **{f"loss_{name}": value for name, value in imagined.losses.items()},
            **imagined.metrics,
        }
        return self._metrics.add(metrics)

    def metrics(self) -> dict[str, float]:
        """Means over the updates since the last call."""
        return self._metrics.means()

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue bit for bit."""
        return {
            "policy": self.policy.state_dict(),
            "mixer": self.mixer.state_dict(),
            "world_model": self.world_model.state_dict(),
            "target_agent": self.target_agent.state_dict(),
            "target_mixer": self.target_mixer.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "n_updates": self.n_updates,
            "metrics": self._metrics.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state_dict`."""
        for name in ("policy", "mixer", "world_model", "target_agent", "target_mixer", "optimiser"):
            getattr(self, name).load_state_dict(state[name])
        self.n_updates = state["n_updates"]
        self._metrics.load_state_dict(state["metrics"], self.device)

    def _update_targets(self) -> None:
        self.target_agent.load_state_dict(self.policy.agent.state_dict())
        self.target_mixer.load_state_dict(self.mixer.state_dict())


def _optimiser(config: QLearner.Config, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    if config.optim == "adam":
        return torch.optim.Adam(parameters, lr=config.lr, eps=config.optim_eps)
    return torch.optim.RMSprop(
        parameters, lr=config.lr, alpha=config.optim_alpha, eps=config.optim_eps
    )
