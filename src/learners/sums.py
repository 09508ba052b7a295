"""Losses that are added up with weights; metrics that are added up on the device and read rarely."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def weighted_sum(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor | float:
    """Sum of ``losses`` times their ``weights``; 0 when there are none.

    Raises:
        ValueError: the two do not have the same names; a misspelt weight is no silent zero.
    """
    if losses.keys() != weights.keys():
        raise ValueError(
            f"losses {sorted(losses)} and their weights {sorted(weights)} differ in name"
        )
    return sum((weights[name] * loss for name, loss in losses.items()), start=0.0)


class MetricSums:
    """Means over what was added; reading them is the only thing that waits for the device."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._summed = 0

    def add(self, metrics: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add one update's scalars; returns them without gradient."""
        plain = {name: value.detach() for name, value in metrics.items()}
        for name, value in plain.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._summed += 1
        return plain

    def means_on_device(self) -> dict[str, Tensor]:
        """Means since the last call, without waiting for the device."""
        means = {name: total / self._summed for name, total in self._sums.items()}
        self._sums, self._summed = {}, 0
        return means

    def means(self) -> dict[str, float]:
        """Means since the last call."""
        return {name: float(mean) for name, mean in self.means_on_device().items()}

    def state_dict(self) -> dict[str, Any]:
        """Sums so far."""
        return {"sums": dict(self._sums), "summed": self._summed}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Undo :meth:`state_dict`."""
        self._sums = {name: total.to(device) for name, total in state["sums"].items()}
        self._summed = state["summed"]
