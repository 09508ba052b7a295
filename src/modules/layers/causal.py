"""Layers over time in which each step sees the last C steps: whole rows at once, or step by step.

Axes: M rows, T steps, P tokens of a step, D width, C context.

Each block remembers what its mixer was given in the last C - 1 steps. Time is told by the tokens, as absolute
steps, and not by the place within a window, so one pass over a row is what acting step by step gives. A
sliding window with places of its own has no such form: there every step costs a whole pass.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import Attention, Folded, gaussian_linear


@dataclass(frozen=True)
class Band:
    """Which tokens see which: those of the last C steps, and of their own step up to themselves.

    A row is cut into n stretches of Q steps, each of which looks at its own steps and the C - 1 before them,
    so that work grows with T C and not with the square of T.

    Attributes:
        context: C.
        steps: T.
        tokens: P.
        asked: R, the last tokens of each step, for which something is asked.
        seen: (M,) steps before the row, of which the last C - 1 are remembered; None: there are none.
        device: where masks are made.
    """

    context: int
    steps: int
    tokens: int
    asked: int
    seen: Tensor | None
    device: torch.device

    @property
    def before(self) -> int:
        """Steps that stand before the row's own: C - 1, or 0 where none were and no stretch needs them."""
        return 0 if self.seen is None and self.steps <= self.context else self.context - 1

    @property
    def stretch(self) -> int:
        """Q."""
        return min(self.steps, self.context)

    @property
    def stretches(self) -> int:
        """n."""
        return -(-self.steps // self.stretch)

    def asking(self, x: Tensor) -> Tensor:
        """The tokens of each stretch that ask, (M, n, Q R, D) of x (M, before + T, P, D); zeros beyond T."""
        own = self._filled_up(x[:, self.before :, -self.asked :])
        return rearrange(own, "m (n q) r d -> m n (q r) d", n=self.stretches)

    def visible(self, x: Tensor) -> Tensor:
        """The tokens each stretch looks at, (M, n, S, D) of x (M, before + T, P, D), S = (before + Q) P."""
        windows = self._filled_up(x).unfold(1, self.before + self.stretch, self.stretch)
        return rearrange(windows, "m n p d l -> m n (l p) d")

    def put_together(self, x: Tensor) -> Tensor:
        """What came of :meth:`asking` (M, n, Q R, D), as (M, T, R, D)."""
        return rearrange(x, "m n (q r) d -> m (n q) r d", q=self.stretch)[:, : self.steps]

    def _filled_up(self, x: Tensor) -> Tensor:
        spare = self.stretches * self.stretch - self.steps
        return F.pad(x, (0, 0, 0, 0, 0, spare)) if spare else x

    @cached_property
    def mask(self) -> Tensor:
        """(1 or M, n, Q R, S) bool: what each token that asks sees, at least itself."""
        steps = torch.arange(-self.before, self.stretch, device=self.device)
        tokens = torch.arange(self.tokens, device=self.device)
        step, token = (x.flatten() for x in torch.meshgrid(steps, tokens, indexing="ij"))
        asks = (step >= 0) & (token >= self.tokens - self.asked)
        age, later = step[asks, None] - step, token > token[asks, None]
        sees = (age > 0) & (age < self.context) | (age == 0) & ~later
        if not self.before:
            return sees[None, None]
        first = torch.arange(self.stretches, device=self.device)[:, None] * self.stretch
        known = first.new_zeros(1) if self.seen is None else self.seen
        exists = first + step >= -known[:, None, None]  # (1 or M, n, S)
        return sees & exists[:, :, None]

    @cached_property
    def bias(self) -> Tensor:
        """The :attr:`mask` as what is added to scores: 0 or minus infinity."""
        return torch.zeros(self.mask.shape, device=self.device).masked_fill_(~self.mask, -torch.inf)


class Mixer(nn.Module, ABC):
    """How a trunk's tokens know of earlier ones.

    Attributes:
        context: C, steps a step sees, its own included.
    """

    context: int

    @abstractmethod
    def forward(self, x: Tensor, band: Band) -> tuple[Tensor, Tensor | None]:
        """What each token that asks takes of those it sees.

        Args:
            x: (M, before + T, P, D) tokens of the steps before the row and of its own; zeros where nothing
                was.
            band: who sees whom.

        Returns:
            (M, T, R, D), and (M, T, R) what is to be kept small about it, or None.
        """


class BandedAttention(Mixer):
    """Attention to the last C steps.

    Args:
        width: D.
        heads: they divide D.
        context: C.
    """

    def __init__(self, width: int, heads: int, context: int) -> None:
        super().__init__()
        self.attention, self.context = Attention(width, width, width, heads), context

    def forward(self, x: Tensor, band: Band) -> tuple[Tensor, None]:
        """See :meth:`Mixer.forward`."""
        return self._one_step(x, band) if band.steps == 1 else self._steps(x, band), None

    def _steps(self, x: Tensor, band: Band) -> Tensor:
        layer, n = self.attention, band.stretches
        keys, values = (band.visible(y).flatten(0, 1) for y in (layer.key(x), layer.value(x)))
        queries = layer.query(band.asking(x)).flatten(0, 1)
        mask = band.mask.expand(len(x), n, -1, -1).flatten(0, 1)[:, None]
        taken = layer.look(queries, keys, values, mask)
        return band.put_together(rearrange(taken, "(m n) l d -> m n l d", n=n))

    def _one_step(self, x: Tensor, band: Band) -> Tensor:
        """The same for T = 1: no keys and values are made of what was seen before."""
        folded, heads, R = Folded(self.attention), self.attention.heads, band.asked
        seen = x.flatten(1, 2)  # (M, S, D)
        queries = F.linear(seen[:, -R:], folded.query[0], folded.query_bias[0])
        queries = rearrange(queries, "m r (h d) -> m (r h) d", h=heads)
        bias = band.bias[:, 0].repeat_interleave(heads, dim=1)  # (1 or M, R h, S)
        weights = torch.baddbmm(bias, queries, seen.mT).softmax(dim=-1)
        taken = rearrange(torch.bmm(weights, seen), "m (r h) d -> m r (h d)", h=heads)
        return (taken @ folded.out[0] + folded.out_bias[0])[:, None]


class Block(nn.Module):
    """``x + mixer(LN(x))``, then ``x + MLP(LN(x))`` (Radford et al., 2019).

    Args:
        width: D.
        mixer: makes what mixes tokens, of this width.
        expansion: hidden units of the MLP, in multiples of D.
    """

    def __init__(self, width: int, mixer: Callable[[int], Mixer], expansion: int) -> None:
        super().__init__()
        self.norm1, self.mixer, self.norm2 = nn.LayerNorm(width), mixer(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            gaussian_linear(width, expansion * width),
            nn.GELU(),
            gaussian_linear(expansion * width, width),
        )

    def forward(self, x: Tensor, past: Tensor, band: Band) -> tuple[Tensor, Tensor, Tensor | None]:
        """One block.

        Args:
            x: (M, T, P, D).
            past: (M, before, P, D) what the mixer was given before.
            band: who sees whom.

        Returns:
            (M, T, R, D) of the tokens that ask, what the mixer was given so far, (M, before + T, P, D), and
            its cost, see :meth:`Mixer.forward`.
        """
        given = torch.cat([past, self.norm1(x)], dim=1)
        taken, cost = self.mixer(given, band)
        x = x[:, :, -band.asked :] + taken
        return x + self.mlp(self.norm2(x)), given, cost


class TrunkOutput(NamedTuple):
    """What a trunk makes of rows of steps."""

    features: Tensor  # (M, T, R, D)
    memory: list[Tensor]  # (M, C - 1, P, D) of each block, behind the last step
    costs: list[Tensor | None]  # (M, T, R) of each block's mixer; R = P but in the last block


class Trunk(nn.Module):
    """Blocks over time with a norm behind them, which tell the last R tokens of each step what they see.

    Args:
        width: D.
        blocks: how many.
        mixer: makes what mixes tokens in each block, of this width; all have the same context.
        read: R, tokens of a step whose features are wanted; None: all.
        expansion: hidden units of the blocks' MLPs, in multiples of D.
    """

    def __init__(
        self,
        width: int,
        blocks: int,
        mixer: Callable[[int], Mixer],
        *,
        read: int | None = None,
        expansion: int = 2,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, mixer, expansion) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.width, self.read = width, read
        first = self.blocks[0].mixer
        assert isinstance(first, Mixer)
        self.context = first.context

    def begin(self, rows: int, tokens: int, device: torch.device) -> list[Tensor]:
        """What each block remembers at the start of rows, (M, C - 1, P, D): zeros, as nothing is seen yet."""
        shape = (rows, self.context - 1, tokens, self.width)
        return [torch.zeros(shape, device=device) for _ in self.blocks]

    def forward(
        self, x: Tensor, past: Sequence[Tensor] | None = None, seen: Tensor | None = None
    ) -> TrunkOutput:
        """Features of rows of steps.

        Args:
            x: (M, T, P, D) tokens.
            past: what each block remembers, (M, C - 1, P, D), of :meth:`begin` or this; None: nothing.
            seen: (M,) steps that have gone into ``past``; given with it.
        """
        M, T, P, _ = x.shape
        band = Band(self.context, T, P, P, seen, x.device)
        last = Band(self.context, T, P, self.read or P, seen, x.device)
        if past is None:
            past = [x.new_zeros(M, band.before, P, self.width)] * len(self.blocks)
        memory, costs = [], []
        for i, (block, before) in enumerate(zip(self.blocks, past, strict=True)):
            x, given, cost = block(x, before, last if i == len(self.blocks) - 1 else band)
            missing = self.context - 1 - given.shape[1]
            given = F.pad(given, (0, 0, 0, 0, missing, 0)) if missing > 0 else given
            memory.append(given[:, given.shape[1] - (self.context - 1) :])
            costs.append(cost)
        return TrunkOutput(self.norm(x), memory, costs)

    def step(self, x: Tensor, past: Sequence[Tensor], seen: Tensor) -> tuple[Tensor, list[Tensor]]:
        """One step (M, P, D), see :meth:`forward`: (M, R, D), and what is remembered behind it."""
        features, memory, _ = self(x[:, None], past, seen)
        return features[:, 0], memory
