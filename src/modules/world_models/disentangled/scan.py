"""A posterior that feeds on its own last sample, step after step, as one node of the gradient's graph.

Each step is a handful of operations on a few rows, so that on a CPU starting them costs more than doing
them, and torch's graph of them costs twice that again. Here a step is as few operations as it can be, and
gradients of weights are single products after the loop.

Axes: P packed rows (time by time, longest sequence first), N agents, D hidden, Z latent.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...layers.gaussian import BOUND, LOW_LOGVAR, LOW_MEAN, SLOPE, Gaussian
from ...layers.packing import Packing


def graph_scan(
    drive: Tensor,
    smooth: Tensor,
    noise: Tensor | None,
    entering: tuple[Tensor, Tensor],
    leaving: tuple[Tensor, Tensor, Tensor],
    packing: Packing,
) -> tuple[Gaussian, Tensor]:
    """Posteriors over (P, N, Z) and their samples, or without ``noise`` their means, (P, N, Z).

    With v the sample of the step before (zeros at the start) and S the smoothing, a step is
    ``x = relu(drive + S v W + v U)``, then ``Gaussian.of(S x W' + x U' + b)``.

    Args:
        drive: (P, N, D) what does not depend on v. smooth: (P, N, N), symmetric.
        noise: (P, N, Z) standard normal.
        entering: W and U, (D, Z) each. leaving: W' and U', (2Z, D) each, and b (2Z,).
        packing: of the P rows.
    """
    mean, logvar, sample = _Scan.apply(  # type: ignore[no-untyped-call]
        drive, smooth, noise, *entering, *leaving, packing
    )
    return Gaussian(mean, logvar), sample


class _Scan(torch.autograd.Function):
    """Forward and backward loops over time, everything else outside of them."""

    @staticmethod
    def forward(
        ctx: Any,
        drive: Tensor,
        smooth: Tensor,
        noise: Tensor | None,
        w_in: Tensor,
        u_in: Tensor,
        w_out: Tensor,
        u_out: Tensor,
        b_out: Tensor,
        packing: Packing,
    ) -> tuple[Tensor, Tensor, Tensor]:
        (P, N, D), Z, sizes = drive.shape, w_in.shape[1], packing.sizes
        into = torch.cat([w_in, u_in]).t()  # (Z, 2D)
        # The sigmoid's slope is part of the weights.
        out_of = torch.cat([w_out, u_out]).mul(SLOPE).t()  # (D, 4Z)
        bias = b_out.mul(SLOPE)
        low = drive.new_tensor((LOW_MEAN, LOW_LOGVAR)).repeat_interleave(Z)
        x = torch.empty_like(drive)
        gate = drive.new_empty(P, N, 2 * Z)
        v = drive.new_zeros(sizes[0], N, Z)
        values = drive.new_empty(P, N, 2 * Z)
        sample = drive.new_empty(P, N, Z) if noise is not None else values[..., :Z]
        at = 0
        for size in sizes:
            rows = slice(at, at + size)
            at += size
            s = smooth[rows]
            y = v[:size].reshape(-1, Z).mm(into).view(size, N, 2 * D)
            hidden = torch.baddbmm(drive[rows], s, y[..., :D]).add_(y[..., D:]).relu_()
            x[rows] = hidden
            y = hidden.view(-1, D).mm(out_of).view(size, N, 4 * Z)
            code = torch.baddbmm(bias, s, y[..., : 2 * Z]).add_(y[..., 2 * Z :]).sigmoid_()
            gate[rows] = code
            value = torch.add(low, code, alpha=BOUND, out=values[rows])
            if noise is None:
                v = value[..., :Z]
            else:
                deviation = value[..., Z:].mul(0.5).exp_()
                v = torch.addcmul(value[..., :Z], deviation, noise[rows], out=sample[rows])
        mean, logvar = values[..., :Z], values[..., Z:]
        ctx.packing, ctx.noise = packing, noise
        ctx.save_for_backward(smooth, w_in, u_in, w_out, u_out, x, gate, logvar, sample)
        # Outputs of their own: a node may not return two views of one array.
        return mean.clone(), logvar.clone(), sample.clone()

    @staticmethod
    @once_differentiable  # type: ignore[no-untyped-call, untyped-decorator, unused-ignore]
    def backward(
        ctx: Any, grad_mean: Tensor, grad_logvar: Tensor, grad_sample: Tensor
    ) -> tuple[Tensor | None, ...]:
        smooth, w_in, u_in, w_out, u_out, x, gate, logvar, sample = ctx.saved_tensors
        packing: Packing = ctx.packing
        noise: Tensor | None = ctx.noise
        (P, N, D), Z = x.shape, w_in.shape[1]
        # What reaches the code of a row through its own mean and log-variance, and how the sample reaches it.
        slope = gate.mul(1 - gate).mul_(BOUND * SLOPE)
        grad_code = torch.cat([grad_mean, grad_logvar], dim=-1).mul_(slope)
        through = slope
        if noise is None:
            through[..., Z:] = 0
        else:
            through[..., Z:].mul_(noise).mul_(logvar.mul(0.5).exp_()).mul_(0.5)
        grad_v = grad_sample.clone()
        grad_x = torch.empty_like(x)  # before the relu: of drive too
        alive = x > 0
        back_out, back_in = torch.cat([w_out, u_out], dim=1), torch.cat([w_in, u_in], dim=1)
        at, later = P, 0
        reaching: Tensor | None = None  # gradient of the samples that entered the step after
        for size in reversed(packing.sizes):
            at -= size
            rows = slice(at, at + size)
            s, gv = smooth[rows], grad_v[rows]
            if reaching is not None:
                gv[:later] += reaching
            code = grad_code[rows]
            code.add_(through[rows] * torch.cat([gv, gv], dim=-1))
            y = code.view(-1, 2 * Z).mm(back_out).view(size, N, 2 * D)
            gx = torch.baddbmm(y[..., D:], s, y[..., :D]).mul_(alive[rows])
            grad_x[rows] = gx
            y = gx.view(-1, D).mm(back_in).view(size, N, 2 * Z)
            reaching = torch.baddbmm(y[..., Z:], s, y[..., :Z])
            later = size
        flat_code, flat_x, flat_grad = (
            grad_code.flatten(0, 1),
            x.flatten(0, 1),
            grad_x.flatten(0, 1),
        )
        entered = packing.shift(sample)
        smoothed_x = torch.bmm(smooth, x).flatten(0, 1)
        smoothed_v = torch.bmm(smooth, entered).flatten(0, 1)
        return (
            grad_x,
            None,
            None,
            flat_grad.t() @ smoothed_v,
            flat_grad.t() @ entered.flatten(0, 1),
            flat_code.t() @ smoothed_x,
            flat_code.t() @ flat_x,
            flat_code.sum(dim=0),
            None,
        )
