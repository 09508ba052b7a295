"""What mixers, learners and whoever imagines need of a world model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ...data.batch import EpisodeBatch
from ..agents.base import AgentOutput
from ..layers.packing import Packing


@dataclass(frozen=True)
class WorldModelOutput:
    """What a world model makes of a batch.

    Attributes:
        context: (P, C) for every entry of ``Packing``, or None where C = 0.
        losses: scalars, already averaged over what they are losses of, by name.
        metrics: scalars without gradient.
        observed: what came of observations alone, for target networks that need not look again.
    """

    context: Tensor | None = None
    losses: dict[str, Tensor] = field(default_factory=dict)
    metrics: dict[str, Tensor] = field(default_factory=dict)
    observed: dict[str, list[Tensor]] = field(default_factory=dict)


class WorldModel(nn.Module, ABC):
    """Learned dynamics whose view of the future conditions the mixer. Acting never touches it.

    Attributes:
        trained_by: kind of the part that trains it and must therefore ask for it; None: the learner does.
        output_dim: C, width of the context.
        loss_weights: weight of each loss in the total, by the loss's name.
    """

    trained_by: ClassVar[str | None] = None
    output_dim: int
    loss_weights: Mapping[str, float]

    def for_learner(self) -> WorldModel:
        """What a learner of values has of it, to train and to copy."""
        return self

    @abstractmethod
    def forward(
        self, unrolled: AgentOutput, batch: EpisodeBatch, packing: Packing
    ) -> WorldModelOutput:
        """Look at a whole batch and learn from it.

        Args:
            unrolled: the online agent over the batch's T + 1 entries.
            packing: rows of the entries that exist.
        """

    @abstractmethod
    def context(
        self,
        unrolled: AgentOutput,
        batch: EpisodeBatch,
        packing: Packing,
        online: WorldModelOutput,
    ) -> Tensor | None:
        """The context (P, C) alone: what target networks ask their copy of the world model for.

        Args:
            unrolled: the target agent over the batch.
            online: what the online model made of it.
        """


class Contextless(WorldModel):
    """No view of the future for mixers, and nothing for a learner to train."""

    output_dim = 0
    loss_weights: Mapping[str, float] = {}

    def forward(
        self, unrolled: AgentOutput, batch: EpisodeBatch, packing: Packing
    ) -> WorldModelOutput:
        """Nothing to add."""
        return WorldModelOutput()

    def context(
        self,
        unrolled: AgentOutput,
        batch: EpisodeBatch,
        packing: Packing,
        online: WorldModelOutput,
    ) -> None:
        """Nothing to add."""


class Moment(NamedTuple):
    """What a simulator has follow a joint action."""

    codes: Tensor  # (B, N, K) int64 of the next observations
    avail_actions: Tensor  # (B, N, A) bool, for each agent at least one where there are any
    reward: Tensor  # (B,)
    terminated: Tensor  # (B,) bool


class Dream(ABC):
    """B rows that a simulator imagines, side by side."""

    @abstractmethod
    def step(self, actions: Tensor) -> Moment:
        """What follows joint actions (B, N), or (B, N, D) where continuous; goes on after ends, too."""


class Simulator(Contextless):
    """A world model that imagines whole rows to learn from, in codes of the run's tokenizer.

    Attributes:
        horizon: most steps a row can have, imagined or learnt from.
    """

    trained_by: ClassVar[str | None] = "buffer"
    horizon: int

    def for_learner(self) -> WorldModel:
        """Nothing: who imagines with it trains it."""
        return Contextless()

    @abstractmethod
    def losses(self, batch: EpisodeBatch) -> WorldModelOutput:
        """What is to be descended, added up as it is, on windows of up to ``horizon`` steps with codes."""

    @abstractmethod
    def begin(self, codes: Tensor, avail_actions: Tensor, generator: torch.Generator) -> Dream:
        """Rows that start where agents see ``codes`` (B, N, K) and have these masks (B, N, A).

        Args:
            generator: draws what is random in them.
        """

    @abstractmethod
    def row_bytes(self, device: torch.device) -> int:
        """Memory that one row takes while it is imagined."""
