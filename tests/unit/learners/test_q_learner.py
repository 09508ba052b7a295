"""The Q learner: targets by hand, masks without influence, exact continuation."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from phalanx.data.batch import EpisodeBatch
from phalanx.envs.protocol import Discrete, EnvSpec
from phalanx.learners.q_learner import QLearner
from phalanx.learners.targets import td_lambda_target, td_target
from phalanx.learners.value_based import conservative_gap, drift
from phalanx.modules.mixers.base import Choice, Mixer
from phalanx.modules.policies.base import Seen
from phalanx.registry import MIXERS

from ..modules.toys import CPU, WITH_CONTEXT, assemble, random_batch

GAME = EnvSpec(n_agents=2, obs_dim=1, state_dim=1, action=Discrete(2), episode_limit=2)


def build(configs: dict[str, dict[str, Any]] | None = None, **parts: Any) -> QLearner:
    learner: QLearner = assemble(configs, **parts).build("learner")
    return learner


def gradients(learner: QLearner, batch: EpisodeBatch) -> list[torch.Tensor]:
    """Gradients of one update before any of it is applied."""
    learner.optimisers[0].step = lambda: None  # type: ignore[method-assign, assignment]
    learner.learn(batch, 0)
    return [p.grad.clone() for p in learner.parameters if p.grad is not None]


def test_target_by_hand() -> None:
    target = td_target(
        reward=torch.tensor([1.0, 2.0, 3.0]),
        terminated=torch.tensor([False, True, False]),
        next_value=torch.tensor([[10.0, 20.0], [10.0, 20.0], [-4.0, 0.0]]),
        gamma=0.5,
    )
    assert target.tolist() == [[6, 11], [2, 2], [1, 3]]


def test_target_ignores_what_would_follow_the_end() -> None:
    target = td_target(torch.ones(1), torch.ones(1).bool(), torch.tensor([[torch.inf]]), 0.9)
    assert target.tolist() == [[1]]


def test_lambda_returns_by_hand() -> None:
    # Row 0 terminates after three steps, row 1 is cut off after two and is padded.
    true, no = True, False
    args = (
        torch.tensor([[1.0, 2.0, 4.0], [1.0, 2.0, 99.0]]),
        torch.tensor([[no, no, true], [no, no, no]]),
        torch.tensor([[10.0, 20.0, 30.0], [10.0, 20.0, 99.0]])[..., None],
        torch.tensor([[true, true, no], [true, no, no]]),
        0.5,
    )
    returns = td_lambda_target(*args, 0.25)[..., 0]
    # Row 0: G2 = 4; G1 = 2 + .5 (.75 * 20 + .25 * 4) = 10; G0 = 1 + .5 (.75 * 10 + .25 * 10) = 6.
    assert returns[0].tolist() == [6, 10, 4]
    # Row 1: G1 = 2 + .5 * 20 = 12; G0 = 1 + .5 (.75 * 10 + .25 * 12) = 6.25.
    assert returns[1, :2].tolist() == [6.25, 12]
    one_step = td_target(*(x.flatten(0, 1) for x in args[:3]), 0.5).view(2, 3)
    torch.testing.assert_close(td_lambda_target(*args, 0.0)[..., 0], one_step)


def test_drift_by_hand() -> None:
    online = torch.tensor([[1.0, 5.0], [3.0, 9.0]])  # variances 1 and 4
    assert drift(online, online) == 0
    assert drift(online.mean(dim=0).expand(2, 2), online) == 1
    assert drift(online + 1, online) == pytest.approx(1 / 2.5)
    assert drift(torch.zeros(2, 1), torch.zeros(2, 1)) == 0  # a context that never varies


class Table(torch.nn.Module):
    """Stands in for the agent: fixed values for every entry of a batch, whatever is seen."""

    def __init__(self, values: torch.Tensor) -> None:
        super().__init__()
        self.values = torch.nn.Parameter(values)
        self.hidden_dim = self.frames = 1

    def forward(self, obs: Any, last_actions: Any, carry: Any = None, lengths: Any = None) -> Any:
        from phalanx.modules.agents.base import AgentOutput

        return AgentOutput(self.values, self.values[..., :1], self.values[:, -1, :, :1])


@pytest.mark.parametrize("double_q", [True, False])
def test_update_by_hand_terminated_against_truncated(double_q: bool) -> None:
    # Two episodes of two steps, two agents, two actions; the first terminates, the second is cut off.
    true, zero = torch.ones(2, 2, dtype=torch.bool), torch.zeros(2, 2, dtype=torch.bool)
    batch = EpisodeBatch(
        spec=GAME,
        obs=torch.zeros(2, 3, 2, 1),
        state=torch.zeros(2, 3, 1),
        # At the last entry of both, the second agent may only take action 0.
        avail_actions=torch.tensor([[[[1, 1], [1, 1]]] * 2 + [[[1, 1], [1, 0]]]] * 2).bool(),
        actions=torch.tensor([[[0, 1], [1, 1]]] * 2),
        reward=torch.tensor([[1.0, 2.0], [1.0, 2.0]]),
        terminated=torch.stack([torch.tensor([False, True]), zero[0]]),
        truncated=torch.stack([zero[0], torch.tensor([False, True]) & true[0]]),
        lengths=torch.tensor([2, 2]),
    )
    # values[episode, entry, agent, action], alike in both episodes
    online = torch.tensor([[[1.0, 0], [0, 2]], [[3, 4], [5, 6]], [[7, 8], [0, 9]]])
    target = torch.tensor([[[0.0, 0], [0, 0]], [[10, 20], [30, 40]], [[60, 50], [70, 80]]])
    learner = build({"learner": {"gamma": 0.5, "double_q": double_q}}, mixer="vdn", spec=GAME)
    learner.policy.agent = Table(online.expand(2, 3, 2, 2).clone())  # type: ignore[assignment]
    learner.target_agent = Table(target.expand(2, 3, 2, 2))  # type: ignore[assignment]
    # Step 0: both nets choose the second action of both agents, 1 + 0.5 (20 + 40).
    # Step 1: online chooses actions (1, 0), worth 50 + 70; the target's own choice is 60 + 70.
    last = 2 + 0.5 * (50 + 70 if double_q else 60 + 70)
    wanted = torch.tensor([[31.0, 2.0], [31.0, last]])
    taken = torch.tensor([[3.0, 10.0], [3.0, 10.0]])
    metrics = learner.learn(batch, 0)
    torch.testing.assert_close(metrics["loss_td"], (taken - wanted).square().mean())
    torch.testing.assert_close(metrics["td_error_abs"], (taken - wanted).abs().mean())
    torch.testing.assert_close(metrics["target_mean"], wanted.mean() / 2)
    torch.testing.assert_close(metrics["q_taken_mean"], taken.mean() / 2)


@pytest.mark.parametrize("td_lambda", [0.0, 0.7])
@pytest.mark.parametrize("mixer", [n for n, part in MIXERS.items() if issubclass(part, Mixer)])
@pytest.mark.parametrize("world_model", WITH_CONTEXT)
def test_padding_has_no_influence(mixer: str, world_model: str, td_lambda: float) -> None:
    batch = random_batch((2, 5, 4))
    entry = torch.arange(batch.max_t + 1) > batch.lengths[:, None]
    step = torch.arange(batch.max_t) >= batch.lengths[:, None]
    spoilt = {}
    for name in ("obs", "state", "avail_actions", "actions", "reward", "terminated", "alive"):
        tensor = getattr(batch, name).clone()
        padding = entry if tensor.shape[1] == entry.shape[1] else step
        tensor[padding] = 1
        spoilt[name] = tensor
    parts = {"mixer": mixer, "world_model": world_model}
    configs = {"learner": {"td_lambda": td_lambda}}
    clean, dirty = (
        gradients(build(configs, **parts), b) for b in (batch, replace(batch, **spoilt))
    )
    assert clean
    assert all(torch.equal(a, b) for a, b in zip(clean, dirty, strict=True))


def test_more_padding_changes_nothing() -> None:
    short, long = random_batch((2, 5)), random_batch((2, 5, 9))
    # The same two episodes, padded to 9 steps.
    fields = ("obs", "state", "avail_actions", "actions", "reward", "terminated", "truncated")
    padded = {}
    for name in (*fields, "alive", "visibility"):
        tensor = torch.zeros_like(getattr(long, name)[:2])
        source = getattr(short, name)
        tensor[:, : source.shape[1]] = source
        padded[name] = tensor
    wide = EpisodeBatch(spec=short.spec, lengths=short.lengths, **padded)
    for a, b in zip(gradients(build(), short), gradients(build(), wide), strict=True):
        assert torch.equal(a, b)


def test_unavailable_next_actions_have_no_influence() -> None:
    """Raising the target's value of an action that cannot be taken changes no gradient."""
    batch = random_batch()
    online = torch.randn(4, 13, 3, 5)
    target = torch.randn(4, 13, 3, 5)
    higher = target.masked_fill(~batch.avail_actions, 1e6)
    found = []
    for values in (target, higher):
        learner = build(mixer="vdn")
        learner.policy.agent = Table(online.clone())  # type: ignore[assignment]
        learner.target_agent = Table(values.clone())  # type: ignore[assignment]
        learner.parameters = [learner.policy.agent.values]  # type: ignore[list-item]
        found.append(gradients(learner, batch)[0])
    assert torch.equal(*found)
    assert found[0].any()


