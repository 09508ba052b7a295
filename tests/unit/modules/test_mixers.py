"""Mixers: any leading axes, monotonic, faithful to what agents choose, and equal to a computation by hand."""

from __future__ import annotations

import itertools

import pytest
import torch

from phalanx.modules.mixers.base import Choice, Mixer
from phalanx.modules.mixers.qmix import mix
from phalanx.modules.mixers.qplex import duplex
from phalanx.registry import MIXERS

from .toys import SPEC, WITH_CONTEXT, assemble

N, S, A = SPEC.n_agents, SPEC.state_dim, SPEC.n_actions
# Those that promise it by their form; others come near it by a learner's losses.
FAITHFUL = [name for name, part in MIXERS.items() if issubclass(part, Mixer)]


def choice_of(q: torch.Tensor) -> Choice:
    """Best actions of value q (..., N)."""
    return Choice(q, q.detach(), torch.zeros(q.shape, dtype=torch.int64))


@pytest.mark.parametrize("name", FAITHFUL)
@pytest.mark.parametrize("world_model", WITH_CONTEXT)
def test_shapes_and_monotonicity(name: str, world_model: str) -> None:
    parts = assemble(mixer=name, world_model=world_model)
    mixer, width = parts.build("mixer"), parts.build("world_model").output_dim
    q = torch.randn(50, 2, N, requires_grad=True)
    state = 3 * torch.randn(50, 2, S)
    context = 3 * torch.randn(50, 2, width) if width else None
    actions = torch.randint(0, A, (50, 2, N))
    total = mixer(Choice(q, q.detach() + torch.rand(50, 2, N), actions), state, context)
    assert total.shape == ((50, 2, N) if name == "none" else (50, 2, 1))
    (slope,) = torch.autograd.grad(total.sum(), q)
    assert bool((slope >= 0).all())
    assert bool(slope.any())


@pytest.mark.parametrize("name", FAITHFUL)
def test_no_joint_action_is_worth_more_than_everyones_best(name: str) -> None:
    """Individual-global-max over all joint actions that are available, in random states."""
    mixer = assemble(mixer=name).build("mixer")
    for parameter in mixer.parameters():  # far from its first weights too
        parameter.data += torch.randn_like(parameter)
    M = 40
    values, state = 3 * torch.randn(M, 1, N, A), torch.randn(M, 1, S)
    avail = torch.rand(M, 1, N, A) < 0.6
    avail[..., 0] = True
    joint = torch.tensor(list(itertools.product(range(A), repeat=N)))  # (A^N, N)
    J = len(joint)
    wide, may = values.expand(M, J, N, A), avail.expand(M, J, N, A)
    actions = joint.expand(M, J, N)
    with torch.no_grad():
        total = mixer(Choice.of(wide, may, actions), state.expand(M, J, S)).sum(dim=-1)
    allowed = may.gather(-1, actions[..., None]).squeeze(-1).all(dim=-1)
    total = total.masked_fill(~allowed, -torch.inf)
    greedy = values.masked_fill(~avail, -torch.inf).argmax(dim=-1)  # (M, 1, N)
    of_greedy = total[(actions == greedy).all(dim=-1)]
    torch.testing.assert_close(total.amax(dim=1), of_greedy)
    assert bool((total.amax(dim=1) > total.masked_fill(~allowed, torch.inf).amin(dim=1)).all())


@pytest.mark.parametrize("name", MIXERS.names())
def test_reading_the_state_is_declared(name: str) -> None:
    part = MIXERS.get(name)
    if not issubclass(part, Mixer):
        assert part.reads_state
        return
    mixer, q = assemble(mixer=name).build("mixer"), torch.randn(1, N)
    choice = Choice(q, q + 1, torch.ones(1, N, dtype=torch.int64))
    a, b = (mixer(choice, 3 * torch.randn(1, S)) for _ in range(2))
    assert (not torch.equal(a, b)) == part.reads_state


def test_choice_by_hand() -> None:
    values = torch.tensor([[1.0, 5.0, 2.0], [4.0, 3.0, 0.0]], requires_grad=True)
    may = torch.tensor([[True, False, True], [True, True, True]])
    choice = Choice.of(values, may, torch.tensor([0, 1]))
    assert choice.q.tolist() == [1.0, 3.0]
    assert choice.best.tolist() == [2.0, 4.0]
    assert choice.q.requires_grad
    assert not choice.best.requires_grad


def test_mixing_by_hand() -> None:
    q = torch.tensor([1.0, -2.0])
    w1 = torch.tensor([[1.0, 0.5], [2.0, 0.25]])  # (N, E)
    b1, w2, b2 = torch.tensor([1.0, 0.0]), torch.tensor([3.0, 2.0]), torch.tensor([0.5])
    # Hidden before the activation: 1 - 4 + 1 = -2 and 0.5 - 0.5 = 0.
    expected = 3 * (torch.tensor(-2.0).exp() - 1) + 0 + 0.5
    torch.testing.assert_close(mix(q, w1, b1, w2, b2), expected[None])


def test_vdn_is_a_sum_and_none_is_nothing() -> None:
    q, state = torch.randn(6, N), torch.randn(6, S)
    vdn, none = (assemble(mixer=name).build("mixer") for name in ("vdn", "none"))
    assert torch.equal(vdn(choice_of(q), state), q.sum(-1, keepdim=True))
    assert torch.equal(none(choice_of(q), state), q)


def test_duplex_dueling_by_hand() -> None:
    q = torch.tensor([1.0, -2.0], requires_grad=True)
    best, w, b = torch.tensor([3.0, -2.0]), torch.tensor([2.0, 0.5]), torch.tensor([1.0, 4.0])
    importance = torch.tensor([0.25, 7.0], requires_grad=True)
    # V = (2 * 3 + 1, .5 * -2 + 4) = (7, 3); A = (2 * (1 - 3), 0) = (-4, 0); 7 + 3 + .25 * -4 = 9.
    total = duplex(q, best, w, b, importance)
    torch.testing.assert_close(total, torch.tensor([9.0]))
    slopes = torch.autograd.grad(total.sum(), (q, importance))
    assert slopes[0].tolist() == [2.0, 0.5]
    assert slopes[1].tolist() == [-4.0, 0.0]


def test_weights_of_advantages_are_positive_and_depend_on_the_joint_action() -> None:
    mixer = assemble(mixer="qplex").build("mixer")
    seen, actions = 5 * torch.randn(200, S), torch.randint(0, A, (200, N))
    weights = mixer._importance(seen, actions)
    assert weights.shape == (200, N)
    assert bool((weights > 0).all())
    other = actions.clone()
    other[:, 0] = (other[:, 0] + 1) % A
    assert bool((mixer._importance(seen, other)[:, 1:] != weights[:, 1:]).any())


@pytest.mark.parametrize("layers", [1, 2])
def test_state_decides_the_weights(layers: int) -> None:
    mixer = assemble({"mixer": {"hypernet_layers": layers}}).build("mixer")
    q = torch.randn(1, N).expand(2, N)
    a, b = mixer(choice_of(q), torch.randn(2, S))
    assert not torch.equal(a, b)
