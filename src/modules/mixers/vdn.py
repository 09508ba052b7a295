"""Value decomposition by a sum."""

from __future__ import annotations

from torch import Tensor, nn

from ...envs.protocol import EnvSpec
from ...registry import MIXERS, PartConfig
from ..world_models.base import WorldModel


@MIXERS.register("vdn")
class VDNMixer(nn.Module):
    """Sum of the agents' values (Sunehag et al., 2017)."""

    class Config(PartConfig):
        pass

    def __init__(self, config: Config, spec: EnvSpec, *, world_model: WorldModel) -> None:
        super().__init__()

    def forward(self, q: Tensor, state: Tensor, context: Tensor | None = None) -> Tensor:
        """(..., 1): sum over the agents of q (..., N)."""
        return q.sum(dim=-1, keepdim=True)
