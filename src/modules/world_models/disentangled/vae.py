"""Fully connected networks over all agents at once, for priors and for the ablation without graphs.

Axes: R rows (moments of episodes), N agents, F features, Z latent.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...layers.gaussian import MEAN_BOUND, Gaussian, bounded_mean
from ...layers.packing import Packing
from .gala import Operators
from .parts import linear_of_parts


class TransitionVAE(nn.Module):
    """Variational auto-encoder whose code is the team's next latent: a hidden layer each way.

    Choice: the mean is the latent before plus a change. A latent moves little in a step, and a map through
    a hidden layer narrower than it could not even leave it as it is. It stays where posteriors can be.

    Args:
        latent: length of the joint latent.
        hidden: width of the hidden layers.
        n_agents: N. n_actions: A of the actions that are encoded and reconstructed too, 0 for none.
    """

    def __init__(self, latent: int, hidden: int, n_agents: int, n_actions: int = 0) -> None:
        super().__init__()
        self.latent, self.n_agents, self.n_actions = latent, n_agents, n_actions
        features = latent + n_agents * n_actions
        self.first = nn.Linear(features, hidden)
        self.second = nn.Linear(hidden, 2 * latent)
        self.third = nn.Linear(latent, hidden)
        self.fourth = nn.Linear(hidden, features)

    def encode(self, before: Tensor, actions: Tensor | None = None) -> Gaussian:
        """Distribution over the latent (R, latent) that follows ``before`` (R, latent).

        Args:
            actions: where there are any, (R, N) int64, each plus one and 0 for none; or (R, N, A), shares of
                each action, through which gradients flow.
        """
        change = Gaussian.of(self.second(self._hidden(before, actions)))
        return Gaussian(self._moved(before, change.mean), change.logvar)

    def mean(self, before: Tensor, actions: Tensor | None = None) -> Tensor:
        """The mean of :meth:`encode` alone, for less."""
        layer, Z = self.second, self.latent
        hidden = self._hidden(before, actions)
        change = bounded_mean(F.linear(hidden, layer.weight[:Z], layer.bias[:Z]))
        return self._moved(before, change)

    def _moved(self, before: Tensor, change: Tensor) -> Tensor:
        return (before + change).clamp(-MEAN_BOUND, MEAN_BOUND)

    def _hidden(self, before: Tensor, actions: Tensor | None) -> Tensor:
        if actions is None:
            hidden = self.first(before)
        elif actions.is_floating_point():
            hidden = linear_of_parts(self.first, (before, actions.flatten(1)))
        else:
            # The product with one-hot actions is a sum of columns of the weights.
            weight = self.first.weight[:, : self.latent]
            table = self.first.weight[:, self.latent :].t()
            table = table.reshape(self.n_agents, self.n_actions, -1)
            table = F.pad(table, (0, 0, 1, 0)).flatten(0, 1)  # 0: no action
            first = torch.arange(self.n_agents, device=actions.device) * (self.n_actions + 1)
            hidden = F.embedding_bag(actions + first, table, mode="sum")
            hidden = hidden + F.linear(before, weight, self.first.bias)
        return torch.relu(hidden)

    def decode(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Latent before (R, latent) and actions (R, N, A) that led to a latent (R, latent)."""
        x = self.fourth(torch.relu(self.third(latent)))
        before, actions = x.split([self.latent, x.shape[1] - self.latent], dim=1)
        return before, actions.unflatten(1, (self.n_agents, self.n_actions))


class JointAutoEncoder(nn.Module):
    """What ``GALA`` does, without a graph: all agents as one vector.

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

    def scan(
        self, projected: Tensor, smooth: Tensor, noise: Tensor | None, packing: Packing
    ) -> tuple[Gaussian, Tensor]:
        """Posteriors and samples, or means, of packed rows (P, hidden) that each see the one before."""
        assert self.first_latent is not None, "only a recurrent auto-encoder sees an earlier latent"
        # split, not slices: the gradient of a slice is a zeroed copy of the whole.
        sizes = list(packing.sizes)
        drives = torch.split(projected, sizes)
        noises = [None] * len(drives) if noise is None else torch.split(noise, sizes)
        posteriors, latents = [], []
        latent: Tensor | None = None
        for drive, epsilon in zip(drives, noises, strict=True):
            if latent is not None:
                drive = drive + self.first_latent(latent[: len(drive)].flatten(1))
            posterior = Gaussian.of(self._split(self.second(torch.relu(drive))))
            latent = posterior.mean if epsilon is None else posterior.sample(epsilon)
            posteriors.append(posterior)
            latents.append(latent)
        means, logvars = zip(*posteriors, strict=True)
        return Gaussian(torch.cat(means), torch.cat(logvars)), torch.cat(latents)

    def encode(self, x: Tensor, operators: Operators) -> Tensor:
        """Code (R, N, Z') of x (R, N, F)."""
        return self._split(self.second(torch.relu(self.project(x, operators))))

    def decode(self, latent: Tensor, operators: Operators, onto: Tensor | None = None) -> Tensor:
        """Features (R, N, F) of latent (R, N, Z); ``onto`` (R, N, F) takes the place of the bias."""
        base = None if onto is None else onto.flatten(1)
        return self._split(linear_of_parts(self.fourth, [self._expand(latent)], base))

    def decode_change(self, before: Tensor, after: Tensor, operators: Operators) -> Tensor:
        """``decode(after) - decode(before)`` (R, N, F)."""
        change = self._expand(after) - self._expand(before)
        return self._split(F.linear(change, self.fourth.weight))

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
