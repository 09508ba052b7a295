"""No world model."""

from __future__ import annotations

from ...envs.protocol import EnvSpec
from ...registry import WORLD_MODELS, PartConfig
from .base import Contextless


@WORLD_MODELS.register("none")
class NoWorldModel(Contextless):
    """No world model: model-free learning."""

    class Config(PartConfig):
        pass

    def __init__(self, config: Config, spec: EnvSpec) -> None:
        super().__init__()
