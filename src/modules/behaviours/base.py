"""What a behaviour is: all that a runner, a test or a user of a checkpoint lets act."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..policies.base import Condition, Policy, Seen


class Played(NamedTuple):
    """What was chosen in B copies of an environment, and what is remembered."""

    actions: Tensor  # (B, N) int64, or (B, N, numbers) float32, see EnvSpec.action_shape
    carry: dict[str, Tensor]
    log_prob: Tensor | None = None  # (B, N, F) of the actions, by whoever chose each


class Behaviour(ABC):
    """Plays with a policy: shows it other things, asks somebody else as well, or just lets it act.

    What it remembers from step to step is the policy's carry, under the policy's own names, and what it adds
    to it. Learners find the policy's part of it in their batches.

    Attributes:
        policy: what is learnt; checkpoints have it apart from the behaviour.
        modules: what else it plays with (a frozen expert, a tokenizer), by name; goes into every checkpoint
            that can be played.
        optional_fields: of a batch's, those that it makes or looks at: ``log_prob`` where others than the
            policy act in training, so that learners know how likely their actions were.
    """

    optional_fields: frozenset[str] = frozenset()

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.modules: dict[str, nn.Module] = {}

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """What tests are played under, at least one; the first is what training plays under."""
        return tuple(getattr(self.policy, "conditions", ())) or (Condition(),)

    def init_carry(
        self, batch_size: int, device: torch.device, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Carry at the start of B episodes; ``generator`` draws what is random in it."""
        return self.policy.init_carry(batch_size, device, generator)

    @abstractmethod
    def act(
        self,
        seen: Seen,
        carry: dict[str, Tensor],
        t_env: int,
        test_mode: bool,
        generator: torch.Generator,
    ) -> Played:
        """What to do about what is ``seen``, in tests and in training."""

    def acted(self, t_env: int) -> None:
        """A copy of this has acted elsewhere, in training; where the policy must know of it, it is told."""
        tell = getattr(self.policy, "acted", None)
        if tell is not None:
            tell(t_env)

    def metrics(self, t_env: int) -> dict[str, float]:
        """What it and its policy report of themselves after ``t_env`` environment steps."""
        return self.policy.metrics(t_env)

    def to(self, device: torch.device) -> None:
        """Move the policy and everything else to ``device``."""
        for module in (self.policy, *self.modules.values()):
            if isinstance(module, nn.Module):
                module.to(device)

    def state_dict(self) -> dict[str, Any]:
        """All but the policy's."""
        return {name: module.state_dict() for name, module in self.modules.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo :meth:`state_dict`."""
        for name, module in self.modules.items():
            module.load_state_dict(state[name])


class Around(Behaviour):
    """Plays what another behaviour does in another way; what episodes begin with is the other's affair.

    Args:
        inner: the other.
    """

    def __init__(self, inner: Behaviour) -> None:
        super().__init__(inner.policy)
        self.inner = inner

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The other's: what it carries may be more than its policy's."""
        return self.inner.conditions

    def init_carry(
        self, batch_size: int, device: torch.device, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """The other's."""
        return self.inner.init_carry(batch_size, device, generator)
