"""The policy itself."""

from __future__ import annotations

import torch
from torch import Tensor

from ...registry import BEHAVIOURS, PartConfig
from ..policies.base import Policy, Seen
from .base import Behaviour, Played


@BEHAVIOURS.register("plain")
class PlainBehaviour(Behaviour):
    """The policy plays, as it is."""

    class Config(PartConfig):
        pass

    def __init__(self, config: Config, *, policy: Policy) -> None:
        super().__init__(policy)

    def act(
        self,
        seen: Seen,
        carry: dict[str, Tensor],
        t_env: int,
        test_mode: bool,
        generator: torch.Generator,
    ) -> Played:
        """What the policy does."""
        return Played(*self.policy.act(seen, carry, t_env, test_mode, generator))
