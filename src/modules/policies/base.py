"""What runners and policy-gradient learners need of a policy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ...data.batch import EpisodeBatch
from ...data.chunks import Chunks, Cutting, alive_of
from ..layers.distributions import ActionDistribution


class Seen(NamedTuple):
    """All that a policy may look at before a team acts, in B copies of an environment.

    A policy takes what it needs; what another one needs later becomes a field and changes no signature.
    """

    obs: Tensor  # (B, N, O)
    state: Tensor  # (B, S)
    avail_actions: Tensor  # (B, N, A) bool
    alive: Tensor  # (B, N) bool, all true where the environment does not tell
    reward: Tensor  # (B,) of the step before, 0 at the start of an episode

    @classmethod
    def of(cls, batch: EpisodeBatch, t: int) -> Seen:
        """What was seen at entry ``t`` of each row; before the first one there is no reward."""
        reward = batch.reward[:, t - 1] if t else torch.zeros_like(batch.reward[:, 0])
        return cls(
            obs=batch.obs[:, t],
            state=batch.state[:, t],
            avail_actions=batch.avail_actions[:, t],
            alive=alive_of(batch)[:, t],
            reward=reward,
        )


class Condition(NamedTuple):
    """What an episode is played under, where a policy can be asked for something (a return).

    Attributes:
        name: as metrics have it, ``test_return_mean@20``.
        carry: what to put into the policy's carry at the start of the episode, numbers by name.
    """

    name: str = ""
    carry: Mapping[str, float] = MappingProxyType({})


class Policy(Protocol):
    """Acts for a team, step by step, with state carried from step to step.

    The carry is a dict of tensors whose leading axis is B; a runner restarts a row by writing into it what
    :meth:`init_carry` gives. A policy that can be asked for something may say in ``conditions``, a tuple of
    :class:`Condition`, what tests are to ask for; the first is what :meth:`init_carry` begins with.
    """

    def init_carry(
        self, batch_size: int, device: torch.device, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Carry at the start of B episodes; ``generator`` draws what is random in it."""
        ...

    def act(
        self,
        seen: Seen,
        carry: dict[str, Tensor],
        t_env: int,
        test_mode: bool,
        generator: torch.Generator,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Actions for what is ``seen``, and the next carry.

        They are (B, N) int64, or (B, N, D) float32 where continuous (A = 0).
        """
        ...

    def metrics(self, t_env: int) -> dict[str, float]:
        """What it reports of itself after ``t_env`` environment steps."""
        ...


class Proposal(NamedTuple):
    """What a policy would do, and how likely that was."""

    actions: Tensor  # (B, N) or (B, N, numbers), see EnvSpec.action_shape
    log_prob: Tensor  # (B, N, F)
    carry: dict[str, Tensor]  # what it remembers if that is done


class Decision(NamedTuple):
    """What a policy would do."""

    outputs: Tensor  # (B, N, K) what the distributions that the actions came from are read off
    actions: Tensor  # (B, N) or (B, N, numbers), see EnvSpec.action_shape
    carry: dict[str, Tensor]  # what it remembers if that is done


class Rows(NamedTuple):
    """All rows of a batch, ready to be evaluated."""

    cutting: Cutting
    start: dict[str, Tensor]  # (B, ...) carry before the first entry of each row
    chunks: Chunks


@dataclass(frozen=True)
class Evaluation:
    """What a stochastic policy says of steps that were taken; K chunks of C steps.

    F is 1 where actions are discrete and D, their dimensions, where they are continuous.

    Attributes:
        log_prob: (K, C, N, F) of the actions taken.
        entropy: (K, C, N, F) of the distributions they came from.
        outputs: (K, C, N, K') what these distributions are read off, see ``EnvSpec.policy_outputs``.
        carry: (K, C, ...) what the policy remembered before each step; None where it is too much to keep,
            and the policy learns through whole rows.
        values: (K, C, N) where the policy also values what it sees, in the critic's units.
        losses: what else the policy learns, scalars by name, weighted by its ``loss_weights``.
    """

    log_prob: Tensor
    entropy: Tensor
    outputs: Tensor
    carry: dict[str, Tensor] | None
    values: Tensor | None = None
    losses: Mapping[str, Tensor] = field(default_factory=dict)


class StochasticPolicy(nn.Module, ABC):
    """A policy that says how likely its actions were: what policy gradients need.

    Attributes:
        recurrent: it remembers earlier steps, so that steps must be evaluated in order.
        distribution: how its outputs are read.
        loss_weights: weight of each of its own losses in the total, by the loss's name.
        conditions: what tests ask of it, the first in training too; none where nothing can be asked.
        whole_rows: it can only be evaluated from the start of a row on; its evaluations have no carry.
        joint: what an agent does depends on what others do in the same step.
        reads_state: it looks at the state.
    """

    recurrent: bool
    distribution: ActionDistribution
    loss_weights: Mapping[str, float] = MappingProxyType({})
    conditions: tuple[Condition, ...] = ()
    whole_rows: ClassVar[bool] = False
    joint: bool = False
    reads_state: bool = False

    @abstractmethod
    def init_carry(
        self, batch_size: int, device: torch.device, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Carry at the start of B episodes; ``generator`` draws what is random in it."""

    def start_of(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """Carry (B, ...) before the first entry of each row: nothing, or what ``batch`` knows of it.

        A row may begin within an episode: a runner's has all that the policy had in mind, a window of
        stored episodes what follows from the data (see :class:`~phalanx.data.collate.Episodes`).
        """
        known = batch.carry or {}
        fresh = self.init_carry(batch.batch_size, batch.reward.device)
        return {name: known.get(name, nothing) for name, nothing in fresh.items()}

    def cut(self, batch: EpisodeBatch, steps: int) -> Cutting:
        """Chunks of ``batch`` that can be evaluated on their own.

        Args:
            steps: of a chunk where the policy remembers; without memory single steps do, and nothing is
                spent on padding.
        """
        if self.whole_rows:
            return Cutting.of(batch, batch.max_t)
        return Cutting.of(batch, steps if self.recurrent else 1)

    def rows_of(self, batch: EpisodeBatch) -> Rows:
        """All of ``batch``, each row from what stood before it."""
        cutting, start = self.cut(batch, batch.max_t), self.start_of(batch)
        begin = {name: value[:, None] for name, value in start.items()}
        return Rows(cutting, start, Chunks.of(batch, cutting, begin))

    @abstractmethod
    def act(
        self,
        seen: Seen,
        carry: dict[str, Tensor],
        t_env: int,
        test_mode: bool,
        generator: torch.Generator,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Actions for what is ``seen``, and the next carry, see :class:`Policy`."""

    def acted(self, t_env: int) -> None:
        """It, or a copy of it elsewhere, has acted in training: keep what evaluations must know of it."""

    @abstractmethod
    def decide(
        self,
        seen: Seen,
        carry: dict[str, Tensor],
        t_env: int,
        generator: torch.Generator | None,
    ) -> Decision:
        """What it would do about what is ``seen``; drawn, or the most likely without a ``generator``."""

    @torch.no_grad()
    def propose(
        self,
        seen: Seen,
        carry: dict[str, Tensor],
        t_env: int,
        generator: torch.Generator | None,
    ) -> Proposal:
        """What it would do about what is ``seen``, and how likely that was, see :meth:`decide`."""
        decided = self.decide(seen, carry, t_env, generator)
        log_prob, _ = self.distribution.log_prob(
            decided.outputs, seen.avail_actions, decided.actions
        )
        return Proposal(decided.actions, log_prob, decided.carry)

    @abstractmethod
    def evaluate(self, chunks: Chunks) -> Evaluation:
        """Log-probabilities, entropies and more of the steps in ``chunks``, in one parallel pass."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Its parameters for an optimiser; a group may have a rate and weight decay of its own."""
        return [{"params": list(self.parameters())}]

    def metrics(self, t_env: int) -> dict[str, float]:
        """Nothing to report."""
        return {}
