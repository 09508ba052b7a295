"""No mixing: every agent learns its own value."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ...envs.protocol import EnvSpec
from ...registry import MIXERS, PartConfig
from ..world_models.base import WorldModel
from .base import Choice, Mixer


@MIXERS.register("none")
class NoMixer(Mixer):
    """Independent Q-learning: agents' values stay apart (Tan, 1993; Tampuu et al., 2017)."""

    class Config(PartConfig):
        pass

    reads_state: ClassVar[bool] = False

    def __init__(self, config: Config, spec: EnvSpec, *, world_model: WorldModel) -> None:
        super().__init__()

    def forward(self, choice: Choice, state: Tensor, context: Tensor | None = None) -> Tensor:
        """(..., N): the agents' values as they are."""
        return choice.q
