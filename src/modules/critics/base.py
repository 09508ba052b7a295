"""What learners need of a critic."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

from ...data.chunks import Chunks
from ..policies.base import Evaluation


class Critic(nn.Module, ABC):
    """Values in the learner's normalised units; V is 1 (one for the team) or N (one for each agent)."""

    @abstractmethod
    def forward(
        self,
        obs: Tensor,
        state: Tensor,
        alive: Tensor,
        avail_actions: Tensor,
        carry: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Values (M, V) of M moments.

        Args:
            obs: (M, N, O). state: (M, S). alive: (M, N) bool. avail_actions: (M, N, A) bool.
            carry: (M, ...) what the policy had in mind, for values that are its own.
        """

    @property
    @abstractmethod
    def output_layer(self) -> nn.Linear:
        """The last layer, whose outputs are the values."""


def values_of(critic: Critic, chunks: Chunks, evaluation: Evaluation | None) -> Tensor:
    """(K, C, V) in the critic's units; the policy's own where its ``evaluation`` has some."""
    if evaluation is not None and evaluation.values is not None:
        return evaluation.values
    K, C = chunks.cutting.filled.shape
    fields = (chunks.obs, chunks.state, chunks.alive, chunks.avail_actions)
    values: Tensor = critic(*(field.flatten(0, 1) for field in fields))
    return values.view(K, C, -1)


class ActionCritic(nn.Module, ABC):
    """Values, in units of reward, of every action of each agent while the others do what they do."""

    @abstractmethod
    def forward(self, obs: Tensor, state: Tensor, actions: Tensor, last_actions: Tensor) -> Tensor:
        """Values (M, N, A) of M moments.

        Args:
            obs: (M, N, O). state: (M, S). actions: (M, N) int64 of everyone now; what it gives for an agent
                does not depend on the agent's own.
            last_actions: (M, N) int64, those before plus one, 0 where there were none.
        """
