"""What learners need of a critic."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ...data.batch import EpisodeBatch
from ...data.chunks import Chunks, alive_of
from ..policies.base import Evaluation


class Critic(nn.Module, ABC):
    """Values in the learner's normalised units; V is 1 (one for the team) or N (one for each agent).

    Attributes:
        frames: observations and states it is given at once, the present ones and those before them, side by
            side, oldest first.
        reads_state: its values depend on the state.
    """

    frames: int = 1
    reads_state: bool = False

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
            obs: (M, N, frames * O). state: (M, frames * S). alive: (M, N) bool.
            avail_actions: (M, N, A) bool.
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
    obs, state = chunks.frames("obs", critic.frames), chunks.frames("state", critic.frames)
    fields = (obs, state, chunks.alive, chunks.avail_actions)
    values: Tensor = critic(*(field.flatten(0, 1) for field in fields))
    return values.view(K, C, -1)


def last_values(critic: Critic, batch: EpisodeBatch, start: Mapping[str, Tensor]) -> Tensor:
    """(B, V) of the last entry of each row, in the critic's units.

    Args:
        start: (B, ...) what the policy had in mind before each row; nothing that a policy with values of its
            own has in mind changes within one.
    """
    device = batch.reward.device
    ends = (torch.arange(batch.batch_size, device=device), batch.lengths.to(device))
    obs, state = batch.frames("obs", critic.frames), batch.frames("state", critic.frames)
    fields = (obs, state, alive_of(batch), batch.avail_actions)
    values: Tensor = critic(*(field[ends] for field in fields), start)
    return values


class ActionCritic(nn.Module, ABC):
    """Values, in units of reward, of every action of each agent while the others do what they do.

    Attributes:
        reads_state: its values depend on the state.
    """

    reads_state: bool = False

    @abstractmethod
    def forward(self, obs: Tensor, state: Tensor, actions: Tensor, last_actions: Tensor) -> Tensor:
        """Values (M, N, A) of M moments.

        Args:
            obs: (M, N, O). state: (M, S). actions: (M, N) int64 of everyone now; what it gives for an agent
                does not depend on the agent's own.
            last_actions: (M, N) int64, those before plus one, 0 where there were none.
        """
