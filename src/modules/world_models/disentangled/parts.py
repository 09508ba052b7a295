"""A linear map of features that lie in several tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def linear_of_parts(
    layer: nn.Linear, parts: Sequence[Tensor], onto: Tensor | None = None
) -> Tensor:
    """``layer`` applied to ``parts`` (R, F_i) laid side by side, without laying them there.

    With ``onto``, that broadcasts to (R, out), this takes the place of the layer's bias.
    """
    weights = torch.split(layer.weight, [part.shape[1] for part in parts], dim=1)
    base = layer.bias if onto is None else onto
    total = torch.addmm(base, parts[0], weights[0].t())
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        total.addmm_(part, weight.t())
    return total
