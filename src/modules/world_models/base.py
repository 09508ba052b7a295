"""What mixers and learners need of a world model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

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
        output_dim: C, width of the context.
        loss_weights: weight of each loss in the total, by the loss's name.
    """

    output_dim: int
    loss_weights: Mapping[str, float]

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
