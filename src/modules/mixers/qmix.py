"""Monotonic mixing with weights that depend on the state."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ...envs.protocol import EnvSpec
from ...registry import MIXERS, PartConfig
from ..world_models.base import WorldModel
from .base import Choice, Mixer, seen_by


def mix(q: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """Two-layer mixing of agent values (Rashid et al., 2018, section 4.1).

    Non-negative ``w1`` and ``w2`` make the result rise with every agent's value.

    Args:
        q: (..., N) values. w1: (..., N, E). b1: (..., E). w2: (..., E). b2: (..., 1).

    Returns:
        (..., 1).
    """
    hidden = F.elu((q.unsqueeze(-1) * w1).sum(dim=-2) + b1)
    return (hidden * w2).sum(dim=-1, keepdim=True) + b2


@MIXERS.register("qmix")
class QMixer(Mixer):
    """Monotonic mixing of agent values, conditioned on the state (Rashid et al., 2018)."""

    class Config(PartConfig):
        mixing_embed_dim: int = Field(32, ge=1, description="E, width of the mixing layer")
        hypernet_layers: int = Field(2, ge=1, le=2, description="layers of the weights' hypernets")
        hypernet_embed: int = Field(
            64, ge=1, description="hidden width of the hypernets when they have two layers"
        )

    reads_state: ClassVar[bool] = True

    def __init__(self, config: Config, spec: EnvSpec, *, world_model: WorldModel) -> None:
        super().__init__()
        self.n_agents, self.embed_dim = spec.n_agents, config.mixing_embed_dim
        E = self.embed_dim
        D = spec.state_dim + world_model.output_dim

        def hypernet(out: int) -> nn.Module:
            if config.hypernet_layers == 1:
                return nn.Linear(D, out)
            hidden = config.hypernet_embed
            return nn.Sequential(nn.Linear(D, hidden), nn.ReLU(), nn.Linear(hidden, out))

        # Submodules carry PyMARL's names, so its weights can be loaded.
        self.hyper_w_1 = hypernet(self.n_agents * E)
        self.hyper_w_final = hypernet(E)
        self.hyper_b_1 = nn.Linear(D, E)
        self.V = nn.Sequential(nn.Linear(D, E), nn.ReLU(), nn.Linear(E, 1))

    def forward(self, choice: Choice, state: Tensor, context: Tensor | None = None) -> Tensor:
        """Value of the team (..., 1), see :class:`~phalanx.modules.mixers.base.Mixer`."""
        seen = seen_by(state, context)
        w1 = self.hyper_w_1(seen).abs().unflatten(-1, (self.n_agents, self.embed_dim))
        w2 = self.hyper_w_final(seen).abs()
        return mix(choice.q, w1, self.hyper_b_1(seen), w2, self.V(seen))
