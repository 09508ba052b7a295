"""What the Q-learning family shares: networks and their target copies, and what a batch says of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from ..data.batch import EpisodeBatch
from ..envs.protocol import EnvSpec
from ..modules.agents.base import AgentOutput
from ..modules.layers.packing import Packing
from ..modules.mixers.base import Choice, available
from ..modules.policies.value import ValuePolicy
from ..modules.world_models.base import WorldModel, WorldModelOutput
from .base import Learner, frozen_copies, frozen_copy
from .optimiser import OptimiserConfig, make_optimiser
from .sums import weighted_sum
from .targets import targets_of


def drift(target: Tensor, online: Tensor) -> Tensor:
    """Mean squared difference of ``target`` from ``online``, both (M, C), over the latter's variance.

    0 where nothing differs; 1 is what the mean of ``online`` in its place would make.
    """
    spread = (online - online.mean(dim=0)).square().mean()
    return (target - online).square().mean() / spread.clamp(min=torch.finfo(online.dtype).tiny)


def conservative_gap(values: Tensor, avail_actions: Tensor, q_taken: Tensor) -> Tensor:
    """How much more an agent's actions seem worth than the one it took (Kumar et al., 2020, equation 4).

    ``log sum_a exp Q(a) - Q(taken)`` over available actions, (..., N): never below 0, and small only where
    the taken action is the best one by far. Who has a single action left, as the dead have, has none of it.

    Args:
        values: (..., N, A). avail_actions: (..., N, A) bool. q_taken: (..., N).
    """
    return available(values, avail_actions).logsumexp(dim=-1) - q_taken


@dataclass(frozen=True)
class Gathered:
    """What the losses of one update read: the M steps of a batch, and the entries these led to.

    Rows are the steps that exist, in the order of :class:`~phalanx.modules.layers.packing.Packing`.
    """

    batch: EpisodeBatch
    packing: Packing
    values: Tensor  # (M, N, A) of the online agents at each step
    avail_actions: Tensor  # (M, N, A) bool
    state: Tensor  # (M, S)
    context: Tensor | None  # (M, C) of the world model
    taken: Choice  # (M, N) each, what was done
    next_state: Tensor  # (M, S)
    next_context: Tensor | None  # (M, C)
    next_choice: Choice  # (M, N) each, the greedy actions there, valued by the target agents
    imagined: WorldModelOutput
    unrolled: AgentOutput  # the online agents over the whole batch
    unrolled_target: AgentOutput

    @property
    def drift(self) -> dict[str, Tensor]:
        """How far the target networks' context is from the online one, as a share of its variance."""
        if self.next_context is None or self.imagined.context is None:
            return {}
        online = self.imagined.context.detach()[self.batch.batch_size :]
        return {"context_drift": drift(self.next_context, online)}

    @property
    def hidden(self) -> Tensor:
        """(M, N, H) what the online agents remember at each step."""
        return self.packing.pack(self.unrolled.hidden)[self.packing.previous]

    @property
    def next_hidden(self) -> Tensor:
        """(M, N, H) what the target agents remember after each step."""
        return self.packing.pack(self.unrolled_target.hidden)[self.batch.batch_size :]

    @cached_property
    def greedy(self) -> Choice:
        """(M, N) each: what the online agents would do at each step."""
        actions = available(self.values.detach(), self.avail_actions).argmax(dim=-1)
        return Choice.of(self.values, self.avail_actions, actions)


class QConfig(OptimiserConfig):
    """Keys of all learners of the family."""

    gamma: float = Field(0.99, ge=0, le=1, description="discount per environment step")
    td_lambda: float = Field(
        0.0, ge=0, le=1, description="decay of longer returns in the target; 0: one step"
    )
    cql_alpha: float = Field(
        0.0,
        ge=0,
        description="weight of what keeps actions that the data lack from seeming better, for learning from "
        "a dataset (CQL); 0: none",
    )
    world_model_lr: float | None = Field(
        None, gt=0, description="learning rate of the world model; null: lr"
    )
    double_q: bool = Field(
        True, description="the online network chooses the action the target network values"
    )
    target_update_interval: int = Field(
        200, ge=1, description="gradient updates between copies to the target networks"
    )


