"""Fully connected networks over all agents at once, for priors and for the ablation without graphs.

Axes: R rows (moments of episodes), N agents, F features, Z latent.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .gala import Operators
from .gaussian import MEAN_BOUND, Gaussian


def linear_of_parts(layer: nn.Linear, parts: Sequence[Tensor]) -> Tensor:
    """``layer`` applied to ``parts`` (R, F_i) laid side by side, without laying them there."""
    weights = torch.split(layer.weight, [part.shape[1] for part in parts], dim=1)
    total = F.linear(parts[0], weights[0], layer.bias)
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        total.addmm_(part, weight.t())
    return total


class TransitionVAE(nn.Module):
    """Variational auto-encoder whose code is the team's next latent: a hidden layer each way.

    Choice: the mean is the latent before plus a change. A latent moves little in a step, and a map through
    a hidden layer narrower than it could not even leave it as it is. It stays where posteriors can be.

    Args:
        latent: length of the joint latent.
        hidden: width of the hidden layers.
        extra: length of what else is encoded and reconstructed (the joint action).
    """

    def __init__(self, latent: int, hidden: int, extra: int = 0) -> None:
        super().__init__()
        features = latent + extra
        self.first = nn.Linear(features, hidden)
        self.second = nn.Linear(hidden, 2 * latent)
        self.third = nn.Linear(latent, hidden)
        self.fourth = nn.Linear(hidden, features)

    def encode(self, before: Tensor, *extra: Tensor) -> Gaussian:
        """Distribution over the latent (R, latent) that follows ``before`` (R, latent)."""
        hidden = torch.relu_(linear_of_parts(self.first, (before, *extra)))
        change = Gaussian.of(self.second(hidden))
        mean = (before + change.mean).clamp(-MEAN_BOUND, MEAN_BOUND)
        return Gaussian(mean, change.logvar)

    def decode(self, latent: Tensor) -> Tensor:
        """Latent before and extra, side by side (R, latent + extra), from a latent (R, latent)."""
        x: Tensor = self.fourth(torch.relu(self.third(latent)))
        return x


class JointAutoEncoder(nn.Module):
    """What :class:`~phalanx.modules.layers.gala.GALA` does, without a graph: all agents as one vector.

    Takes the same arguments and operators, and ignores the operators. Its size grows with N.
    """

    def __init__(
        self,
        n_agents: int,
        features: int,
        hidden: int,
        code: int,
        latent: int,
        *,
        recurrent: bool = False,
    ) -> None:
        super().__init__()
        N = n_agents
        self.n_agents = N
        self.first = nn.Linear(N * features, hidden)
        self.first_latent = nn.Linear(N * latent, hidden, bias=False) if recurrent else None
        self.second = nn.Linear(hidden, N * code)
        self.third = nn.Linear(N * latent, hidden)
        self.fourth = nn.Linear(hidden, N * features)
        self.fourth_latent = nn.Linear(hidden, N * latent) if recurrent else None

    def project(self, x: Tensor, operators: Operators) -> Tensor:
        """The part (R, hidden) of the first layer, before its activation, that x (R, N, F) makes."""
        y: Tensor = self.first(x.flatten(1))
        return y

    def code(self, projected: Tensor, smooth: Tensor, latent: Tensor | None = None) -> Tensor:
        """Code (R, N, Z') from the first layer, completed by the latent (R, N, Z) of the step before."""
        if self.first_latent is not None and latent is not None:
            projected = projected + self.first_latent(latent.flatten(1))
        return self._split(self.second(torch.relu(projected)))

    def encode(self, x: Tensor, operators: Operators) -> Tensor:
        """Code (R, N, Z') of x (R, N, F)."""
        return self.code(self.project(x, operators), operators.smooth)

    def decode(self, latent: Tensor, operators: Operators) -> Tensor:
        """Features (R, N, F) of latent (R, N, Z)."""
        return self._split(self.fourth(self._expand(latent)))

    def decode_both(self, latent: Tensor, operators: Operators) -> tuple[Tensor, Tensor]:
        """Latent of the step before (R, N, Z) and features (R, N, F), where recurrent."""
        assert self.fourth_latent is not None, (
            "only a recurrent auto-encoder knows an earlier latent"
        )
        hidden = self._expand(latent)
        return self._split(self.fourth_latent(hidden)), self._split(self.fourth(hidden))

    def _expand(self, latent: Tensor) -> Tensor:
        return torch.relu(self.third(latent.flatten(1)))

    def _split(self, joint: Tensor) -> Tensor:
        return joint.view(joint.shape[0], self.n_agents, -1)
