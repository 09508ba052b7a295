"""How a tokenizer and a simulator learn from real episodes; no part, as a buffer trains them in rounds."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from ..data.batch import EpisodeBatch
from ..modules.tokenizers.base import Tokenizer
from ..modules.world_models.base import Simulator
from .base import Learner
from .optimiser import AdamW


class TokenizerLearner(Learner):
    """Observations, one by one.

    Args:
        lr: learning rate. weight_decay: of AdamW. max_norm: largest norm of the gradient.
    """

    on_policy: ClassVar[bool] = False

    def __init__(
        self,
        tokenizer: Tokenizer,
        lr: float,
        weight_decay: float,
        max_norm: float,
        device: torch.device,
    ) -> None:
        super().__init__(device)
        self.tokenizer, self._max_norm = tokenizer.to(device), max_norm
        self.modules = {"tokenizer": tokenizer}
        learnt = list(tokenizer.parameters())
        if learnt:
            self.optimisers = [AdamW(learnt, lr=lr, weight_decay=weight_decay)]

    @property
    def learns(self) -> bool:
        """Whether there is anything to learn."""
        return bool(self.optimisers)

    def update(self, batch: EpisodeBatch, t_env: int) -> dict[str, Tensor]:
        """One step on the observations of all agents at every entry that exists."""
        first = torch.ones(batch.batch_size, 1, dtype=torch.bool, device=self.device)
        entries = torch.cat([first, batch.filled], dim=1)
        self.tokenizer.train()
        losses, metrics = self.tokenizer.losses(batch.obs[entries].flatten(0, 1))
        self.tokenizer.eval()
        loss = torch.stack([*losses.values()]).sum()
        norm = self.descend(loss, losses, self.optimisers, self._max_norm)
        return {"loss": loss, "grad_norm": norm, **metrics}


class SimulatorLearner(Learner):
    """Windows with codes.

    Args:
        lr: learning rate. weight_decay: of AdamW, on the weights of linear layers alone.
        max_norm: largest norm of the gradient.
    """

    on_policy: ClassVar[bool] = False

    def __init__(
        self,
        simulator: Simulator,
        lr: float,
        weight_decay: float,
        max_norm: float,
        device: torch.device,
    ) -> None:
        super().__init__(device)
        self.simulator, self._max_norm = simulator.to(device).eval(), max_norm
        self.modules = {"simulator": simulator}
        decayed = [m.weight for m in simulator.modules() if isinstance(m, nn.Linear)]
        known = {id(p) for p in decayed}
        others = [p for p in simulator.parameters() if id(p) not in known]
        groups = [
            {"params": decayed, "weight_decay": weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        if decayed or others:
            self.optimisers = [AdamW(groups, lr=lr)]

    def update(self, batch: EpisodeBatch, t_env: int) -> dict[str, Tensor]:
        """One step on windows."""
        self.simulator.train()
        found = self.simulator.losses(batch)
        self.simulator.eval()
        loss = torch.stack([*found.losses.values()]).sum()
        norm = self.descend(loss, found.losses, self.optimisers, self._max_norm)
        named = {f"loss_{name}": value for name, value in found.losses.items()}
        return {"loss": loss, "grad_norm": norm, **named, **found.metrics}
