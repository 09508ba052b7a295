"""State spaces one above the other: whole rows by convolution, single steps by recurrence.

Axes: M rows, L steps, H features, N states, K layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .s4 import SSM, Stepping, convolve, spectrum_of


class Passed(NamedTuple):
    """What comes out of a stack for the rows of one agent."""

    features: Tensor  # (M, L, H)
    memory: Tensor | None  # (M, L, H) mean of the last layer's states, where it was asked for


class Through(Protocol):
    """A way through a stack for the rows of I agents, which go one after the other."""

    def __call__(self, x: Tensor, i: int) -> Passed:
        """Of the inputs (M, L, H) of agent ``i``."""
        ...

    def behind(self) -> Tensor | None:
        """States (M, I, K, H, N/2) behind the rows of all agents, where they are made."""
        ...


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

    def step(self, x: Tensor, before: Tensor, how: Stepping) -> tuple[Tensor, Tensor]:
        """Features (M, H) of x (M, H), and the states (M, H, N/2) after."""
        y, states = self.ssm.step(self.norm(x), before, how)
        return self._shaped(y, x), states

    def _shaped(self, y: Tensor, x: Tensor) -> Tensor:
        y = F.gelu(self.linear(F.gelu(y)))
        return x + y if self._skip else y


class AtOnce:
    """Whole rows by convolution; no states are made behind them.

    Args:
        layers: of the stack.
        steps: L.
        before: (M, I, K, H, N/2) states before the rows; None: they have seen nothing.
        memory: the mean of states is asked for.
    """

    def __init__(
        self, layers: Sequence[Layer], steps: int, before: Tensor | None, *, memory: bool
    ) -> None:
        self._layers, self._before = layers, before
        self._kernels = [
            layer.kernels(steps, memory=memory and layer is layers[-1], goes_on=before is not None)
            for layer in layers
        ]

    def __call__(self, x: Tensor, i: int) -> Passed:
        """See :class:`Through`."""
        mean = None
        for k, layer in enumerate(self._layers):
            before = None if self._before is None else self._before[:, i, k]
            x, mean = layer.rows(x, self._kernels[k], before)
        return Passed(x, mean)

    def behind(self) -> None:
        """There are none."""
        return


class OneStep:
    """Rows of one step by recurrence.

    Args:
        layers: of the stack.
        before: (M, I, K, H, N/2) states before the step.
        memory: the mean of states is asked for.
    """

    def __init__(self, layers: Sequence[Layer], before: Tensor, *, memory: bool) -> None:
        self._layers, self._before, self._memory = layers, before, memory
        self._how = [layer.ssm.stepping() for layer in layers]
        self._after = torch.empty_like(before)

    def __call__(self, x: Tensor, i: int) -> Passed:
        """See :class:`Through`."""
        y = x[:, 0]
        for k, (layer, how) in enumerate(zip(self._layers, self._how, strict=True)):
            y, states = layer.step(y, self._before[:, i, k], how)
            self._after[:, i, k] = states
        return Passed(y[:, None], SSM.memory_of(states)[:, None] if self._memory else None)

    def behind(self) -> Tensor:
        """See :class:`Through`."""
        return self._after


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

    def through(self, steps: int, before: Tensor | None, *, memory: bool) -> Through:
        """A way for rows of ``steps`` steps: by recurrence where they are one that begins with states.

        Args:
            before: (M, I, K, H, N/2) states before the rows of I agents; None: they have seen nothing.
            memory: the mean of states is asked for.
        """
        if steps == 1 and before is not None:
            return OneStep(self._each(), before, memory=memory)
        return AtOnce(self._each(), steps, before, memory=memory)

    def ssm_parameters(self) -> list[nn.Parameter]:
        """What is learnt of the state spaces themselves, see :meth:`~.s4.SSM.ssm_parameters`."""
        return [p for layer in self._each() for p in layer.ssm.ssm_parameters()]
