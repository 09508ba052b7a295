"""The values of a policy that has some itself."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ...envs.protocol import EnvSpec
from ...errors import ConfigError
from ...registry import CRITICS, PartConfig
from ..policies.base import StochasticPolicy
from ..policies.transformer import TransformerPolicy
from .base import Critic


@CRITICS.register("of_policy")
class PolicyCritic(Critic):
    """The policy's own value head, one value per agent; works with policy transformer."""

    class Config(PartConfig):
        pass

    def __init__(self, config: Config, spec: EnvSpec, *, policy: StochasticPolicy) -> None:
        super().__init__()
        if not isinstance(policy, TransformerPolicy):
            raise ConfigError(
                "critic of_policy needs a policy that values what it sees: policy=transformer. "
                "Use critic=normed or critic=attention with this one."
            )
        self._policy = [policy]  # in a list: its parameters stay the policy's alone

    @property
    def output_layer(self) -> nn.Linear:
        """Last layer of the policy's value head."""
        layer = self._policy[0].value[-1]
        assert isinstance(layer, nn.Linear)
        return layer

    def forward(
        self,
        obs: Tensor,
        state: Tensor,
        alive: Tensor,
        avail_actions: Tensor,
        carry: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Values (M, N)."""
        return self._policy[0].values(obs, avail_actions, carry or {})
