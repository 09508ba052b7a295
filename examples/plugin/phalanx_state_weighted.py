"""A mixer outside the package: agent values weighted by the state."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from phalanx.envs.protocol import EnvSpec
from phalanx.registry import MIXERS, PartConfig


@MIXERS.register("state_weighted")
class StateWeightedMixer(nn.Module):
    """Sum of agent values with positive weights that depend on the state, plus a value of the state.

    ``q_tot = sum_n w_n(s) q_n + v(s)`` with ``w_n(s) > 0`` lies between VDN (all weights 1) and QMIX: no
    agent ever gains by a choice that lowers its own value.
    """

    class Config(PartConfig):
        hidden_dim: int = Field(32, ge=1, description="width of the network from state to weights")
        min_weight: float = Field(0.01, gt=0, description="no agent weighs less than this")

    def __init__(self, config: Config, spec: EnvSpec) -> None:
        super().__init__()
        self._min_weight = config.min_weight
        self._weights = nn.Sequential(
            nn.Linear(spec.state_dim, config.hidden_dim),
            nn.ReLU(),
            nn.Linear(config.hidden_dim, spec.n_agents),
            nn.Softplus(),
        )
        self._value = nn.Sequential(
            nn.Linear(spec.state_dim, config.hidden_dim),
            nn.ReLU(),
            nn.Linear(config.hidden_dim, 1),
        )

    def forward(self, q: Tensor, state: Tensor, context: Tensor | None = None) -> Tensor:
        """Value of the team.

        Args:
            q: (..., N) values of the agents' actions.
            state: (..., S).
            context: (..., C) what a world model adds to the state; this mixer does without.

        Returns:
            (..., 1)
        """
        weights = self._weights(state) + self._min_weight
        total: Tensor = (weights * q).sum(dim=-1, keepdim=True) + self._value(state)
        return total
