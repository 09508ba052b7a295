"""Policies that remember a sequence, and may be asked for a return: transformers over time and their like.

Axes: B rows, T steps, N agents, O observation, S state, K outputs of an agent (``EnvSpec.policy_outputs``).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from ...data.batch import EpisodeBatch
from ...data.chunks import Chunks
from ...envs.protocol import EnvSpec
from ...registry import PartConfig
from ..layers.distributions import distribution_of
from .base import Condition, Decision, Evaluation, Seen, StochasticPolicy


class SequenceConfig(PartConfig):
    """Keys of all policies of the family."""

    target_returns: list[float] = Field(
        [20.0],
        min_length=1,
        description="returns that are asked for: the first one in training, each in tests",
    )
    test_greedy: bool = Field(True, description="tests take the most likely action")


class Moments(NamedTuple):
    """What a sequence is made of, step by step."""

    obs: Tensor  # (B, T, N, O)
    state: Tensor  # (B, T, S)
    last_actions: Tensor  # (B, T, N) action before each step plus one, 0 where there was none
    return_to_go: Tensor  # (B, T) what is still asked for
    step: Tensor  # (B, T) int64, of the episode


class Looked(NamedTuple):
    """What a policy makes of moments."""

    outputs: Tensor  # (B, T, N, K) at every step
    memory: dict[str, Tensor]  # (B, ...) what is remembered behind the rows
    costs: Mapping[str, Tensor] = MappingProxyType(
        {}
    )  # (B, T, N) what is to be kept small, by name


def returns_to_go(start: Tensor, reward: Tensor) -> Tensor:
    """What is still asked for at each step, (B, T): ``start`` (B,) less the rewards (B, T) before it.

    With the sum of all rewards as the start it is the return-to-go of hindsight (Chen et al., 2021).
    """
    return start[:, None] - (reward.cumsum(dim=1) - reward)


class SequencePolicy(StochasticPolicy):
    """Draws actions from a distribution that depends on a sequence of what was seen, done and asked for.

    What it remembers from step to step: ``step`` (B,), ``return_to_go`` (B,) as it stood at the last step,
    ``last_actions`` (B, N), and what :meth:`remember_nothing` adds. It learns through whole rows.
    """

    recurrent = True
    whole_rows: ClassVar[bool] = True

    def __init__(self, config: SequenceConfig, spec: EnvSpec) -> None:
        super().__init__()
        self.n_agents = spec.n_agents
        self.target_returns, self._greedy = tuple(config.target_returns), config.test_greedy
        self.conditions = tuple(
            Condition(f"{target:g}", {"return_to_go": target}) for target in self.target_returns
        )
        self.distribution = distribution_of(spec)
        self._discrete = not spec.action_shape

    @abstractmethod
    def remember_nothing(self, batch_size: int, device: torch.device) -> dict[str, Tensor]:
        """What else the policy remembers, (B, ...) each, at the start of B episodes."""

    @abstractmethod
    def look(self, moments: Moments, memory: Mapping[str, Tensor] | None) -> Looked:
        """Outputs at every step of rows, and what is remembered behind them.

        Args:
            memory: what :meth:`remember_nothing` names, before the rows; None: they begin with nothing.
        """

    def init_carry(
        self, batch_size: int, device: torch.device, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """The first target return, and nothing remembered."""
        return self._beginning(batch_size, device) | self.remember_nothing(batch_size, device)

    def start_of(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """What stands before the first step of each row: as it was while acting, or as the data have it.

        Rows that were not acted by a policy of this kind are told what they came to earn. Without a memory
        in the batch there is none here either, so that nothing is spent on an empty one.
        """
        known = batch.carry or {}
        start = self._beginning(batch.batch_size, batch.reward.device)
        start |= {name: known[name] for name in start if name in known}
        if known.keys() >= self._memory:
            start |= {name: known[name] for name in self._memory}
        if "return_to_go" not in known:
            start["return_to_go"] = batch.reward.masked_fill(~batch.filled, 0.0).sum(dim=1)
        elif "reward" in known:  # of the step before the row
            start["return_to_go"] = known["return_to_go"] - known["reward"]
        return start

    # no_grad, not inference_mode: runners write into the carry, which inference tensors refuse.
    @torch.no_grad()
    def act(
        self,
        seen: Seen,
        carry: dict[str, Tensor],
        t_env: int,
        test_mode: bool,
        generator: torch.Generator,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Actions for what is ``seen``, and the next carry."""
        draws = None if test_mode and self._greedy else generator
        _, actions, after = self.decide(seen, carry, t_env, draws)
        return actions, after

    def decide(
        self,
        seen: Seen,
        carry: dict[str, Tensor],
        t_env: int,
        generator: torch.Generator | None,
    ) -> Decision:
        """See :meth:`StochasticPolicy.decide`."""
        outputs, carry = self._advance(seen, carry)
        offsets = self.distribution.offsets(outputs, seen.avail_actions, generator)
        actions = self.distribution.choose(outputs, offsets)
        if self._discrete:
            carry = {**carry, "last_actions": actions + 1}
        return Decision(outputs, actions, carry)

    def evaluate(self, chunks: Chunks) -> Evaluation:
        """Log-probabilities and entropies of what was done, in chunks that begin with their rows."""
        start, times = chunks.carry, torch.arange(chunks.reward.shape[1])
        moments = Moments(
            chunks.obs,
            chunks.state,
            chunks.last_actions,
            returns_to_go(start["return_to_go"], chunks.reward),
            start["step"][:, None] + times.to(chunks.reward.device),
        )
        outputs, _, costs = self.look(moments, start if start.keys() >= self._memory else None)
        log_prob, entropy = self.distribution.log_prob(
            outputs, chunks.avail_actions, chunks.actions
        )
        counts = chunks.alive & chunks.cutting.filled[..., None]
        number = counts.sum().clamp(min=1)
        losses = {name: x.masked_fill(~counts, 0.0).sum() / number for name, x in costs.items()}
        return Evaluation(log_prob, entropy, outputs, carry=None, losses=losses)

    @cached_property
    def _memory(self) -> frozenset[str]:
        return frozenset(self.remember_nothing(1, torch.device("cpu")))

    def _beginning(self, batch_size: int, device: torch.device) -> dict[str, Tensor]:
        steps = torch.zeros(batch_size, dtype=torch.int64, device=device)
        return {
            "step": steps,
            "return_to_go": torch.full((batch_size,), self.target_returns[0], device=device),
            "last_actions": steps[:, None].repeat(1, self.n_agents),
        }

    def _advance(self, seen: Seen, carry: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Outputs (B, N, K) for what is seen, and the carry but for the actions it leads to."""
        to_go = carry["return_to_go"] - seen.reward
        moments = Moments(
            seen.obs[:, None],
            seen.state[:, None],
            carry["last_actions"][:, None],
            to_go[:, None],
            carry["step"][:, None],
        )
        outputs, memory, _ = self.look(moments, carry)
        return outputs[:, 0], {**carry, "return_to_go": to_go, "step": carry["step"] + 1, **memory}
