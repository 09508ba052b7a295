"""The formulas of the policy-gradient family against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from phalanx.data.batch import EpisodeBatch
from phalanx.envs.protocol import Discrete, EnvSpec
from phalanx.learners.advantages import (
    bootstrapped,
    gae,
    huber,
    masked_mean,
    normalised,
    ratio_of,
    surrogate,
    value_loss,
)
from phalanx.modules.layers.value_norm import NoValueNorm, PopArt, ValueNorm


def test_gae_by_hand() -> None:
    # Three steps that end for good: what follows the last one counts for nothing.
    advantage, returns = gae(
        reward=torch.tensor([[1.0, 0.0, 2.0]]),
        values=torch.tensor([[[0.5], [0.4], [0.3]]]),
        next_values=torch.tensor([[[0.4], [0.3], [0.0]]]),
        goes_on=torch.tensor([[True, True, False]]),
        gamma=0.99,
        gae_lambda=0.95,
    )
    expected = torch.tensor([2.302846925, 1.49585, 1.7])
    torch.testing.assert_close(advantage[0, :, 0], expected)
    torch.testing.assert_close(returns[0, :, 0], torch.tensor([2.802846925, 1.89585, 2.0]))


def test_gae_bootstraps_where_only_the_clock_stopped() -> None:
    advantage, _ = gae(
        reward=torch.tensor([[1.0, 1.0], [1.0, 1.0]]),
        values=torch.zeros(2, 2, 1),
        next_values=torch.tensor([[[0.0], [10.0]], [[0.0], [0.0]]]),
        goes_on=torch.tensor([[True, False]] * 2),
        gamma=0.5,
        gae_lambda=1.0,
    )
    assert advantage[..., 0].tolist() == [[4.0, 6.0], [1.5, 1.0]]


def test_rows_of_a_batch_end_where_it_says() -> None:
    """Two steps that end for good, two that the clock cut, one step and padding; half of what follows."""
    spec = EnvSpec(n_agents=1, obs_dim=1, state_dim=1, action=Discrete(2), episode_limit=2)
    batch = EpisodeBatch(
        spec=spec,
        obs=torch.zeros(3, 3, 1, 1),
        state=torch.zeros(3, 3, 1),
        avail_actions=torch.ones(3, 3, 1, 2, dtype=torch.bool),
        actions=torch.zeros(3, 2, 1, dtype=torch.int64),
        reward=torch.tensor([[1.0, 2.0], [1.0, 2.0], [3.0, 0.0]]),
        terminated=torch.tensor([[False, True], [False, False], [False, False]]),
        truncated=torch.tensor([[False, False], [False, True], [False, False]]),
        lengths=torch.tensor([2, 2, 1]),
    )
    values = torch.tensor([[4.0, 2.0], [4.0, 2.0], [6.0, 0.0]])[..., None]
    last = torch.tensor([[8.0], [8.0], [8.0]])
    advantage, returns = bootstrapped(batch, values, last, gamma=0.5, gae_lambda=0.5)
    # Deltas: 1 + 2/2 - 4 = -2, then 2 - 2 = 0 or 2 + 8/2 - 2 = 4; 3 + 8/2 - 6 = 1.
    assert advantage[..., 0].tolist()[:2] == [[-2.0, 0.0], [-1.0, 4.0]]
    assert advantage[2, 0] == 1.0
    assert returns[..., 0].tolist()[:2] == [[2.0, 2.0], [3.0, 6.0]]
    assert returns[2, 0] == 7.0


def test_gae_of_a_right_critic_is_zero() -> None:
    values = torch.tensor([[[3.0], [2.0], [1.0]]])
    following = torch.tensor([[[2.0], [1.0], [0.0]]])
    goes_on = torch.tensor([[True, True, False]])
    advantage, returns = gae(torch.ones(1, 3), values, following, goes_on, 1.0, 0.7)
    assert not advantage.any()
    assert torch.equal(returns, values)


def test_normalisation_leaves_the_inactive_out() -> None:
    advantage = torch.tensor([1.0, 2.0, 3.0, 100.0])
    out = normalised(advantage, torch.tensor([True, True, True, False]))
    assert out[0].item() == pytest.approx(-1.224730, abs=1e-6)
    assert out[1].item() == 0.0
    assert torch.equal(normalised(advantage, torch.zeros(4).bool()), advantage)


def test_masked_mean() -> None:
    x = torch.tensor([1.0, 2.0, 600.0])
    assert masked_mean(x, torch.tensor([True, True, False])).item() == 1.5
    assert masked_mean(x, torch.zeros(3)).item() == 0.0


def test_ratio_of_the_action_or_of_each_dimension() -> None:
    log_ratio, one = torch.tensor([[1.3, 1.3, 0.7]]).log(), torch.ones(1)
    assert surrogate(log_ratio, one, 0.2, per_dimension=True).item() == pytest.approx(3.1)
    assert surrogate(log_ratio, one, 0.2).item() == pytest.approx(1.183)


def test_ratios_are_exactly_exp_up_to_a_limit() -> None:
    ordinary = torch.linspace(-20, 20, 401)
    assert torch.equal(ratio_of(ordinary), ordinary.exp())
    ends = ratio_of(torch.tensor([200.0, float("inf"), -200.0, float("-inf")]))
    assert ends.tolist() == pytest.approx([4.8516520e8] * 2 + [2.0611536e-9] * 2)


def test_one_outlier_is_no_nan_gradient() -> None:
    # Ratio e^200 of a good action and of a worthless one are clipped; the next is not.
    log_ratio = torch.tensor([[200.0], [200.0], [0.1]], requires_grad=True)
    objective = surrogate(log_ratio, torch.tensor([1.0, 0.0, -2.0]), 0.2)
    assert objective.tolist() == pytest.approx([1.2, 0.0, -2 * 1.1051709])
    objective.sum().backward()  # type: ignore[no-untyped-call]
    assert log_ratio.grad is not None
    assert log_ratio.grad[:, 0].tolist() == pytest.approx([0.0, 0.0, -2 * 1.1051709])


def test_surrogate_with_a_factor() -> None:
    # The second agent's probability went from 0.5 to 0.6, so the first one's objective counts 1.2 times.
    factor = 0.6 / 0.5
    for ratio, advantage, expected in ((1.1, 1.0, 1.32), (1.3, 1.0, 1.44), (0.7, -1.0, -0.96)):
        log_ratio = torch.tensor([[ratio]]).log()
        objective = surrogate(log_ratio, torch.tensor([advantage]), 0.2) * factor
        assert objective.item() == pytest.approx(expected)


def test_huber_on_both_sides() -> None:
    assert huber(torch.tensor([12.0, -12.0, 3.0]), 10.0).tolist() == [70.0, 70.0, 4.5]


def test_clipped_value_has_no_gradient() -> None:
    value = torch.tensor(0.3, requires_grad=True)
    loss = value_loss(value, torch.tensor(0.0), torch.tensor(1.0), 0.05, 10.0)
    assert loss.item() == pytest.approx(0.45125)
    loss.backward()  # type: ignore[no-untyped-call]
    assert value.grad is not None
    assert value.grad.item() == 0.0
    free = value_loss(torch.tensor(0.3), torch.tensor(0.0), torch.tensor(1.0), None, None)
    assert free.item() == pytest.approx(0.245)


def test_value_norm_by_hand() -> None:
    norm = ValueNorm()
    assert norm.denormalise(torch.tensor(1.0)).item() == pytest.approx(0.1)
    norm.update(torch.tensor([1.0, 3.0]))
    mu, std = norm.moments()
    assert mu.item() == pytest.approx(2.0)
    assert std.item() == pytest.approx(1.0)
    assert norm.normalise(torch.tensor(3.0)).item() == pytest.approx(1.0)
    assert norm.denormalise(torch.tensor(1.0)).item() == pytest.approx(3.0)
    assert set(norm.state_dict()) == {"mean", "mean_square", "debias"}


def test_popart_preserves_outputs() -> None:
    layer, features = nn.Linear(4, 1), torch.randn(6, 4)
    norm = PopArt(layer, beta=0.9)
    norm.update(torch.tensor([5.0, 9.0]))
    before = norm.denormalise(layer(features))
    weight = layer.weight.clone()
    norm.update(torch.tensor([-50.0, 30.0]))
    assert not torch.equal(weight, layer.weight)
    torch.testing.assert_close(norm.denormalise(layer(features)), before, atol=1e-5, rtol=1e-5)


def test_without_value_norm_units_are_rewards() -> None:
    norm, x = NoValueNorm(), torch.tensor([7.0])
    norm.update(x)
    assert norm.normalise(x) == norm.denormalise(x) == x
