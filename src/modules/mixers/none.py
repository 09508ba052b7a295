"""No mixing: every agent learns its own value."""

from __future__ import annotations

from torch import Tensor, nn

from ...envs.protocol import EnvSpec
from ...registry import MIXERS, PartConfig
from ..world_models.base import WorldModel


@MIXERS.register("none")
class NoMixer(nn.Module):
    """Independent Q-learning: agents' values stay apart (Tan, 1993; Tampuu et al., 2017)."""

    class Config(PartConfig):
        pass

    def __init__(self, config: Config, spec: EnvSpec, *, world_model: WorldModel) -> None:
        super().__init__()

    def forward(self, q: Tensor, state: Tensor, context: Tensor | None = None) -> Tensor:
        """(..., N): the values q (..., N) as they are."""
        return q
