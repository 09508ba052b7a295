"""The policy, shown what a tokenizer makes of what is seen."""

from __future__ import annotations

import torch
from torch import Tensor

from ...registry import BEHAVIOURS, PartConfig
from ..policies.base import Policy, Seen
from ..tokenizers.base import Tokenizer
from .base import Behaviour, Played


@BEHAVIOURS.register("reconstructed")
class Reconstructed(Behaviour):
    """The policy plays on reconstructed observations: what it sees in imagination, where it learns."""

    class Config(PartConfig):
        pass

    def __init__(self, config: Config, *, policy: Policy, tokenizer: Tokenizer) -> None:
        super().__init__(policy)
        self.tokenizer = tokenizer
        self.modules = {"tokenizer": tokenizer}

    @torch.no_grad()
    def act(
        self,
        seen: Seen,
        carry: dict[str, Tensor],
        t_env: int,
        test_mode: bool,
        generator: torch.Generator,
    ) -> Played:
        """What the policy does about the reconstruction; all else it is shown as it is."""
        obs = self.tokenizer.decode(self.tokenizer.encode(seen.obs))
        shown = seen._replace(obs=obs)
        return Played(*self.policy.act(shown, carry, t_env, test_mode, generator))