@pytest.mark.parametrize("world_model", WITH_CONTEXT)
def test_targets_get_no_gradient_and_are_copied_on_time(world_model: str) -> None:
    learner = build({"learner": {"target_update_interval": 2}}, world_model=world_model)
    batch = random_batch()
    first = {k: v.clone() for k, v in learner.target_agent.state_dict().items()}
    learner.learn(batch, 0)
    assert all(p.grad is None for p in learner.target_agent.parameters())
    assert all(p.grad is None for p in learner.target_mixer.parameters())
    assert all(torch.equal(v, first[k]) for k, v in learner.target_agent.state_dict().items())
    learner.learn(batch, 0)
    for k, v in learner.policy.agent.state_dict().items():
        assert torch.equal(v, learner.target_agent.state_dict()[k])
    assert any(not torch.equal(v, first[k]) for k, v in learner.target_agent.state_dict().items())


@pytest.mark.parametrize("world_model", WITH_CONTEXT)
@pytest.mark.parametrize("optim", ["rmsprop", "adam"])
def test_continuing_is_exact(world_model: str, optim: str) -> None:
    config = {"learner": {"target_update_interval": 3, "optim": optim}}
    batches = [random_batch(seed=i) for i in range(6)]
    whole = build(config, world_model=world_model)
    for batch in batches:
        whole.learn(batch, 0)
    part = build(config, world_model=world_model)
    for batch in batches[:4]:
        part.learn(batch, 0)
    resumed = build(config, world_model=world_model, seed=5)
    resumed.load_state_dict(part.state_dict())
    for batch in batches[4:]:
        resumed.learn(batch, 0)
    assert resumed.metrics() == whole.metrics()
    ours, theirs = (_leaves(learner.state_dict()) for learner in (resumed, whole))
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        same = torch.equal(value, theirs[name]) if torch.is_tensor(value) else value == theirs[name]
        assert same, name


