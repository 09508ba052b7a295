"""No world model."""

from __future__ import annotations

from collections.abc import Mapping

from ...data.batch import EpisodeBatch
from ...envs.protocol import EnvSpec
from ...registry import WORLD_MODELS, PartConfig
from ..agents.base import AgentOutput
from ..layers.packing import Packing
from .base import WorldModel, WorldModelOutput


@WORLD_MODELS.register("none")
class NoWorldModel(WorldModel):
    """No world model: model-free learning."""

    class Config(PartConfig):
        pass

    output_dim = 0
    loss_weights: Mapping[str, float] = {}

    def __init__(self, config: Config, spec: EnvSpec) -> None:
        super().__init__()

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
