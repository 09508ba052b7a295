"""QTRAN and weighted QMIX: their errors and weights by hand, and whom their losses move."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from phalanx.learners.qtran import nopt_error, opt_error
from phalanx.learners.value_based import Gathered, ValueBasedLearner
from phalanx.learners.wqmix import central_weight, optimistic_weight
from phalanx.modules.mixers.base import Mixer
from phalanx.modules.mixers.qtran_base import QTRANBase

from ..modules.toys import SPEC, assemble, random_batch


def build(learner: str, mixer: str, **keys: Any) -> Any:
    return assemble({"learner": keys}, learner=learner, mixer=mixer).build("learner")


def gradient(
    learner: ValueBasedLearner, name: str, gathered: Gathered
) -> list[torch.Tensor | None]:
    """Of one loss alone, with respect to the policy and the mixer."""
    losses, _ = learner.losses(gathered)
    parts = [*learner.policy.parameters(), *learner.mixer.parameters()]
    return list(torch.autograd.grad(losses[name], parts, allow_unused=True, retain_graph=True))


# --- QTRAN ---


def test_qtran_errors_by_hand() -> None:
    q_sum = torch.tensor([3.0, 1.0], requires_grad=True)
    q_jt = torch.tensor([2.5, 4.0], requires_grad=True)
    v_jt = torch.tensor([0.25, 0.5], requires_grad=True)
    assert opt_error(q_sum, q_jt, v_jt).tolist() == [0.75, -2.5]
    assert nopt_error(q_sum, q_jt, v_jt).tolist() == [0.0, -2.5]
    nopt_error(q_sum, q_jt, v_jt).square().sum().backward()
    assert q_sum.grad is not None
    assert v_jt.grad is not None
    assert q_sum.grad.tolist() == [0.0, -5.0]
    assert v_jt.grad.tolist() == [0.0, -5.0]
    assert q_jt.grad is None  # a constant there


def test_qtran_losses_are_put_together_from_the_networks() -> None:
    learner = build("qtran", "qtran_base", gamma=0.9)
    g = learner.gather(random_batch())
    losses, _ = learner.losses(g)
    values = g.values.detach()
    masked = values.masked_fill(~g.avail_actions, -torch.inf)
    with torch.no_grad():
        v_jt = learner.mixer.value(g.state)
        q_jt = learner.mixer(g.hidden, g.taken.actions, g.state)
        q_jt_greedy = learner.mixer(g.hidden, masked.argmax(-1), g.state)
        q_sum = values.gather(-1, g.taken.actions[..., None]).sum(dim=-2)
        best = masked.amax(-1).sum(-1, keepdim=True)
    opt = (best - q_jt_greedy + v_jt).square().mean()
    nopt = (q_sum - q_jt + v_jt).clamp(max=0).square().mean()
    torch.testing.assert_close(losses["opt"].detach(), opt)
    torch.testing.assert_close(losses["nopt"].detach(), nopt)
    assert learner.loss_weights == {"td": 1.0, "opt": 1.0, "nopt": 0.1}


def test_the_joint_value_learns_from_the_td_error_alone() -> None:
    learner = build("qtran", "qtran_base")
    g = learner.gather(random_batch())
    losses, _ = learner.losses(g)
    joint = list(learner.mixer.joint.parameters())
    for name in ("opt", "nopt"):
        found = torch.autograd.grad(losses[name], joint, allow_unused=True, retain_graph=True)
        assert all(x is None for x in found)
    assert all(x.any() for x in torch.autograd.grad(losses["td"], joint, retain_graph=True))


def test_qtran_s_networks_are_no_mixer() -> None:
    """What makes a run refuse them where a mixer is asked for, and a mixer where they are."""
    assert not issubclass(QTRANBase, Mixer)
    assert QTRANBase.reads_state


# --- weighted QMIX ---


def test_weights_by_hand() -> None:
    q_tot, target = torch.tensor([1.0, 1.0, 1.0]), torch.tensor([2.0, 1.0, 0.0])
    torch.testing.assert_close(optimistic_weight(q_tot, target, 0.1), torch.tensor([1.0, 0.1, 0.1]))
    greedy = torch.tensor([False, True, False])
    weight = central_weight(greedy, target, torch.tensor([1.5, 9.0, 0.5]), 0.25)
    assert weight.tolist() == [1.0, 1.0, 0.25]


@pytest.mark.parametrize("weighting", ["central", "optimistic"])
def test_with_weight_one_agents_learn_as_in_qmix(weighting: str) -> None:
    """The same gradient for the same targets: QMIX's squared error of the monotonic value."""
    learner = build("wqmix", "qmix", w=1.0, weighting=weighting)
    g = learner.gather(random_batch())
    targets = []
    target = learner.target
    learner.target = lambda *args: targets.append(target(*args)) or targets[-1]
    ours = gradient(learner, "td", g)
    qmix = build("q_learner", "qmix")
    qmix.target = lambda *args: targets[0]
    theirs = gradient(qmix, "td", qmix.gather(random_batch()))
    assert any(x is not None and bool(x.any()) for x in ours)
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("weighting", ["central", "optimistic"])
def test_smaller_weights_take_from_the_loss(weighting: str) -> None:
    full, less = (build("wqmix", "qmix", w=w, weighting=weighting) for w in (1.0, 0.1))
    ours, theirs = (x.losses(x.gather(random_batch())) for x in (less, full))
    assert ours[0]["td"] < theirs[0]["td"]
    assert ours[0]["central"] == theirs[0]["central"]
    assert 0.1 < ours[1]["weight_mean"] < 1 == theirs[1]["weight_mean"]


def test_the_central_value_is_apart_and_has_targets_of_its_own() -> None:
    learner = build("wqmix", "qmix", target_update_interval=2)
    g = learner.gather(random_batch())
    assert all(x is None for x in gradient(learner, "central", g))
    losses, metrics = learner.losses(g)
    # Half the square of the central value's error at the targets of the central value's target.
    entries = g.packing.pack(
        learner.policy.unroll(g.batch, agent=learner.own["central_agent"]).values
    )
    q = entries[g.packing.previous].gather(-1, g.taken.actions[..., None]).squeeze(-1)
    central = learner.own["central_mixer"](q, g.state)
    goal = learner.policy.unroll(g.batch, agent=learner.target_own["central_agent"]).values
    after = g.packing.pack(goal)[g.batch.batch_size :]
    q_next = after.gather(-1, g.next_choice.actions[..., None]).squeeze(-1)
    target = learner.target(g, learner.target_own["central_mixer"](q_next, g.next_state))
    torch.testing.assert_close(losses["central"], 0.5 * (central - target).square().mean())
    torch.testing.assert_close(metrics["target_mean"], target.mean() / SPEC.n_agents)
    for _ in range(2):
        learner.learn(random_batch(), 0)
    for name, module in learner.own.items():
        for a, b in zip(module.parameters(), learner.target_own[name].parameters(), strict=True):
            assert torch.equal(a, b)


def test_the_central_value_need_not_be_monotonic() -> None:
    learner = build("wqmix", "qmix")
    q = torch.randn(50, SPEC.n_agents, requires_grad=True)
    total = learner.own["central_mixer"](q, torch.randn(50, SPEC.state_dim))
    (slope,) = torch.autograd.grad(total.sum(), q)
    assert bool((slope < 0).any())
    assert bool((slope > 0).any())
