"""Actions as tokens: one for a choice, one for each dimension of a real vector."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ....envs.protocol import Box, EnvSpec
from ....errors import ConfigError
from ...layers.symlog import bin_of


class ActionCode(Protocol):
    """From actions to tokens.

    Attributes:
        tokens: of an action.
        vocabulary: values of each.
    """

    tokens: int
    vocabulary: int

    def encode(self, actions: Tensor) -> Tensor:
        """(..., tokens) int64 of actions (...), or (..., D) where they are vectors."""
        ...


class Choices:
    """A choice is its own token."""

    tokens = 1

    def __init__(self, n_actions: int) -> None:
        self.vocabulary = n_actions

    def encode(self, actions: Tensor) -> Tensor:
        """See :class:`ActionCode`."""
        return actions[..., None]


class Binned:
    """Each dimension falls into one of as many bins between the smallest and the largest bound."""

    def __init__(self, space: Box, bins: int) -> None:
        self.tokens, self.vocabulary = len(space.low), bins
        self._low, self._high = min(space.low), max(space.high)

    def encode(self, actions: Tensor) -> Tensor:
        """See :class:`ActionCode`."""
        return bin_of(actions, self.vocabulary, self._low, self._high)


def action_code(spec: EnvSpec, bins: int) -> ActionCode:
    """How the actions of ``spec`` are told a transformer.

    Raises:
        ConfigError: they are mixed, or vectors without bounds.
    """
    if isinstance(spec.action, Box):
        bounds = torch.tensor([*spec.action.low, *spec.action.high])
        if not bounds.isfinite().all():
            raise ConfigError(
                "world_model marie puts each number of an action into bins between its bounds, and this "
                "environment's actions have none. Bound them, or choose another world_model."
            )
        return Binned(spec.action, bins)
    if spec.dimensions:
        raise ConfigError(
            "world_model marie tells actions that are a choice, or a vector; this environment's are both at "
            "once. Choose buffer=on_policy, or another environment."
        )
    return Choices(spec.n_actions)
