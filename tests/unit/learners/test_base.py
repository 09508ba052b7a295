"""What learners share: nothing that is not finite gets into the weights, and it is named in a sentence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from phalanx.errors import DivergedError
from phalanx.learners.base import Learner
from phalanx.registry import LEARNERS

from ..modules.toys import assemble, random_batch

ACTOR_CRITIC = {"policy": "actor", "agent": "normed", "critic": "normed"}
FAMILIES: dict[str, dict[str, Any]] = {
    "q_learner": {},
    "ppo": ACTOR_CRITIC,
    "happo": ACTOR_CRITIC,
    "bc": ACTOR_CRITIC,
    "coma": {"policy": "actor", "critic": "action_values"},
    "qtran": {"mixer": "qtran_base"},
    "wqmix": {},
    "omiga": {"policy": "actor", "agent": "normed"},
}
CONFIGS: dict[str, dict[str, Any]] = {
    "happo": {"agent": {"share_parameters": False}},
    "bc": {"learner": {"value_loss_coef": 1.0}},
}
# Their losses are squares, so a finite reward may be too large.
SQUARES = ("q_learner", "coma", "qtran", "wqmix", "omiga")


def build(name: str) -> Learner:
    """A learner of this name with parts that fit it."""
    learner: Learner = assemble(CONFIGS.get(name), learner=name, **FAMILIES[name]).build("learner")
    return learner


def weights(learner: Learner) -> list[torch.Tensor]:
    """All parameters and buffers, copied."""
    return [x.clone() for module in learner.modules.values() for x in module.state_dict().values()]


def test_what_continuing_takes_is_written_once() -> None:
    for name, learner in LEARNERS.items():
        assert learner.state_dict is Learner.state_dict, name
        assert learner.load_state_dict is Learner.load_state_dict, name


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("reward", [torch.inf, torch.nan, 1e30])
def test_what_is_not_finite_moves_no_weight(name: str, reward: float) -> None:
    learner = build(name)
    learner.learn(random_batch(), 10)
    batch = random_batch()
    batch.reward[1, 4] = reward
    before = weights(learner)
    # 1e30 is finite, its square is not; advantages are normalised and a Huber loss has no squares.
    if reward == 1e30 and name not in SQUARES:
        learner.learn(batch, 20)
    else:
        with pytest.raises(
            DivergedError, match=r"update 2, with the run's clock at 20, \w+ .* (is|not)"
        ):
            learner.learn(batch, 20)
        assert all(torch.equal(a, b) for a, b in zip(weights(learner), before, strict=True))
        assert learner.n_updates == 1
    assert all(p.isfinite().all() for p in weights(learner))


def test_the_sentence_tells_what_to_look_at() -> None:
    batch = random_batch()
    spoilt = {"obs": batch.obs.clone(), "reward": batch.reward.clone()}
    spoilt["obs"][0, 1, 2, 3] = torch.nan
    with pytest.raises(DivergedError, match="The batch itself is not finite: obs"):
        build("q_learner").learn(replace(batch, **spoilt), 0)
    spoilt["obs"], spoilt["reward"][0, 0] = batch.obs, 3e25
    with pytest.raises(
        DivergedError, match=r"loss td is inf.* and 3e\+25\. .*smaller learning rate"
    ):
        build("q_learner").learn(replace(batch, **spoilt), 0)


def test_a_gradient_that_is_not_finite_is_named() -> None:
    learner = build("q_learner")
    parameter = learner.modules["mixer"].get_parameter("hyper_b_1.weight")
    parameter.register_hook(lambda grad: grad * torch.inf)
    before = weights(learner)
    with pytest.raises(DivergedError, match=r"the gradient of mixer \(hyper_b_1\.weight\)"):
        learner.learn(random_batch(), 0)
    assert all(torch.equal(a, b) for a, b in zip(weights(learner), before, strict=True))


@pytest.mark.parametrize("name", FAMILIES)
def test_all_that_learns_is_kept(name: str) -> None:
    """Every optimised parameter lies in a module that checkpoints hold."""
    learner = build(name)
    kept = {id(p) for module in learner.modules.values() for p in module.parameters()}
    groups = [group for o in learner.optimisers for group in o.param_groups]
    assert groups
    assert all(id(p) in kept for group in groups for p in group["params"])


@pytest.mark.parametrize("name", FAMILIES)
def test_continuing_is_exact(name: str) -> None:
    whole, part = build(name), build(name)
    for seed in range(6):
        whole.learn(random_batch(seed=seed), 10 * seed)
    for seed in range(4):
        part.learn(random_batch(seed=seed), 10 * seed)
    resumed = build(name)
    resumed.load_state_dict(part.state_dict())
    for seed in range(4, 6):
        resumed.learn(random_batch(seed=seed), 10 * seed)
    assert resumed.metrics() == whole.metrics()
    assert all(torch.equal(a, b) for a, b in zip(weights(resumed), weights(whole), strict=True))


@pytest.mark.parametrize(("name", "part"), list(LEARNERS.items()))
def test_learners_say_where_their_batches_come_from(name: str, part: type[Learner]) -> None:
    assert issubclass(part, Learner)
    assert isinstance(part.on_policy, bool)
    assert "state_dict" not in vars(part)
    assert name in FAMILIES
