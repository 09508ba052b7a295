"""The steps of our optimisers, and what they store."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import phalanx.learners.optimiser as optimiser_module
from phalanx.learners.optimiser import Adam, AdamW, RMSprop

LR, EPS = 0.1, 1e-5
GRADIENTS = torch.tensor([[1.0, -2.0], [0.5, 3.0], [-4.0, 0.0]])


def adam(gradients: Sequence[torch.Tensor], decay: float = 0) -> torch.Tensor:
    """Kingma and Ba, 2015, algorithm 1, at 0.9 and 0.999: what is added to the parameters in all.

    With ``decay`` as Loshchilov and Hutter, 2019, algorithm 2, have it.
    """
    moved, m, v = torch.zeros(2), torch.zeros(2), torch.zeros(2)
    for t, gradient in enumerate(gradients, 1):
        moved *= 1 - LR * decay
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        moved -= LR * m / (1 - 0.9**t) / ((v / (1 - 0.999**t)).sqrt() + EPS)
    return moved


def rmsprop(gradients: Sequence[torch.Tensor]) -> torch.Tensor:
    """A running mean of squares at 0.99 divides each gradient."""
    moved, v = torch.zeros(2), torch.zeros(2)
    for gradient in gradients:
        v = 0.99 * v + 0.01 * gradient**2
        moved -= LR * gradient / (v.sqrt() + EPS)
    return moved


@pytest.mark.parametrize(
    ("optimiser", "formula"),
    [(Adam, adam), (AdamW, partial(adam, decay=0.01)), (RMSprop, rmsprop)],
)
def test_steps_are_the_papers_and_go_on_from_what_was_stored(
    optimiser: Any, formula: Callable[[Sequence[torch.Tensor]], torch.Tensor]
) -> None:
    weights = torch.zeros(2, requires_grad=True)
    descent = optimiser([{"params": [weights], "initial_lr": LR}], lr=LR, eps=EPS)
    for gradient in GRADIENTS[:2]:
        descent.zero_grad()
        assert weights.grad is None
        (weights * gradient).sum().backward()
        descent.step()
    stored = descent.state_dict()
    assert stored["param_groups"][0]["initial_lr"] == LR
    again = optimiser([weights], lr=1.0)
    again.load_state_dict(stored)
    again.zero_grad()
    (weights * GRADIENTS[2]).sum().backward()
    again.step()
    assert weights.requires_grad
    assert torch.is_grad_enabled()
    torch.testing.assert_close(weights.detach(), formula(GRADIENTS))


@pytest.mark.parametrize("optimiser", [Adam, AdamW, RMSprop])
def test_what_wraps_torchs_optimisers_is_gone(optimiser: Any) -> None:
    """Or torch._dynamo is imported, for five seconds at the start of each process."""
    for name in ("add_param_group", "load_state_dict", "state_dict", "zero_grad"):
        method = getattr(optimiser, name)
        assert inspect.unwrap(method) is method


def test_learners_make_no_other_optimisers() -> None:
    for file in Path(optimiser_module.__file__).parent.glob("*.py"):
        assert not re.search(r"optim\.\w+\(", file.read_text("utf-8")), file.name