class ValueBasedLearner(Learner):
    """Learning of action values with target networks, from a replay.

    A learning rule says what it compares in :meth:`losses`, and what networks it has of its own in
    :meth:`own_modules`.
    """

    Config = QConfig

    on_policy: ClassVar[bool] = False

    def __init__(
        self,
        config: QConfig,
        spec: EnvSpec,
        policy: ValuePolicy,
        mixer: nn.Module,
        world_model: WorldModel,
        device: torch.device,
    ) -> None:
        super().__init__(device)
        self.config, self.spec = config, spec
        self.policy = policy.to(device)
        self.mixer = mixer.to(device)
        world_model = self.world_model = world_model.for_learner().to(device)
        self.own = {name: module.to(device) for name, module in self.own_modules().items()}
        trained = {"policy": policy, "mixer": mixer, "world_model": world_model, **self.own}
        self.parameters = [
            p for module in (policy, mixer, *self.own.values()) for p in module.parameters()
        ]
        self.optimisers = [make_optimiser(config, self.parameters, config.lr)]
        # A world model's losses are of another size than the TD loss: its gradient is clipped apart.
        model_parameters = list(world_model.parameters())
        if model_parameters:
            lr = config.world_model_lr or config.lr
            self.optimisers.append(make_optimiser(config, model_parameters, lr))
        # Copied together: what the world model knows of the agent becomes the copy of the agent.
        self.target_agent, self.target_mixer, self.target_world_model = frozen_copies(
            self.policy.agent, self.mixer, self.world_model
        )
        self.target_own = {name: frozen_copy(module) for name, module in self.own.items()}
        self.modules = {
            **trained,
            "target_agent": self.target_agent,
            "target_mixer": self.target_mixer,
            "target_world_model": self.target_world_model,
            **{f"target_{name}": module for name, module in self.target_own.items()},
        }

    def own_modules(self) -> dict[str, nn.Module]:
        """Networks the learner trains besides the run's parts; each gets a target copy."""
        return {}

    def update(self, batch: EpisodeBatch, t_env: int) -> dict[str, Tensor]:
        """One gradient update, and now and then one of the target networks."""
        gathered = self.gather(batch)
        losses, metrics = self.losses(gathered)
        weights = dict(self.loss_weights)
        if self.config.cql_alpha:
            gap = conservative_gap(gathered.values, gathered.avail_actions, gathered.taken.q)
            losses["cql"], weights["cql"] = gap.mean(), self.config.cql_alpha
        imagined = gathered.imagined
        loss = torch.as_tensor(
            weighted_sum(losses, weights)
            + weighted_sum(imagined.losses, self.world_model.loss_weights)
        )
        parts = {**losses, **imagined.losses}
        grad_norm = self.descend(loss, parts, self.optimisers, self.config.grad_norm_clip)
        if (self.n_updates + 1) % self.config.target_update_interval == 0:
            self._update_targets()
        return {
            "loss": loss,
            "grad_norm": grad_norm,
            **metrics,
            **{f"loss_{name}": value for name, value in parts.items()},
            **imagined.metrics,
            **gathered.drift,
        }

    def gather(self, batch: EpisodeBatch) -> Gathered:
        """Run the networks over ``batch`` and pick what belongs to its steps."""
        # Rows of the entries that exist: P = M + B, for M steps and the B entries after the last ones.
        packing = Packing.of(batch.lengths + 1, batch.max_t + 1, self.device)
        before, after = packing.previous, slice(batch.batch_size, None)
        state = packing.pack(batch.state)  # (P, S)
        avail = packing.pack(batch.avail_actions)  # (P, N, A)
        actions = batch.actions.flatten(0, 1).index_select(0, packing.previous_step)  # (M, N)

        unrolled = self.policy.unroll(batch)
        values = packing.pack(unrolled.values)  # (P, N, A)
        imagined = self.world_model(unrolled, batch, packing)
        context = imagined.context  # (P, C) or None

        with torch.no_grad():
            unrolled_target = self.policy.unroll(batch, agent=self.target_agent)
            target_values = packing.pack(unrolled_target.values)[after]
            judge = values[after] if self.config.double_q else target_values
            best = available(judge, avail[after]).argmax(dim=-1)
            next_choice = Choice.of(target_values, avail[after], best)
            target_context = self.target_world_model.context(
                unrolled_target, batch, packing, imagined
            )

        values = values[before]
        return Gathered(
            batch=batch,
            packing=packing,
            values=values,
            avail_actions=avail[before],
            state=state[before],
            context=None if context is None else context[before],
            taken=Choice.of(values, avail[before], actions),
            next_state=state[after],
            next_context=None if target_context is None else target_context[after],
            next_choice=next_choice,
            imagined=imagined,
            unrolled=unrolled,
            unrolled_target=unrolled_target,
        )

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """Weight of each of :meth:`losses` in the total, by name."""
        return {"td": 1.0}

    @abstractmethod
    def losses(self, g: Gathered) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Scalars to descend, by name, and metrics."""

    def target(self, g: Gathered, next_value: Tensor) -> Tensor:
        """(M, K) what the values of the steps are compared with; ``next_value`` (M, K) follows them."""
        return targets_of(g.batch, g.packing, next_value, self.config.gamma, self.config.td_lambda)

    def describe(self, q_taken: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Metrics of values (M, K) and targets (M, K)."""
        # As in PyMARL, values are per agent: the team's value divided by N.
        per_agent = q_taken.shape[-1] / self.spec.n_agents
        return {
            "td_error_abs": (q_taken - target).abs().mean(),
            "q_taken_mean": q_taken.mean() * per_agent,
            "target_mean": target.mean() * per_agent,
        }

    def _update_targets(self) -> None:
        self.target_agent.load_state_dict(self.policy.agent.state_dict())
        self.target_mixer.load_state_dict(self.mixer.state_dict())
        self.target_world_model.load_state_dict(self.world_model.state_dict())
        for name, module in self.own.items():
            self.target_own[name].load_state_dict(module.state_dict())
