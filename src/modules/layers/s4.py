"""Structured state spaces (S4, S4D): whole rows by convolution, single steps by a recurrence of O(N).

    x' = A x + B u,  y = C x + D u,  of each of H features, with a state of N numbers and a step of its own.

Axes: M rows, L steps, H features, N states, half of which stand for conjugate pairs: sums over all states are
twice the real part of sums over these.

What is learnt is C, never a truncated form of it that belongs to one length (the published code's parameter,
which it rewrites when a longer row comes): a kernel is C applied to the states that follow an impulse, so
its first steps are the same for every length.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

Kernel = Literal["dplr", "s4d_legs", "s4d_lin"]
Discretisation = Literal["bilinear", "zoh"]
Trained = Literal["none", "dt", "all"]


def legs(states: int) -> tuple[Tensor, Tensor]:
    """HiPPO-LegS: A (N, N) and B (N,), by which states fit polynomials to all input (Gu et al., 2020)."""
    n = torch.arange(states, dtype=torch.float64)
    B = (2 * n + 1).sqrt()
    return -(torch.outer(B, B).tril(-1) + torch.diag(n + 1)), B


class Normal(NamedTuple):
    """HiPPO-LegS by its eigenvectors: ``A = V (diag(eigenvalues) - P P*) V*`` (Gu et al., 2022)."""

    eigenvalues: Tensor  # (N,) complex, conjugate pairs, real parts -1/2
    P: Tensor  # (N,) complex
    B: Tensor  # (N,) complex
    V: Tensor  # (N, N) complex


def normal_plus_low_rank(states: int) -> Normal:
    """See :class:`Normal`; the first half has the positive imaginary parts, rising."""
    A, B = legs(states)
    P = (torch.arange(states, dtype=torch.float64) + 0.5).sqrt()
    # A + P P^T is -1/2 plus a skew part, and i times that is Hermitian.
    S = A + torch.outer(P, P)
    values, V = torch.linalg.eigh((S - S.mT) / 2 * -1j)
    order = torch.cat([values.argsort()[states // 2 :], values.argsort()[: states // 2].flip(0)])
    values, V = values[order], V[:, order]
    # Eigenvectors of a pair are conjugate up to a phase of their own, which this makes the same.
    V[:, states // 2 :] = V[:, : states // 2].conj()
    P, B = (V.mH @ x.to(V.dtype) for x in (P, B))
    return Normal(torch.complex(torch.full_like(values, -0.5), values), P, B, V)


class System(NamedTuple):
    """A discrete state space ``x' = a x + b u - p r`` with ``r = q x + w u``, sums being over all states.

    The last three are there where A is diagonal but for a part of rank one. They are (H, N/2), complex, and w
    (H,), real.
    """

    a: Tensor
    b: Tensor
    p: Tensor | None = None
    q: Tensor | None = None
    w: Tensor | None = None

    def after_impulse(self) -> Tensor:
        """States (H, N/2) after an input of 1 that came upon nothing."""
        return self.b if self.p is None or self.w is None else self.b - self.p * self.w[:, None]

    def advance(self, x: Tensor) -> Tensor:
        """States (..., H, N/2) after x, without input."""
        after = self.a * x
        if self.p is None or self.q is None:
            return after
        return after - self.p * both(self.q * x)[..., None]

    def read_before(self, C: Tensor) -> Tensor:
        """What reads of states x what ``C`` (H, N/2) reads of those after x: sums over all states agree."""
        before = C * self.a
        if self.p is None or self.q is None:
            return before
        return before - self.q * both(C * self.p)[:, None]

    def to(self, dtype: torch.dtype) -> System:
        """In complex numbers of ``dtype``, and real ones as exact."""
        p, q, w = self.p, self.q, self.w
        if p is None or q is None or w is None:
            return System(self.a.to(dtype), self.b.to(dtype))
        real = torch.empty(0, dtype=dtype).real.dtype
        return System(self.a.to(dtype), self.b.to(dtype), p.to(dtype), q.to(dtype), w.to(real))


def discretised(
    eigenvalues: Tensor, B: Tensor, dt: Tensor, rule: Discretisation, P: Tensor | None = None
) -> System:
    """A system in steps of ``dt`` (H, 1), its continuous form being (N/2,).

    With P (N/2,) A is ``diag(eigenvalues) - P P*``. Its bilinear form ``(2 / dt - A)^-1 (2 / dt + A)`` is
    diagonal but for a rank of one as well, by Woodbury's identity.
    """
    if P is not None:
        solve = 1 / (2 / dt - eigenvalues)
        v = P.conj() * solve / (1 + both(P.abs() ** 2 * solve)[:, None])
        return System(
            a=solve * (2 / dt + eigenvalues),
            b=solve * 2 * B,
            p=solve * P,
            q=4 / dt * v,
            w=2 * both(v * B),
        )
    if rule == "bilinear":
        below = 1 - dt / 2 * eigenvalues
        return System((1 + dt / 2 * eigenvalues) / below, dt / below * B)
    a = (dt * eigenvalues).exp()
    return System(a, (a - 1) / eigenvalues * B)


class Stepping(NamedTuple):
    """What one step needs of a state space: ``y = reads x + gain u - loss r``, and its :class:`System`."""

    system: System
    reads: Tensor  # (H, N, R) of the states before as real numbers: the output and, where there is one, r
    gain: Tensor  # (H,)
    loss: Tensor | None  # (H,)


def _reading(*readers: Tensor) -> Tensor:
    """(H, N, R) by which real numbers are summed as ``both(reader * x)`` sums x, for readers (H, N/2)."""
    real = [torch.view_as_real(2 * reader.conj().resolve_conj()).flatten(-2) for reader in readers]
    return torch.stack(real, dim=-1)


def both(half: Tensor) -> Tensor:
    """Sum (...) over all states of numbers that are there for half of them, (..., N/2)."""
    return 2 * half.real.sum(dim=-1)


def spectrum_of(kernel: Tensor) -> Tensor:
    """Fourier transform of a kernel (H, L) in the length that :func:`convolve` needs."""
    spectrum: Tensor = torch.fft.rfft(kernel, n=_fast_length(2 * kernel.shape[-1]))
    return spectrum


def convolve(u: Tensor, spectrum: Tensor) -> Tensor:
    """Causal convolution (M, H, L) of u (M, H, L) with a kernel, given by its :func:`spectrum_of`."""
    L, n = u.shape[-1], 2 * (spectrum.shape[-1] - 1)
    y: Tensor = torch.fft.irfft(torch.fft.rfft(u, n=n) * spectrum, n=n)
    return y[..., :L]


def _fast_length(least: int) -> int:
    """The smallest even number from ``least`` on that has no prime factor above 5."""
    n = least + least % 2
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 2


class SSM(nn.Module):
    """One state space per feature.

    Args:
        features: H.
        states: N, even.
        kernel: dplr, HiPPO-LegS as it is (S4; Gu et al., 2022); s4d_legs, its normal part alone; s4d_lin,
            eigenvalues ``-1/2 + i pi n`` (S4D; Gu et al., 2022b).
        disc: from continuous time to steps; dplr is bilinear only.
        train_ssm: what is learnt besides C and D: nothing, the steps' sizes, or the eigenvalues, B and P too.

    Raises:
        ValueError: an odd number of states, or a kernel that cannot be discretised so.
    """

    log_dt: Tensor  # (H,)
    log_decay: Tensor  # (N/2,) of minus the eigenvalues' real parts, so that these stay negative
    frequency: Tensor  # (N/2,) their imaginary parts
    B: Tensor  # (N/2, 2), as real numbers
    P: Tensor  # (N/2, 2), where there is a rank one

    def __init__(
        self,
        features: int,
        states: int,
        *,
        kernel: Kernel = "dplr",
        disc: Discretisation = "bilinear",
        train_ssm: Trained = "none",
        dt_min: float = 0.001,
        dt_max: float = 0.1,
    ) -> None:
        super().__init__()
        if states % 2:
            raise ValueError(f"states come in conjugate pairs, so {states} of them are one too few")
        if kernel == "dplr" and disc == "zoh":
            raise ValueError(
                "kernel dplr has no step of O(N) under zoh: use disc=bilinear, or kernel=s4d_legs"
            )
        self.features, self.states, self._disc, self._trained = features, states, disc, train_ssm
        half = states // 2
        spread = torch.rand(features) * math.log(dt_max / dt_min) + math.log(dt_min)
        normal = normal_plus_low_rank(states)
        eigenvalues, B = normal.eigenvalues[:half], normal.B[:half]
        if kernel == "s4d_lin":
            eigenvalues = -0.5 + 1j * math.pi * torch.arange(half, dtype=torch.float64)
            B = torch.ones_like(eigenvalues)
        self.C = nn.Parameter(torch.randn(features, half, 2) * 0.5**0.5)
        self.D = nn.Parameter(torch.randn(features))
        self._keep("log_dt", spread, learnt=train_ssm != "none")
        learnt = train_ssm == "all"
        self._keep("log_decay", (-eigenvalues.real).log(), learnt=learnt)
        self._keep("frequency", eigenvalues.imag.clone(), learnt=learnt)
        self._keep("B", torch.view_as_real(B), learnt=learnt)
        self._low_rank = kernel == "dplr"
        if self._low_rank:
            self._keep("P", torch.view_as_real(normal.P[:half]), learnt=learnt)
        # Where these are fixed: the system by type and place of its numbers, and the states that follow an
        # impulse (H, N/2, L) as far as they were asked for.
        self._systems: dict[tuple[torch.dtype, torch.device], System] = {}
        self._impulse: Tensor | None = None

    def _keep(self, name: str, value: Tensor, *, learnt: bool) -> None:
        value = value.to(torch.float32)
        if learnt:
            self.register_parameter(name, nn.Parameter(value))
        else:
            self.register_buffer(name, value)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._systems, self._impulse = {}, None

    def ssm_parameters(self) -> list[nn.Parameter]:
        """What is learnt of the state space itself: it wants a learning rate of its own and no decay."""
        return [p for name, p in self.named_parameters() if name not in ("C", "D")]

    def system(self, dtype: torch.dtype = torch.complex64) -> System:
        """The discrete state space as it is now."""
        if self._trained != "none":
            return self._discretised().to(dtype)
        key = (dtype, self.C.device)
        if self._systems.get(key) is None:
            self._systems[key] = self._discretised().to(dtype)
        return self._systems[key]

    def _discretised(self) -> System:
        log_dt, log_decay, frequency, B = (
            x.double() for x in (self.log_dt, self.log_decay, self.frequency, self.B)
        )
        eigenvalues = torch.complex(-log_decay.exp(), frequency)
        P = torch.view_as_complex(self.P.double()) if self._low_rank else None
        dt = log_dt.exp()[:, None]
        return discretised(eigenvalues, torch.view_as_complex(B), dt, self._disc, P)

    def begin(self, rows: int, device: torch.device) -> Tensor:
        """States (M, H, N/2) that have seen nothing."""
        half = self.states // 2
        return torch.zeros(rows, self.features, half, dtype=torch.complex64, device=device)

    def stepping(self) -> Stepping:
        """What steps need of the state space as it is now."""
        system, C = self.system(), torch.view_as_complex(self.C)
        gain = both(C * system.b) + self.D
        if system.p is None or system.q is None:
            return Stepping(system, _reading(C * system.a), gain, None)
        return Stepping(system, _reading(C * system.a, system.q), gain, both(C * system.p))

    def step(self, u: Tensor, x: Tensor, how: Stepping | None = None) -> tuple[Tensor, Tensor]:
        """One step.

        Output and r are read of the states before it, in one product of real numbers, so that states are gone
        through as seldom as can be: they are what a step's time goes to.

        Args:
            u: (M, H) input.
            x: (M, H, N/2) states before.
            how: :meth:`stepping`, where several steps share it.

        Returns:
            Output (M, H), and the states after.
        """
        system, reads, gain, loss = self.stepping() if how is None else how
        before = torch.view_as_real(x).flatten(-2)
        read = torch.bmm(before.transpose(0, 1), reads).unbind(-1)
        y = torch.addcmul(read[0].mT, gain, u)
        after = torch.view_as_real(system.a * x)
        after.addcmul_(torch.view_as_real(system.b), u[..., None, None])
        if loss is not None:
            assert system.p is not None
            assert system.w is not None
            r = torch.addcmul(read[1].mT, system.w, u)
            y = torch.addcmul(y, loss, r, value=-1)
            after.addcmul_(torch.view_as_real(system.p), r[..., None, None], value=-1)
        return y, torch.view_as_complex(after)

    @staticmethod
    def memory_of(x: Tensor) -> Tensor:
        """Mean (M, H) over all states of x (M, H, N/2)."""
        return x.real.mean(dim=-1)

    def impulse(self, steps: int) -> Tensor:
        """States (H, N/2, L) that follow an impulse, in double precision; made once where they are fixed."""
        if self._trained != "none":
            return self._follow(steps)
        kept = self._impulse
        if kept is None or kept.shape[-1] < steps or kept.device != self.C.device:
            with torch.no_grad():
                kept = self._impulse = self._follow(steps)
        return kept[..., :steps]

    def _follow(self, steps: int) -> Tensor:
        system = self.system(torch.complex128)
        if system.p is None:
            powers = torch.arange(steps, device=system.a.device)
            states = system.b[..., None] * system.a[..., None] ** powers
            return states.to(torch.complex64)
        # Rank one keeps A's powers from having a closed form; its recurrence is O(N) a step for all rows.
        found = [system.after_impulse()]
        while len(found) < steps:
            found.append(system.advance(found[-1]))
        return torch.stack(found, dim=-1).to(torch.complex64)

    def kernel(self, steps: int) -> Tensor:
        """(H, L) what an impulse gives at each step, without D."""
        C = torch.view_as_complex(self.C)
        if not self._low_rank:
            return self._summed_powers(C, steps)
        return 2 * torch.einsum("hn,hnl->hl", C, self.impulse(steps)).real

    def _summed_powers(self, C: Tensor, steps: int) -> Tensor:
        """(H, L) sum over all states of ``C b a^l``, as a product of two short tables of powers."""
        system = self.system(torch.complex128)
        Q = max(int(steps**0.5), 1)
        fine = torch.arange(Q, device=C.device)
        coarse = torch.arange(-(-steps // Q), device=C.device) * Q
        logs = system.a.log()[..., None]
        left = ((C * system.b)[..., None] * (logs * coarse).exp()).to(torch.complex64)
        right = (logs * fine).exp().to(torch.complex64)
        return 2 * (left.mT @ right).real.flatten(1)[:, :steps]

    def memory_kernel(self, steps: int) -> Tensor:
        """(H, L) mean over all states at each step after an impulse."""
        if not self._low_rank:
            C = torch.view_as_complex(self.C)
            return self._summed_powers(torch.full_like(C, 1 / self.states), steps)
        return self.impulse(steps).real.mean(dim=1)

    def fading(self, steps: int, *, memory: bool = False) -> Tensor:
        """(H, N/2, L) what reads, of the states before a row, what each output still has of them.

        Args:
            memory: of the mean over all states in place of the outputs.
        """
        system = self.system(torch.complex128)
        C = torch.view_as_complex(self.C).to(torch.complex128)
        if memory:
            C = torch.full_like(C, 1 / self.states)
        if system.p is None:
            powers = torch.arange(1, steps + 1, device=C.device)
            return (C[..., None] * system.a[..., None] ** powers).to(torch.complex64)
        found = []
        for _ in range(steps):  # no closed form, see _follow
            C = system.read_before(C)
            found.append(C)
        return torch.stack(found, dim=-1).to(torch.complex64)

    @staticmethod
    def faded(x: Tensor, fading: Tensor) -> Tensor:
        """(M, H, L) what outputs still have of the states x (M, H, N/2) before them, see :meth:`fading`."""
        return 2 * torch.einsum("mhn,hnl->mhl", x, fading).real

    def conv(self, u: Tensor, spectrum: Tensor | None = None) -> Tensor:
        """Outputs (M, H, L) of whole rows u (M, H, L), which is what :meth:`step` gives from nothing.

        Args:
            spectrum: :func:`spectrum_of` the kernel, where several rows share it.
        """
        if spectrum is None:
            spectrum = spectrum_of(self.kernel(u.shape[-1]))
        return convolve(u, spectrum) + self.D[:, None] * u
