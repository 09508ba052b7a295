"""State spaces against numbers worked out by hand, and convolution against recurrence."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from phalanx.modules.layers.s4 import (
    SSM,
    convolve,
    discretised,
    legs,
    normal_plus_low_rank,
    spectrum_of,
)

CPU = torch.device("cpu")
KINDS = [("dplr", "bilinear"), *itertools.product(("s4d_legs", "s4d_lin"), ("bilinear", "zoh"))]


def make(kernel: Any, disc: Any, features: int = 4, states: int = 16, **keys: Any) -> SSM:
    """A small layer."""
    torch.manual_seed(0)
    return SSM(features, states, kernel=kernel, disc=disc, **keys)


def stepped(ssm: SSM, u: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs and states of u (M, H, L), one step after the other."""
    x, outputs, states = ssm.begin(len(u), CPU), [], []
    how = ssm.stepping()
    for t in range(u.shape[-1]):
        y, x = ssm.step(u[..., t], x, how)
        outputs.append(y)
        states.append(x)
    return torch.stack(outputs, dim=-1), torch.stack(states, dim=-1)


def test_legs_of_four_states() -> None:
    A, B = legs(4)
    expected = [
        [-1, 0, 0, 0],
        [-1.732051, -2, 0, 0],
        [-2.236068, -3.872983, -3, 0],
        [-2.645751, -4.582576, -5.916080, -4],
    ]
    torch.testing.assert_close(A, torch.tensor(expected, dtype=A.dtype), atol=1e-6, rtol=0)
    assert B.tolist() == pytest.approx([1, 1.732051, 2.236068, 2.645751], abs=1e-6)


@pytest.mark.parametrize("states", [4, 96])
def test_its_normal_part_is_diagonal_in_another_basis(states: int) -> None:
    values, P, B, V = normal_plus_low_rank(states)
    A, of_legs = legs(states)
    again = V @ (torch.diag(values) - torch.outer(P, P.conj())) @ V.mH
    torch.testing.assert_close(again, A.to(again.dtype), atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(V @ B, of_legs.to(B.dtype), atol=1e-9, rtol=1e-9)
    half = states // 2
    torch.testing.assert_close(values[half:], values[:half].conj())
    torch.testing.assert_close(P[half:], P[:half].conj())
    size = values[:half].imag
    ends = {4: (0.556501, 4.603293), 96: (0.246286, 2933.0204)}[states]
    assert (float(size.min()), float(size.max())) == pytest.approx(ends, abs=1e-4)


@pytest.mark.parametrize(
    ("rule", "a", "b"), [("bilinear", 0.904762, 0.095238), ("zoh", 0.904837, 0.095163)]
)
def test_one_state_in_steps(rule: Any, a: float, b: float) -> None:
    one = torch.ones(1, dtype=torch.complex128)
    system = discretised(-one, one, torch.tensor([[0.1]]), rule)
    assert (float(system.a.real), float(system.b.real)) == pytest.approx((a, b), abs=1e-6)


def legs_of_two(D: float = 0.0) -> SSM:
    """LegS with two states, steps of 0.1 and C = (1, 1), which here is C V."""
    ssm = make("dplr", "bilinear", 1, 2)
    C = torch.ones(2, dtype=torch.complex128) @ normal_plus_low_rank(2).V
    ssm.C.data = torch.view_as_real(C[:1].to(torch.complex64))[None]
    ssm.D.data.fill_(D)
    ssm.log_dt.fill_(0.1).log_()
    return ssm


def test_kernel_of_two_states() -> None:
    expected = [0.245199, 0.194581, 0.153741, 0.120847, 0.094404]
    assert legs_of_two().kernel(5)[0].tolist() == pytest.approx(expected, abs=2e-6)


def test_outputs_of_two_states_by_convolution_and_by_steps() -> None:
    ssm, u = legs_of_two(0.5), torch.tensor([[[1.0, 2.0, 0.0, -1.0]]])
    expected = [0.745199, 1.684980, 0.542904, -0.316869]
    assert ssm.conv(u)[0, 0].tolist() == pytest.approx(expected, abs=2e-6)
    assert stepped(ssm, u)[0][0, 0].tolist() == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("bilinear", [0.359551, 0.278753, 0.199952, 0.126331]),
        ("zoh", [0.359527, 0.278131, 0.198937, 0.125121]),
    ],
)
def test_kernel_of_one_pair(rule: Any, expected: list[float]) -> None:
    ssm = make("s4d_lin", rule, 1, 2)
    ssm.frequency.fill_(1.0)
    ssm.log_dt.fill_(0.2).log_()
    ssm.C.data = torch.tensor([[[1.0, 0.5]]])
    assert ssm.kernel(4)[0].tolist() == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("steps", [1, 2, 49, 50, 120, 400])
