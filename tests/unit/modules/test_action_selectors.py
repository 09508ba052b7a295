"""Exploration is uniform over what is available, and all its randomness is the generator's."""

from __future__ import annotations

import pytest
import torch

from phalanx.modules.action_selectors.epsilon_greedy import EpsilonGreedy, linear_schedule
from phalanx.registry import ACTION_SELECTORS

from .toys import SPEC, assemble


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_schedule_is_linear_and_then_flat() -> None:
    values = [linear_schedule(1.0, 0.2, 100, t) for t in (0, 50, 100, 500)]
    assert values == pytest.approx([1.0, 0.6, 0.2, 0.2])


@pytest.mark.parametrize("name", ACTION_SELECTORS.names())
def test_never_an_unavailable_action_and_greedy_in_tests(name: str) -> None:
    selector = assemble(action_selector=name).build("action_selector")
    values = torch.randn(200, 3, 5)
    avail = torch.rand(200, 3, 5) < 0.3
    avail[..., 4] = True
    for test_mode in (False, True):
        actions = selector.select(values, avail, 0, test_mode, generator())
        assert actions.shape == (200, 3)
        assert bool(avail.gather(-1, actions[..., None]).all())
    assert torch.equal(actions, values.masked_fill(~avail, -torch.inf).argmax(-1))


def test_random_actions_are_uniform_over_available_ones() -> None:
    selector = EpsilonGreedy(EpsilonGreedy.Config(), SPEC)
    avail = torch.tensor([True, False, True, True, False]).expand(30_000, 1, 5)
    actions = selector.select(torch.randn(30_000, 1, 5), avail, 0, False, generator())
    share = torch.bincount(actions.flatten(), minlength=5) / 30_000
    torch.testing.assert_close(share, torch.tensor([1, 0, 1, 1, 0]) / 3, atol=0.02, rtol=0)


def test_epsilon_is_the_share_of_random_actions() -> None:
    selector = EpsilonGreedy(EpsilonGreedy.Config(epsilon_start=0.4, epsilon_finish=0.4), SPEC)
    values = torch.tensor([0.0, 9, 0, 0, 0]).expand(30_000, 1, 5)
    actions = selector.select(values, torch.ones(30_000, 1, 5).bool(), 7, False, generator())
    assert float((actions == 1).float().mean()) == pytest.approx(0.6 + 0.4 / 5, abs=0.02)
    assert selector.metrics(7) == {"epsilon": pytest.approx(0.4)}


def test_same_generator_same_actions() -> None:
    selector = EpsilonGreedy(EpsilonGreedy.Config(), SPEC)
    values, avail = torch.randn(9, 3, 5), torch.ones(9, 3, 5).bool()
    torch.manual_seed(1)
    first = selector.select(values, avail, 0, False, generator(3))
    torch.manual_seed(2)
    assert torch.equal(first, selector.select(values, avail, 0, False, generator(3)))
