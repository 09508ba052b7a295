"""No values: for learning rules that can do without."""

from __future__ import annotations

from torch import nn

from ...registry import CRITICS, PartConfig


@CRITICS.register("none")
class NoCritic(nn.Module):
    """No values: for learning rules that can do without."""

    class Config(PartConfig):
        pass

    def __init__(self, config: Config) -> None:
        super().__init__()
