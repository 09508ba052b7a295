"""Two experts: the policy as it learns, and as it was when learning began (DEPS of MADVAE)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from ...errors import ConfigError
from ...registry import BEHAVIOURS, PartConfig
from ..policies.base import Condition, Seen, StochasticPolicy
from .base import Behaviour, Played

_EXPERT = "expert_"  # before the names of what the frozen expert remembers
_ROUNDING = 1e-4
"""Log-probabilities closer than this are the same: equal weights may give the last bits otherwise."""


def surer(ours: Tensor, theirs: Tensor, voters: Tensor, scope: Literal["team", "agent"]) -> Tensor:
    """(B, N) bool: which agents do what the other expert proposes.

    An agent that votes is for the other expert where that is surer of what it proposes, by more than
    rounding. With scope ``team`` more than half of the votes decide for everyone; without any all stay.

    Args:
        ours: (B, N) log-probabilities of the proposals of one expert.
        theirs: (B, N) of the other's.
        voters: (B, N) bool.
    """
    better = (theirs - ours > _ROUNDING) & voters
    if scope == "agent":
        return better
    majority = 2 * better.sum(dim=1) > voters.sum(dim=1)
    return majority[:, None].expand_as(better)


@BEHAVIOURS.register("dual_expert")
class DualExpert(Behaviour):
    """The policy and a frozen copy of it, as it came: whichever is surer of what it proposes acts (DEPS).

    The copy is made when the parts are: in a run with phases, of what the phases before have learnt. Both are
    shown the same and told what was done. Where they draw they do so by the same numbers, so that a policy
    that has not changed never disagrees with its copy.
    """

    class Config(PartConfig):
        scope: Literal["team", "agent"] = Field(
            "team", description="who follows an expert: the team, by majority, or each agent alone"
        )
        use_in: Literal["test", "train", "both"] = Field(
            "both", description="where there are two experts; elsewhere the policy acts"
        )
        alive_only: bool = Field(
            True,
            description="only agents vote that live and have a choice; false: all, as published",
        )
        greedy: bool = Field(True, description="in tests both propose what is most likely")

    def __init__(self, config: Config, *, policy: StochasticPolicy) -> None:
        super().__init__(policy)
        if config.scope == "agent" and policy.joint:
            raise ConfigError(
                "behaviour dual_expert: scope=agent lets each agent follow an expert of its own, and in this "
                "policy agents decide knowing what those before them do. Set scope=team."
            )
        self._learning = policy  # the same, and known to propose
        self.expert = copy.deepcopy(policy).requires_grad_(False).eval()
        self.modules = {"expert": self.expert}
        self._config = config
        if config.use_in != "test":
            self.optional_fields = frozenset({"log_prob"})
        self._followed, self._decided = 0.0, 0.0

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The policy's, for both."""
        return tuple(
            Condition(name, {**carry, **{_EXPERT + k: v for k, v in carry.items()}})
            for name, carry in super().conditions
        )

    def init_carry(
        self, batch_size: int, device: torch.device, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """The policy's, twice."""
        own = self.policy.init_carry(batch_size, device, generator)
        return own | {_EXPERT + name: value.clone() for name, value in own.items()}

    @torch.no_grad()
    def act(
        self,
        seen: Seen,
        carry: dict[str, Tensor],
        t_env: int,
        test_mode: bool,
        generator: torch.Generator,
    ) -> Played:
        """What the surer one does; where there is one expert, what the policy does."""
        own = {k: v for k, v in carry.items() if not k.startswith(_EXPERT)}
        its = {k.removeprefix(_EXPERT): v for k, v in carry.items() if k.startswith(_EXPERT)}
        if self._config.use_in not in ("both", "test" if test_mode else "train"):
            actions, after = self.policy.act(seen, own, t_env, test_mode, generator)
            return Played(actions, carry | after)
        draws = None if test_mode and self._config.greedy else generator
        before = generator.get_state()
        ours = self._learning.propose(seen, own, t_env, draws)
        behind = generator.get_state()
        generator.set_state(before)
        theirs = self.expert.propose(seen, its, t_env, draws)
        generator.set_state(behind)
        voters = self._voters(seen)
        sure = (ours.log_prob.sum(dim=-1), theirs.log_prob.sum(dim=-1))
        follow = surer(*sure, voters, self._config.scope)
        if not test_mode or self._config.use_in == "test":
            self._followed += float((follow & voters).sum())
            self._decided += float(voters.sum())
        each = follow[..., None]
        log_prob = torch.where(each, theirs.log_prob, ours.log_prob)
        numbers = ours.actions.dim() > follow.dim()
        actions = torch.where(each if numbers else follow, theirs.actions, ours.actions)
        done = ours.carry | {_EXPERT + name: value for name, value in theirs.carry.items()}
        if not numbers:
            last = {"last_actions": actions + 1, f"{_EXPERT}last_actions": actions + 1}
            done |= {name: value for name, value in last.items() if name in done}
        return Played(actions, done, None if test_mode else log_prob)

    def _voters(self, seen: Seen) -> Tensor:
        """(B, N) bool."""
        if not self._config.alive_only:
            return torch.ones_like(seen.alive)
        free = seen.avail_actions.sum(dim=-1) > 1 if seen.avail_actions.shape[-1] else seen.alive
        return seen.alive & free

    def metrics(self, t_env: int) -> dict[str, float]:
        """The policy's, and the share of decisions since the last call that were the frozen expert's.

        There is no share where none was made by this object: those of actors in other processes stay there.
        """
        share = {"expert_share": self._followed / self._decided} if self._decided else {}
        self._followed, self._decided = 0.0, 0.0
        return super().metrics(t_env) | share

    def state_dict(self) -> dict[str, Any]:
        """The expert, and what is counted for :meth:`metrics`."""
        return super().state_dict() | {"counted": (self._followed, self._decided)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo :meth:`state_dict`."""
        super().load_state_dict(state)
        self._followed, self._decided = state["counted"]
