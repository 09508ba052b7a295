"""Divergences against torch.distributions, and who gets their gradient."""

from __future__ import annotations

import torch
from torch.distributions import Normal
from torch.distributions import kl_divergence as reference

from phalanx.modules.layers.gaussian import (
    Gaussian,
    balanced_kl,
    kl_divergence,
    kl_standard_normal,
)


def pair() -> tuple[Gaussian, Gaussian]:
    torch.manual_seed(0)
    leaves = [torch.randn(6, 4, dtype=torch.double, requires_grad=True) for _ in range(4)]
    return Gaussian(*leaves[:2]), Gaussian(*leaves[2:])


def normal(g: Gaussian) -> Normal:
    return Normal(g.mean, (0.5 * g.logvar).exp())


def test_closed_forms() -> None:
    q, p = pair()
    torch.testing.assert_close(kl_divergence(q, p), reference(normal(q), normal(p)))
    torch.testing.assert_close(kl_standard_normal(q), reference(normal(q), Normal(0.0, 1.0)))


def test_balancing_keeps_the_value_and_shares_the_gradient() -> None:
    q, p = pair()
    plain, balanced = kl_divergence(q, p).sum(), balanced_kl(q, p, alpha=0.2).sum()
    torch.testing.assert_close(plain, balanced)
    before = torch.autograd.grad(plain, [*q, *p])
    after = torch.autograd.grad(balanced, [*q, *p])
    for i, share in enumerate([0.2, 0.2, 0.8, 0.8]):
        torch.testing.assert_close(after[i], share * before[i])


def test_sample_is_reparametrised() -> None:
    q, _ = pair()
    noise = torch.randn(6, 4, dtype=torch.double)
    torch.testing.assert_close(q.sample(noise), q.mean + normal(q).stddev * noise)


def test_extreme_log_variances_stay_finite() -> None:
    g = Gaussian.of(torch.tensor([[0.0, 0.0, 1e4, -1e4]]))
    assert bool(torch.isfinite(kl_standard_normal(g)).all())


def test_a_network_cannot_make_a_gaussian_run_away() -> None:
    wild = Gaussian.of(torch.tensor([[1e6, -1e6, 0.1, 1e6, -1e6, 0.3]]))
    assert wild.mean[0, :2].tolist() == [5.0, -5.0]
    torch.testing.assert_close(wild.mean[0, 2], torch.tensor(0.1), atol=1e-4, rtol=0)
    assert wild.logvar.tolist()[0][:2] == [2.0, -8.0]
    torch.testing.assert_close(wild.logvar[0, 2], torch.tensor(-3 + 0.3), atol=1e-3, rtol=0)
