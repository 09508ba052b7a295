"""Value decomposition by a sum."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ...envs.protocol import EnvSpec
from ...registry import MIXERS, PartConfig
from ..world_models.base import WorldModel
from .base import Choice, Mixer


@MIXERS.register("vdn")
class VDNMixer(Mixer):
    """Sum of the agents' values (Sunehag et al., 2017)."""

    class Config(PartConfig):
        pass

    reads_state: ClassVar[bool] = False

    def __init__(self, config: Config, spec: EnvSpec, *, world_model: WorldModel) -> None:
        super().__init__()

    def forward(self, choice: Choice, state: Tensor, context: Tensor | None = None) -> Tensor:
        """(..., 1): sum of the agents' values."""
        return choice.q.sum(dim=-1, keepdim=True)
