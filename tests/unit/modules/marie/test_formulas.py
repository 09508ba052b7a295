"""Distributions over rewards, and draws, against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch

from phalanx.envs.protocol import Box
from phalanx.modules.layers.symlog import centre_of, symlog
from phalanx.modules.world_models.marie.actions import Binned
from phalanx.modules.world_models.marie.heads import (
    BinnedReward,
    PlainReward,
    sampled,
    sampled_masks,
    soft_bins,
)


def test_soft_bins_by_hand() -> None:
    """Four bins of [-1, 1] around 0.1."""
    shares = soft_bins(torch.tensor(0.1), torch.linspace(-1, 1, 5), 0.375)
    torch.testing.assert_close(
        shares, torch.tensor([0.053652, 0.343455, 0.466684, 0.136209]), atol=1e-6, rtol=0
    )
    centres = centre_of(torch.arange(4), 4, -1.0, 1.0)
    assert float(shares @ centres) == pytest.approx(0.092724, abs=1e-6)


@pytest.mark.parametrize(("reward", "decoded"), [(1.0, 1.0), (19.0, 18.4229), (24.0, None)])
def test_a_reward_learnt_exactly_comes_back(reward: float, decoded: float | None) -> None:
    code = BinnedReward(128, 3.0)
    edges = torch.linspace(-3, 3, 129)
    shares = soft_bins(symlog(torch.tensor(reward)), edges, 0.75 * 6 / 128)
    assert float(shares.sum()) == pytest.approx(1.0, abs=1e-5)
    found = float(code.decode(shares.clamp(min=1e-30).log()))
    assert found == pytest.approx(decoded, rel=1e-3) if decoded else 18.0 < found < 19.1
    if reward == 1.0:
        assert int(shares.argmax()) == 78
        assert float(shares.max()) == pytest.approx(0.46475, abs=1e-4)


@pytest.mark.parametrize("code", [PlainReward(), BinnedReward(128, 3.0)])
def test_rewards_of_any_size_have_a_finite_loss_that_leads_to_them(
    code: PlainReward | BinnedReward,
) -> None:
    reward = torch.tensor([[0.0, 2.0], [-1.0, 1e4]])
    outputs = torch.zeros(2, 2, code.width, requires_grad=True)
    optimiser = torch.optim.Adam([outputs], lr=0.3)
    for _ in range(150):
        optimiser.zero_grad()
        loss = code.loss(outputs, reward)
        assert loss.isfinite()
        loss.backward()
        optimiser.step()
    near = code.decode(outputs.detach()).flatten()[:3]
    torch.testing.assert_close(near, reward.flatten()[:3], atol=0.05, rtol=0)


def test_draws_follow_the_softmax() -> None:
    logits = torch.tensor([0.2, 0.5, 0.3]).log().expand(20_000, 3)
    drawn = sampled(logits, torch.Generator().manual_seed(0))
    share = torch.bincount(drawn) / 20_000
    torch.testing.assert_close(share, torch.tensor([0.2, 0.5, 0.3]), atol=0.015, rtol=0)


def test_masks_follow_their_probabilities_and_leave_something() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = sampled_masks(torch.tensor([0.9, 0.2]).expand(20_000, 2), generator)
    # Where neither was drawn, in 8 of 100, the first is: 0.9 + 0.08.
    torch.testing.assert_close(
        drawn.float().mean(dim=0), torch.tensor([0.98, 0.2]), atol=0.015, rtol=0
    )
    nothing = sampled_masks(torch.tensor([[0.0, 0.0, 0.0]]), generator)
    assert nothing.tolist() == [[True, False, False]]


def test_vectors_become_bins_of_the_widest_bounds() -> None:
    code = Binned(Box((-1.0, -0.5), (0.5, 1.0)), 256)
    assert code.encode(torch.tensor([[-1.0, 1.0], [0.0, 3.0]])).tolist() == [[0, 255], [128, 255]]
