"""A GRU over packed rows whose CPU path costs little more than its matrix products.

Axes: R packed rows (time by time, longest sequence first), S sequences, I input, H hidden.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import PackedSequence


class PackedGRU(nn.GRU):
    """One-layer GRU (Cho et al., 2014) with the parameters, and the results, of ``torch.nn.GRU``.

    On the CPU torch unrolls packed sequences into one autograd graph node per operation and step, and
    each step's gradient is written into a zeroed copy of the whole sequence: the backward pass grows with
    the square of the length. Here the recurrence is one node, rows of finished sequences drop out, and
    weight gradients are single products after the loop. On CUDA torch's own kernel is used.
    """

    weight_ih_l0: Tensor
    weight_hh_l0: Tensor
    bias_ih_l0: Tensor
    bias_hh_l0: Tensor

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)

    def run(self, x: Tensor, start: Tensor, sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Hidden state after every row, and after the last row of every sequence.

        Args:
            x: (R, I) packed input.
            start: (S, H) hidden state before the first row.
            sizes: rows at each time, never rising; the first is S, their sum R.

        Returns:
            (R, H) and (S, H).
        """
        weights = (self.weight_ih_l0, self.weight_hh_l0, self.bias_ih_l0, self.bias_hh_l0)
        if len(sizes) == 1:  # acting: no recurrence, so nothing to save on
            hidden = torch.gru_cell(x, start, *weights)
            return hidden, hidden
        if x.is_cuda:
            packed = PackedSequence(x, torch.tensor(sizes))
            (rows, *_), last = self(packed, start[None])
            return rows, last[0]
        rows = recurrence(x, start, *weights, tuple(sizes))
        return rows, rows.index_select(0, _last_rows(sizes))


def _last_rows(sizes: Sequence[int]) -> Tensor:
    """(S,) row at which each sequence ends."""
    counts = torch.tensor(sizes)
    ends = counts.cumsum(0)
    following = torch.cat([counts[1:], counts.new_zeros(1)])
    # Sequences following[t] .. counts[t] - 1 end at time t; later ones come first.
    parts = [
        torch.arange(end - ending, end)
        for end, ending in zip(ends.tolist(), (counts - following).tolist(), strict=True)
        if ending
    ]
    return torch.cat(parts[::-1])


def recurrence(
    x: Tensor,
    start: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor,
    b_hh: Tensor,
    sizes: tuple[int, ...],
) -> Tensor:
    """Hidden states (R, H) of a GRU over packed rows ``x`` (R, I), see :class:`PackedGRU`.

    The weights are those of ``torch.nn.GRU``: gates r, z, n stacked along the first axis, with
    ``h' = (1 - z) * n + z * h`` and ``n = tanh(W_in x + b_in + r * (W_hn h + b_hn))``.
    """
    rows: Tensor = _Recurrence.apply(  # type: ignore[no-untyped-call]
        x, start, w_ih, w_hh, b_ih, b_hh, sizes
    )
    return rows


class _Recurrence(torch.autograd.Function):
    """Forward and backward loops over time, everything else outside of them."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        start: Tensor,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor,
        b_hh: Tensor,
        sizes: tuple[int, ...],
    ) -> Tensor:
        H = start.shape[1]
        # The hidden side's r and z biases are constants of the step, so they join the input side's.
        bias = b_ih + torch.cat([b_hh[: 2 * H], b_hh.new_zeros(H)])
        gates = torch.addmm(bias, x, w_ih.t())  # (R, 3H), becomes r, z, n in place
        new_h = x.new_empty(x.shape[0], H)  # W_hn h + b_hn
        out = x.new_empty(x.shape[0], H)
        w_rz, w_n, b_n = w_hh[: 2 * H].t(), w_hh[2 * H :].t(), b_hh[2 * H :]
        h, at = start, 0
        for size in sizes:
            rows = slice(at, at + size)
            h = h[:size]
            gate, hidden_n = gates[rows], new_h[rows]
            rz, n = gate[:, : 2 * H], gate[:, 2 * H :]
            rz.addmm_(h, w_rz).sigmoid_()
            torch.addmm(b_n, h, w_n, out=hidden_n)
            n.addcmul_(rz[:, :H], hidden_n)
            # tanh(a) = 2 sigmoid(2a) - 1: torch's CPU sigmoid is ten times faster than its tanh.
            n.mul_(2).sigmoid_().mul_(2).sub_(1)
            h = torch.lerp(n, h, rz[:, H:], out=out[rows])
            at += size
        ctx.save_for_backward(x, start, w_ih, w_hh, gates, new_h, out)
        ctx.sizes = sizes
        return out

    @staticmethod
    @once_differentiable  # type: ignore[no-untyped-call, untyped-decorator, unused-ignore]
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        x, start, w_ih, w_hh, gates, new_h, out = ctx.saved_tensors
        sizes: tuple[int, ...] = ctx.sizes
        H, S = start.shape[1], sizes[0]
        grad_h = torch.cat([torch.zeros_like(start), grad_out])  # of start, then of every row
        grad_hidden = torch.empty_like(gates)  # of W_hh h: gates r, z before the sigmoid, new_h
        grad_n = torch.empty_like(out)  # of n before the tanh
        before = torch.cat([start, out])
        # The rows of time t are entered with the states that begin at entered[t] in ``before``.
        entered = [0, *itertools.accumulate(sizes[:-1], initial=S)][: len(sizes)]
        work = torch.empty_like(start)
        at = x.shape[0]
        for t in range(len(sizes) - 1, -1, -1):
            size = sizes[t]
            at -= size
            rows = slice(at, at + size)
            earlier = slice(entered[t], entered[t] + size)
            grad = grad_h[S + at : S + at + size]
            gate, hidden = gates[rows], grad_hidden[rows]
            r, z, n = gate[:, :H], gate[:, H : 2 * H], gate[:, 2 * H :]
            space, pre_n = work[:size], grad_n[rows]

            torch.sub(before[earlier], n, out=space).mul_(grad)
            torch.ops.aten.sigmoid_backward(space, z, grad_input=hidden[:, H : 2 * H])
            torch.addcmul(grad, grad, z, value=-1, out=space)
            torch.ops.aten.tanh_backward(space, n, grad_input=pre_n)
            torch.mul(pre_n, new_h[rows], out=space)
            torch.ops.aten.sigmoid_backward(space, r, grad_input=hidden[:, :H])
            torch.mul(pre_n, r, out=hidden[:, 2 * H :])
            grad_h[earlier].addcmul_(grad, z).addmm_(hidden, w_hh)

        index = [torch.arange(e, e + size) for e, size in zip(entered, sizes, strict=True)]
        h_before = before.index_select(0, torch.cat(index))
        grad_rz = grad_hidden[:, : 2 * H]
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = torch.mm(grad_rz, w_ih[: 2 * H]).addmm_(grad_n, w_ih[2 * H :])
        grad_w_ih = torch.cat([grad_rz.t() @ x, grad_n.t() @ x])
        grad_b_hh = grad_hidden.sum(dim=0)
        grad_b_ih = torch.cat([grad_b_hh[: 2 * H], grad_n.sum(dim=0)])
        grad_w_hh = grad_hidden.t() @ h_before
        return grad_x, grad_h[:S], grad_w_ih, grad_w_hh, grad_b_ih, grad_b_hh, None
