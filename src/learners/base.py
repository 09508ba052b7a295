"""What all learning rules have in common: counting, descending, refusing to diverge, and continuing."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from ..data.batch import EpisodeBatch
from ..errors import ConfigError, DivergedError
from .sums import MetricSums

Network = TypeVar("Network", bound=nn.Module)


class Learner(ABC):
    """From a batch of episodes to gradient steps.

    A learner puts all its networks, target copies too, into :attr:`modules` and its optimisers into
    :attr:`optimisers`; that is all :meth:`state_dict` needs.

    Attributes:
        on_policy: it learns from what the policy as it is has just done, not from a replay.
        modules: networks and whatever else has parameters or buffers, by name.
        optimisers: each of its own parameters.
        generators: what random draws come from, by name.
        n_updates: batches learnt from so far.
    """

    on_policy: ClassVar[bool]

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.modules: dict[str, nn.Module] = {}
        self.optimisers: list[torch.optim.Optimizer] = []
        self.generators: dict[str, torch.Generator] = {}
        self.n_updates = 0
        self._metrics = MetricSums()

    @abstractmethod
    def update(self, batch: EpisodeBatch, t_env: int) -> dict[str, Tensor]:
        """Learn from ``batch``, which is complete after ``t_env`` environment steps.

        Returns:
            Metrics as scalars on the device.
        """

    def learn(self, batch: EpisodeBatch, t_env: int) -> dict[str, Tensor]:
        """One update.

        Returns:
            Its metrics as scalars on the device. Training only adds them up; :meth:`metrics` gives means.

        Raises:
            DivergedError: a loss or a gradient is not finite. The step it belongs to is not taken.
        """
        try:
            metrics = self.update(batch, t_env)
        except _NotFiniteError as fault:
            raise DivergedError(
                f"training has diverged: in update {self.n_updates + 1}, with the run's clock at {t_env}, "
                f"{fault}. {_inputs(batch)} That step was not taken and no weight was spoilt. Try a smaller "
                "learning rate (lr) or grad_norm_clip, or rewards of about unit size."
            ) from None
        self.n_updates += 1
        return self._metrics.add(metrics)

    def descend(
        self,
        loss: Tensor,
        parts: Mapping[str, Tensor],
        optimisers: Sequence[torch.optim.Optimizer],
        max_norm: float,
    ) -> Tensor:
        """One gradient step of each of ``optimisers``, or of none if anything is not finite.

        Args:
            loss: () what is descended.
            parts: what it is made of, to name what is wrong with it.
            max_norm: largest norm of each optimiser's gradient.

        Returns:
            () norm of the first one's gradient, before it was cut.
        """
        for optimiser in optimisers:
            optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norms = []
        try:
            for optimiser in optimisers:
                # Refuses before it scales anything, so the gradients still show where the fault is.
                norm = nn.utils.clip_grad_norm_(
                    _parameters(optimiser), max_norm, error_if_nonfinite=True
                )
                norms.append(norm)
            finite = bool(loss.isfinite())
        except RuntimeError:
            finite = False
        if not finite:
            raise _NotFiniteError(self._fault(loss, parts))
        for optimiser in optimisers:
            optimiser.step()
        return norms[0]

    def refuse_unless_finite(self, name: str, numbers: Tensor) -> None:
        """Stop the update before ``numbers`` are taken into something that no gradient step guards."""
        if not numbers.isfinite().all():
            raise _NotFiniteError(f"{name} are not finite")

    def _fault(self, loss: Tensor, parts: Mapping[str, Tensor]) -> str:
        """Which part of the loss is not finite, or else whose gradient."""
        for name, part in {**parts, "as a whole": loss}.items():
            if not part.isfinite():
                return f"loss {name} is {part.item()}"
        for owner, module in self.modules.items():
            for name, parameter in module.named_parameters():
                if parameter.grad is not None and not parameter.grad.isfinite().all():
                    return f"the gradient of {owner} ({name}) is not finite"
        return "the norm of the gradient is not finite"

    def go_on_from(self, earlier: Learner) -> None:
        """Take over what an earlier phase's learner knew of the parts that both have.

        That is the scale of a critic's values; weights are in the parts, and optimisers begin anew.

        Raises:
            ConfigError: the critic learnt in another scale than it would be read in.
        """
        critic = self.modules.get("critic")
        if critic is None or critic is not earlier.modules.get("critic"):
            return
        mine, theirs = self.modules.get("value_norm"), earlier.modules.get("value_norm")
        if type(mine) is not type(theirs):
            raise ConfigError(
                f"the critic goes on from one phase to the next, where its values are read in another scale "
                f"({type(theirs).__name__}, then {type(mine).__name__}). Choose the same value_norm, "
                "valuenorm being bc's, or another critic for one of the phases."
            )
        if mine is not None and theirs is not None:
            mine.load_state_dict(theirs.state_dict())

    def metrics(self) -> dict[str, float]:
        """Means over the updates since the last call; waits for the device."""
        return self._metrics.means()

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue bit for bit."""
        return {
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "generators": {name: drawn.get_state() for name, drawn in self.generators.items()},
            "n_updates": self.n_updates,
            "metrics": self._metrics.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state_dict`."""
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        for name, generator in self.generators.items():
            generator.set_state(state["generators"][name])
        self.n_updates = state["n_updates"]
        self._metrics.load_state_dict(state["metrics"], self.device)


def frozen_copy(module: Network) -> Network:
    """A copy that gets no gradient: a target network."""
    return copy.deepcopy(module).requires_grad_(False)


def frozen_copies(*modules: Any) -> Any:
    """Copies without gradient of modules that may know each other: the copies know the copies."""
    copies = copy.deepcopy(modules)
    for module in copies:
        module.requires_grad_(False)
    return copies


class _NotFiniteError(Exception):
    """What is not finite; :meth:`Learner.learn` adds when and what to try."""


def _parameters(optimiser: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [p for group in optimiser.param_groups for p in group["params"]]


def _inputs(batch: EpisodeBatch) -> str:
    """What a batch has to do with it."""
    spoilt = [n for n in ("obs", "state", "reward") if not getattr(batch, n).isfinite().all()]
    if spoilt:
        return f"The batch itself is not finite: {', '.join(spoilt)}."
    if not batch.reward.numel():
        return "The batch itself is finite."
    return (
        f"Rewards of this batch lie between {batch.reward.min():.4g} and {batch.reward.max():.4g}."
    )