@pytest.mark.parametrize(("kernel", "disc"), KINDS)
def test_convolution_is_recurrence(kernel: str, disc: str, steps: int) -> None:
    ssm, u = make(kernel, disc, 8, 96), torch.randn(2, 8, steps)
    with torch.no_grad():
        parallel, (recurrent, _) = ssm.conv(u), stepped(ssm, u)
    assert float((parallel - recurrent).abs().max() / recurrent.abs().max()) < 1e-5


@pytest.mark.parametrize(("kernel", "disc"), KINDS)
def test_memory_is_the_mean_of_the_states(kernel: str, disc: str) -> None:
    ssm, u = make(kernel, disc, 8, 96), torch.randn(2, 8, 120)
    with torch.no_grad():
        memory = convolve(u, spectrum_of(ssm.memory_kernel(120)))
        states = stepped(ssm, u)[1].movedim(-1, 1)
    torch.testing.assert_close(memory.movedim(-1, 1), ssm.memory_of(states), atol=1e-6, rtol=0)


@pytest.mark.parametrize("train_ssm", ["none", "dt", "all"])
@pytest.mark.parametrize(("kernel", "disc"), KINDS)
def test_a_longer_row_changes_nothing(kernel: str, disc: str, train_ssm: str) -> None:
    ssm = make(kernel, disc, train_ssm=train_ssm)
    before = copy.deepcopy(ssm.state_dict())
    short = ssm.kernel(50).clone()
    torch.testing.assert_close(ssm.kernel(120)[:, :50], short, atol=1e-6, rtol=1e-5)
    assert all(torch.equal(before[name], x) for name, x in ssm.state_dict().items())


def test_what_is_kept_of_a_fixed_system_does_not_outlive_it() -> None:
    ssm, other = make("dplr", "bilinear"), make("dplr", "bilinear", dt_min=0.01)
    ssm.kernel(20)
    ssm.load_state_dict(other.state_dict())
    torch.testing.assert_close(ssm.kernel(20), other.kernel(20))


@pytest.mark.parametrize(("kernel", "disc"), KINDS)
def test_what_is_learnt_is_what_was_asked_for(kernel: str, disc: str) -> None:
    extra = {"none": set(), "dt": {"log_dt"}, "all": {"log_dt", "log_decay", "frequency", "B"}}
    if kernel == "dplr":
        extra["all"].add("P")
    for train_ssm, names in extra.items():
        ssm = make(kernel, disc, train_ssm=train_ssm)
        ssm.conv(torch.randn(2, 4, 9)).square().sum().backward()
        moved = {n for n, p in ssm.named_parameters() if p.grad is not None and p.grad.any()}
        assert moved == {"C", "D"} | names
        assert len(ssm.ssm_parameters()) == len(names)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="states come in conjugate pairs, so 7 of them"):
        make("dplr", "bilinear", 4, 7)
    with pytest.raises(ValueError, match="no step of O\\(N\\) under zoh"):
        make("dplr", "zoh")
