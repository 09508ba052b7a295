"""Q-learning on the mixed value of a team: IQL, VDN, QMIX, QPLEX and, with a world model, VDFD."""

from __future__ import annotations

import torch
from torch import Tensor

from ..envs.protocol import EnvSpec
from ..modules.mixers.base import Mixer
from ..modules.policies.value import ValuePolicy
from ..modules.world_models.base import WorldModel
from ..registry import LEARNERS
from .value_based import Gathered, QConfig, ValueBasedLearner


@LEARNERS.register("q_learner")
class QLearner(ValueBasedLearner):
    """Q-learning with target networks on the mixed value of the team (PyMARL's q_learner)."""

    def __init__(
        self,
        config: QConfig,
        spec: EnvSpec,
        *,
        policy: ValuePolicy,
        mixer: Mixer,
        world_model: WorldModel,
        device: torch.device,
    ) -> None:
        super().__init__(config, spec, policy, mixer, world_model, device)

    def losses(self, g: Gathered) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The squared TD error of the team's value, or of each agent's where they stay apart."""
        q_taken = self.mixer(g.taken, g.state, g.context)  # (M, 1), or (M, N) without mixing
        with torch.no_grad():
            q_next = self.target_mixer(g.next_choice, g.next_state, g.next_context)
            target = self.target(g, q_next)
        return {"td": (q_taken - target).square().mean()}, self.describe(q_taken, target)
