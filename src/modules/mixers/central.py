"""A joint value that no form restricts, for weighted QMIX to project onto what QMIX can represent."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .base import seen_by


class CentralMixer(nn.Module):
    """Feed-forward value of a team from its agents' values and the state (Rashid et al., 2020).

    Args:
        n_agents: N.
        seen_dim: S + C.
        embed_dim: width of the layers.
    """

    def __init__(self, n_agents: int, seen_dim: int, embed_dim: int) -> None:
        super().__init__()
        E = embed_dim
        self.net = nn.Sequential(
            nn.Linear(n_agents + seen_dim, E),
            nn.ReLU(),
            nn.Linear(E, E),
            nn.ReLU(),
            nn.Linear(E, E),
            nn.ReLU(),
            nn.Linear(E, 1),
        )
        self.of_state = nn.Sequential(nn.Linear(seen_dim, E), nn.ReLU(), nn.Linear(E, 1))

    def forward(self, q: Tensor, state: Tensor, context: Tensor | None = None) -> Tensor:
        """(..., 1) of the agents' values q (..., N), state (..., S) and context (..., C)."""
        seen = seen_by(state, context)
        total: Tensor = self.net(torch.cat([q, seen], dim=-1)) + self.of_state(seen)
        return total
