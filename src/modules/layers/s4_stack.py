"""State spaces one above the other: whole rows by convolution, single steps by recurrence.

Axes: M rows, L steps, H features, N states, K layers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .s4 import SSM, System, convolve, spectrum_of


class Passed(NamedTuple):
    """What comes out of a stack."""

    features: Tensor  # (M, L, H)
    memory: (
        Tensor | None
    )  # (M, L, H) mean of the last layer's states at each step, where it was asked for
    states: Tensor | None  # (M, K, H, N/2) of all layers behind the last step, where they were made


Through = Callable[[Tensor, Tensor | None], Passed]
"""A way through a stack: of inputs (M, L, H), and states (M, K, H, N/2) before them or None."""


class Kernels(NamedTuple):
    """What rows of L steps need of one state space; made once, however many rows there are."""

    outputs: Tensor  # spectrum of what inputs do to outputs
    memory: Tensor | None  # the same of the mean over states
    fading: Tensor | None  # (H, N/2, L) what outputs have of the states before a row
    memory_fading: Tensor | None  # the same of the mean over states


class Layer(nn.Module):
    """``GELU(linear(GELU(ssm(x))))``, with a norm before it and what came in added to it on request.

    Args:
        features: H.
        states: N.
        norm: layer norm of what comes in.
        skip: add what came in to what goes out.
        ssm: further arguments of the :class:`~.s4.SSM`.
    """

    def __init__(self, features: int, states: int, *, norm: bool, skip: bool, **ssm: Any) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features) if norm else nn.Identity()
        self.ssm = SSM(features, states, **ssm)
        self.linear = nn.Linear(features, features)
        self._skip = skip

    def kernels(self, steps: int, *, memory: bool, goes_on: bool) -> Kernels:
        """See :class:`Kernels`; ``goes_on`` where rows begin with states, ``memory`` if it is asked for."""
        ssm = self.ssm
        return Kernels(
            spectrum_of(ssm.kernel(steps)),
            spectrum_of(ssm.memory_kernel(steps)) if memory else None,
            ssm.fading(steps) if goes_on else None,
            ssm.fading(steps, memory=True) if memory and goes_on else None,
        )

    def rows(
        self, x: Tensor, kernels: Kernels, before: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Features (M, L, H) of x (M, L, H), and the states' means (M, L, H) where they are asked for.

        Args:
            before: (M, H, N/2) states before the rows; None: they have seen nothing.
        """
        u = self.norm(x).mT  # (M, H, L)
        y = self.ssm.conv(u, kernels.outputs)
        memory = None if kernels.memory is None else convolve(u, kernels.memory)
        if before is not None:
            assert kernels.fading is not None
            y = y + SSM.faded(before, kernels.fading)
            if memory is not None:
                assert kernels.memory_fading is not None
                memory = memory + SSM.faded(before, kernels.memory_fading)
        return self._shaped(y.mT, x), None if memory is None else memory.mT

    def step(self, x: Tensor, before: Tensor, system: System) -> tuple[Tensor, Tensor]:
        """Features (M, H) of x (M, H), and the states (M, H, N/2) after."""
        y, states = self.ssm.step(self.norm(x), before, system)
        return self._shaped(y, x), states

    def _shaped(self, y: Tensor, x: Tensor) -> Tensor:
        y = F.gelu(self.linear(F.gelu(y)))
        return x + y if self._skip else y


class Stack(nn.Module):
    """Layers one above the other.

    Args:
        features: H.
        states: N.
        layers: K.
        layer: further arguments of each :class:`Layer`.
    """

    def __init__(self, features: int, states: int, layers: int, **layer: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(features, states, **layer) for _ in range(layers))
        self._shape = (layers, features, states // 2)

    def _each(self) -> list[Layer]:
        return cast(list[Layer], list(self.layers))

    def begin(self, rows: int, device: torch.device) -> Tensor:
        """States (M, K, H, N/2) that have seen nothing."""
        return torch.zeros((rows, *self._shape), dtype=torch.complex64, device=device)

    def at_once(self, steps: int, *, memory: bool, goes_on: bool) -> Through:
        """A way for rows of ``steps`` steps, by convolution; it makes no states behind them.

        Args:
            memory: the mean of states is asked for.
            goes_on: rows begin with states.
        """
        last = len(self.layers) - 1
        kernels = [
            layer.kernels(steps, memory=memory and k == last, goes_on=goes_on)
            for k, layer in enumerate(self._each())
        ]

        def through(x: Tensor, before: Tensor | None) -> Passed:
            mean = None
            for k, layer in enumerate(self._each()):
                x, mean = layer.rows(x, kernels[k], None if before is None else before[:, k])
            return Passed(x, mean, None)

        return through

    def step_by_step(self) -> Through:
        """A way for single steps (L = 1) that begin with states, by recurrence."""
        systems = [layer.ssm.system() for layer in self._each()]

        def through(x: Tensor, before: Tensor | None) -> Passed:
            assert before is not None
            y, after = x[:, 0], []
            for k, layer in enumerate(self._each()):
                y, states = layer.step(y, before[:, k], systems[k])
                after.append(states)
            memory = SSM.memory_of(after[-1])
            return Passed(y[:, None], memory[:, None], torch.stack(after, dim=1))

        return through

    def ssm_parameters(self) -> list[nn.Parameter]:
        """What is learnt of the state spaces themselves, see :meth:`~.s4.SSM.ssm_parameters`."""
        return [p for layer in self._each() for p in layer.ssm.ssm_parameters()]
