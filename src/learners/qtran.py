"""QTRAN-base: agents' values fitted to a joint value that no form restricts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor

from ..envs.protocol import EnvSpec
from ..modules.mixers.qtran_base import QTRANBase
from ..modules.policies.value import ValuePolicy
from ..modules.world_models.base import WorldModel
from ..registry import LEARNERS
from .value_based import Gathered, QConfig, ValueBasedLearner


def opt_error(q_sum: Tensor, q_jt: Tensor, v_jt: Tensor) -> Tensor:
    """``sum_i q_i - Q_jt + V_jt``, to be 0 where agents act greedily (Son et al., 2019, equation 4a).

    Args:
        q_sum: (M,) sum of the values of the agents' best actions. q_jt: (M,), a constant here. v_jt: (M,).
    """
    return q_sum - q_jt.detach() + v_jt


def nopt_error(q_sum: Tensor, q_jt: Tensor, v_jt: Tensor) -> Tensor:
    """The same of actions taken, where only what lies below 0 is wrong (equation 4b)."""
    return opt_error(q_sum, q_jt, v_jt).clamp(max=0.0)


@LEARNERS.register("qtran")
class QTRANLearner(ValueBasedLearner):
    """QTRAN-base (Son et al., 2019) with mixer qtran_base: losses, not a form, tie agents to the team.

    As in PyMARL the online agents choose the greedy actions that Q_jt is asked about, and Q_jt is a constant
    in the two losses that tie.
    """

    class Config(QConfig):
        opt_loss: float = Field(1.0, ge=0, description="weight of the loss of greedy actions")
        nopt_min_loss: float = Field(0.1, ge=0, description="weight of the loss of other actions")

    config: QTRANLearner.Config

    def __init__(
        self,
        config: QTRANLearner.Config,
        spec: EnvSpec,
        *,
        policy: ValuePolicy,
        mixer: QTRANBase,
        world_model: WorldModel,
        device: torch.device,
    ) -> None:
        super().__init__(config, spec, policy, mixer, world_model, device)
        self.mixer: QTRANBase

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """Weight of each loss in the total."""
        return {"td": 1.0, "opt": self.config.opt_loss, "nopt": self.config.nopt_min_loss}

    def losses(self, g: Gathered) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """L_td of the joint value, L_opt and L_nopt of the agents' values."""
        q_jt = self.mixer(g.hidden, g.taken.actions, g.state, g.context)  # (M, 1)
        v_jt = self.mixer.value(g.state, g.context)
        with torch.no_grad():
            q_jt_greedy = self.mixer(g.hidden, g.greedy.actions, g.state, g.context)
            following = (g.next_hidden, g.next_choice.actions, g.next_state, g.next_context)
            target = self.target(g, self.target_mixer(*following))
        greedy, taken = (choice.q.sum(dim=-1, keepdim=True) for choice in (g.greedy, g.taken))
        losses = {
            "td": (q_jt - target).square().mean(),
            "opt": opt_error(greedy, q_jt_greedy, v_jt).square().mean(),
            "nopt": nopt_error(taken, q_jt, v_jt).square().mean(),
        }
        return losses, self.describe(q_jt, target)
