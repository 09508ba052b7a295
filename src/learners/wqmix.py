"""Weighted QMIX: the monotonic value is fitted best where the joint action matters."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ..modules.agents.base import Agent
from ..modules.mixers.base import of_actions
from ..modules.mixers.central import CentralMixer
from ..registry import LEARNERS
from .q_learner import QLearner
from .value_based import Gathered, QConfig


def optimistic_weight(q_tot: Tensor, target: Tensor, w: float) -> Tensor:
    """1 where the value is too low, ``w`` elsewhere (OW-QMIX, Rashid et al., 2020); any shape."""
    return torch.where(q_tot < target, 1.0, w)


def central_weight(is_greedy: Tensor, target: Tensor, q_greedy: Tensor, w: float) -> Tensor:
    """1 where the action is the greedy one or seems better than it, ``w`` elsewhere (CW-QMIX).

    Args:
        is_greedy: (...) bool, all agents took their greedy actions.
        target: (...) what the taken joint action is worth. q_greedy: (...) the greedy one.
    """
    return torch.where(is_greedy | (target > q_greedy), 1.0, w)


@LEARNERS.register("wqmix")
class WQMIXLearner(QLearner):
    """Weighted QMIX, centrally or optimistically weighted (Rashid et al., 2020).

    A central value of its own, whose mixing is not monotonic, makes the targets of both values. As in
    PyMARL2 the greedy joint action is valued by the target of the central value, which has half a square as
    its loss.
    """

    reads_state = True

    class Config(QConfig):
        weighting: Literal["central", "optimistic"] = Field(
            "optimistic", description="which errors count in full: CW-QMIX's or OW-QMIX's"
        )
        w: float = Field(
            0.1, gt=0, le=1, description="weight of all other errors, the paper's alpha"
        )
        central_mixing_embed_dim: int = Field(256, ge=1, description="width of the central mixing")

    config: WQMIXLearner.Config

    def own_modules(self) -> dict[str, nn.Module]:
        """Agents and mixing of the central value."""
        seen_dim = self.spec.state_dim + self.world_model.output_dim
        width = self.config.central_mixing_embed_dim
        mixing = CentralMixer(self.spec.n_agents, seen_dim, width)
        return {"central_agent": copy.deepcopy(self.policy.agent), "central_mixer": mixing}

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """Weight of each loss in the total."""
        return {"td": 1.0, "central": 1.0}

    def losses(self, g: Gathered) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Weighted squares of the monotonic value's error, and half those of the central one's."""
        q_tot = self.mixer(g.taken, g.state, g.context)  # (M, 1)
        steps, after = g.packing.previous, slice(g.batch.batch_size, None)
        central = self._values(g, self.own["central_agent"])[steps]  # (M, N, A)
        q_central = self.own["central_mixer"](
            of_actions(central, g.taken.actions), g.state, g.context
        )
        with torch.no_grad():
            mixing = self.target_own["central_mixer"]
            central = self._values(g, self.target_own["central_agent"])
            q_next = of_actions(central[after], g.next_choice.actions)
            target = self.target(g, mixing(q_next, g.next_state, g.next_context))
            if self.config.weighting == "optimistic":
                weight = optimistic_weight(q_tot, target, self.config.w)
            else:
                greedy = g.greedy.actions
                q_greedy = mixing(of_actions(central[steps], greedy), g.state, g.context)
                is_greedy = (g.taken.actions == greedy).all(dim=-1, keepdim=True)
                weight = central_weight(is_greedy, target, q_greedy, self.config.w)
        losses = {
            "td": (weight * (q_tot - target).square()).mean(),
            "central": 0.5 * (q_central - target).square().mean(),
        }
        return losses, {"weight_mean": weight.mean(), **self.describe(q_tot, target)}

    def _values(self, g: Gathered, agent: nn.Module) -> Tensor:
        """(P, N, A) of ``agent`` at all entries."""
        assert isinstance(agent, Agent)
        return g.packing.pack(self.policy.unroll(g.batch, agent=agent).values)
