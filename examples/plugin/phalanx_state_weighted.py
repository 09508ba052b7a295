"""A mixer outside the package: agent values weighted by the state."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from phalanx.envs.protocol import EnvSpec
from phalanx.modules.mixers.base import Choice, Mixer, seen_by
from phalanx.modules.world_models.base import WorldModel
from phalanx.registry import MIXERS, PartConfig


@MIXERS.register("state_weighted")
class StateWeightedMixer(Mixer):
    """Sum of agent values with positive weights that depend on the state, plus a value of the state.

    ``q_tot = sum_n w_n(s) q_n + v(s)`` with ``w_n(s) > 0`` lies between VDN (all weights 1) and QMIX: no
    agent ever gains by a choice that lowers its own value.
    """

    class Config(PartConfig):
        hidden_dim: int = Field(32, ge=1, description="width of the network from state to weights")
        min_weight: float = Field(0.01, gt=0, description="no agent weighs less than this")

    reads_state: ClassVar[bool] = True

    # A keyword named after a kind of part asks for the part of that kind that the run has chosen.
    def __init__(self, config: Config, spec: EnvSpec, *, world_model: WorldModel) -> None:
        super().__init__()
        seen_dim = spec.state_dim + world_model.output_dim
        self._min_weight = config.min_weight
        self._weights = nn.Sequential(
            nn.Linear(seen_dim, config.hidden_dim),
            nn.ReLU(),
            nn.Linear(config.hidden_dim, spec.n_agents),
            nn.Softplus(),
        )
        self._value = nn.Sequential(
            nn.Linear(seen_dim, config.hidden_dim),
            nn.ReLU(),
            nn.Linear(config.hidden_dim, 1),
        )

    def forward(self, choice: Choice, state: Tensor, context: Tensor | None = None) -> Tensor:
        """Value of the team.

        Args:
            choice: (..., N) each: values q of the agents' actions, of their best actions, the actions.
            state: (..., S).
            context: (..., C) what the world model adds to the state, None where C = 0.

        Returns:
            (..., 1)
        """
        seen = seen_by(state, context)
        weights = self._weights(seen) + self._min_weight
        total: Tensor = (weights * choice.q).sum(dim=-1, keepdim=True) + self._value(seen)
        return total