def _leaves(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {k: v for key in value for k, v in _leaves(value[key], f"{path}/{key}").items()}
    if isinstance(value, (list, tuple)):
        return {k: v for i, x in enumerate(value) for k, v in _leaves(x, f"{path}/{i}").items()}
    return {path: value}


def test_metrics_are_means_since_the_last_call() -> None:
    learner = build()
    losses = [float(learner.learn(random_batch(seed=i), 0)["loss"]) for i in range(3)]
    assert learner.metrics()["loss"] == pytest.approx(sum(losses) / 3)
    assert learner.metrics() == {}
    names = {"loss", "loss_td", "grad_norm", "td_error_abs", "q_taken_mean", "target_mean"}
    assert names <= set(learner.learn(random_batch(), 0))


@pytest.mark.parametrize("mixer", ["none", "vdn", "qmix"])
def test_learns_a_game_of_two(mixer: str) -> None:
    """One step, reward 1 for (0, 0) and 4 for (1, 1): values become those of the table's best corner."""
    payoff = torch.tensor([[1.0, 0.0], [0.0, 4.0]])
    actions = torch.randint(0, 2, (256, 1, 2), generator=torch.Generator().manual_seed(0))
    no = torch.zeros(256, 1, dtype=torch.bool)
    batch = EpisodeBatch(
        spec=GAME,
        obs=torch.ones(256, 2, 2, 1),
        state=torch.ones(256, 2, 1),
        avail_actions=torch.ones(256, 2, 2, 2, dtype=torch.bool),
        actions=actions,
        reward=payoff[actions[..., 0], actions[..., 1]],
        terminated=~no,
        truncated=no,
        lengths=torch.ones(256, dtype=torch.int64),
    )
    learner = build({"learner": {"lr": 5e-3, "optim": "adam"}}, mixer=mixer, spec=GAME)
    for _ in range(300):
        learner.learn(batch, 0)
    carry = learner.policy.init_carry(1, CPU)
    seen = Seen(*(field[:1] for field in Seen.of(batch, 0)))
    chosen, _ = learner.policy.act(seen, carry, 0, True, torch.Generator())
    assert chosen.tolist() == [[1, 1]]
    values = learner.policy.unroll(batch).values[0, 0]
    if mixer == "none":  # own action's mean over what the other does
        torch.testing.assert_close(values[:, 1], torch.full((2,), 2.0), atol=0.3, rtol=0)
    if mixer == "qmix":  # the mixing network can represent the table
        choice = Choice.of(values, batch.avail_actions[0, 0], torch.tensor([1, 1]))
        total = learner.mixer(Choice(*(x[None] for x in choice)), batch.state[0, :1])
        torch.testing.assert_close(total, torch.tensor([[4.0]]), atol=0.2, rtol=0)


# --- learning of recorded actions alone ---


def test_conservative_gap_by_hand() -> None:
    values = torch.tensor([[1.0, 1.0, 9.0], [0.0, math.log(3), 5.0], [2.0, 7.0, 7.0]])
    avail = torch.tensor([[1, 1, 0], [1, 1, 0], [1, 0, 0]]).bool()
    gap = conservative_gap(values, avail, torch.tensor([1.0, 0.0, 2.0]))
    torch.testing.assert_close(gap, torch.tensor([math.log(2), math.log(4), 0.0]))


def recorded_choice() -> EpisodeBatch:
    """One step of two agents who always took action 0, for a reward of -1."""
    no = torch.zeros(4, 1, dtype=torch.bool)
    return EpisodeBatch(
        spec=GAME,
        obs=torch.ones(4, 2, 2, 1),
        state=torch.ones(4, 2, 1),
        avail_actions=torch.ones(4, 2, 2, 2, dtype=torch.bool),
        actions=torch.zeros(4, 1, 2, dtype=torch.int64),
        reward=torch.full((4, 1), -1.0),
        terminated=~no,
        truncated=no,
        lengths=torch.ones(4, dtype=torch.int64),
    )


@pytest.mark.parametrize("mixer", ["none", "qmix"])
def test_what_was_never_done_does_not_seem_better(mixer: str) -> None:
    chosen = []
    for alpha in (0.0, 1.0):
        config = {"lr": 5e-3, "optim": "adam", "cql_alpha": alpha}
        learner = build({"learner": config}, mixer=mixer, spec=GAME)
        for _ in range(60):
            metrics = learner.learn(recorded_choice(), 0)
        chosen.append(learner.policy.unroll(recorded_choice()).values[0, 0].argmax(-1).tolist())
    assert chosen == [[1, 1], [0, 0]]
    total = metrics["loss_td"] + metrics["loss_cql"]
    torch.testing.assert_close(metrics["loss"], total)


def test_without_its_weight_there_is_no_such_loss() -> None:
    assert "loss_cql" not in build().learn(random_batch(), 0)
