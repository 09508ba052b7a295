"""COMA: the baseline by hand, what the critic may see, and the policy's floor."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from phalanx.errors import ConfigError
from phalanx.learners.coma import counterfactual_advantage
from phalanx.modules.policies.actor import with_floor
from phalanx.modules.policies.base import Seen

from ..modules.toys import ACTIONS, CPU, SPEC, assemble, random_batch

N, A = SPEC.n_agents, SPEC.n_actions


def parts(configs: dict[str, dict[str, Any]] | None = None, **kinds: Any) -> Any:
    return assemble(configs, learner="coma", policy="actor", critic="action_values", **kinds)


def test_advantage_by_hand() -> None:
    values = torch.tensor([[1.0, 5.0], [4.0, 0.0]])
    probabilities = torch.tensor([[0.75, 0.25], [0.5, 0.5]])
    advantage = counterfactual_advantage(values, probabilities, torch.tensor([1, 1]))
    assert advantage.tolist() == [3.0, -2.0]


def test_advantages_of_all_actions_cancel_out() -> None:
    """sum_a pi(a) A(a) = 0: the baseline moves no policy by itself."""
    values, p = torch.randn(20, N, A), torch.randn(20, N, A).softmax(-1)
    per_action = [counterfactual_advantage(values, p, torch.full((20, N), a)) for a in range(A)]
    total = (p * torch.stack(per_action, dim=-1)).sum(-1)
    torch.testing.assert_close(total, torch.zeros(20, N), atol=1e-6, rtol=0)


def test_a_value_does_not_depend_on_the_action_it_values() -> None:
    critic = parts().build("critic")
    obs, state = torch.randn(6, N, SPEC.obs_dim), torch.randn(6, SPEC.state_dim)
    actions, last = torch.randint(0, A, (6, N)), torch.randint(0, A + 1, (6, N))
    values = critic(obs, state, actions, last)
    assert values.shape == (6, N, A)
    other = actions.clone()
    other[:, 1] = (other[:, 1] + 1) % A
    moved = critic(obs, state, other, last)
    assert torch.equal(moved[:, 1], values[:, 1])
    for i in (0, 2):
        assert bool((moved[:, i] != values[:, i]).any(dim=-1).all())
    # And it tells agents and their last actions apart.
    assert not torch.equal(critic(obs, state, actions, (last + 1) % A)[:, 1], values[:, 1])
    same = obs[:, :1].expand_as(obs)
    assert not torch.equal(*critic(same, state, torch.zeros_like(actions), last)[:, :2].unbind(1))


def test_losses_by_hand() -> None:
    """One-step episodes that terminate: the target is the reward, the advantage that of the critic."""
    learner = parts().build("learner")
    batch = random_batch((1, 1, 1))
    batch = replace(
        batch,
        terminated=torch.ones(3, 1, dtype=torch.bool),
        truncated=torch.zeros(3, 1, dtype=torch.bool),
    )
    actions = batch.actions[:, 0]
    with torch.no_grad():
        q = learner.critic(batch.obs[:, 0], batch.state[:, 0], actions, torch.zeros_like(actions))
        log_p = learner.policy.unroll(batch)[:, 0]
    p = log_p.exp() * batch.avail_actions[:, 0]
    taken = q.gather(-1, actions[..., None])[..., 0]
    advantage = taken - (p * q).sum(-1)
    gain = advantage * log_p.gather(-1, actions[..., None])[..., 0]
    metrics = learner.learn(batch, 0)
    torch.testing.assert_close(metrics["loss_value"], (taken - batch.reward).square().mean())
    torch.testing.assert_close(metrics["loss_policy"], -gain.mean())


def test_padding_has_no_influence() -> None:
    found = []
    batch = random_batch((2, 5, 4))
    entry = torch.arange(batch.max_t + 1) > batch.lengths[:, None]
    step = torch.arange(batch.max_t) >= batch.lengths[:, None]
    spoilt = {}
    for name in ("obs", "state", "avail_actions", "actions", "reward", "terminated", "alive"):
        tensor = getattr(batch, name).clone()
        tensor[entry if tensor.shape[1] == entry.shape[1] else step] = 1
        spoilt[name] = tensor
    for b in (batch, replace(batch, **spoilt)):
        learner = parts().build("learner")
        for optimiser in learner.optimisers:
            optimiser.step = lambda: None
        learner.learn(b, 0)
        modules = (learner.policy, learner.critic)
        found.append([p.grad for module in modules for p in module.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert all(bool(x.any()) for x in found[0])


def test_vectors_are_refused() -> None:
    with pytest.raises(ConfigError, match="a chosen part needs discrete ones"):
        parts(spec=ACTIONS["continuous"], agent="normed").build("learner")


# --- the floor under the policy's probabilities ---


def test_floor_by_hand() -> None:
    logits = torch.tensor([0.75, 0.25, 0.5]).log()
    may = torch.tensor([True, True, False])
    p = with_floor(logits, may, 0.4).masked_fill(~may, -torch.inf).softmax(-1)
    torch.testing.assert_close(p, torch.tensor([0.65, 0.35, 0.0]))
    assert with_floor(logits, may, 0.0) is logits


def test_floor_falls_and_acting_and_learning_agree_on_it() -> None:
    floor = {"epsilon_start": 0.5, "epsilon_finish": 0.1, "epsilon_anneal_time": 100}
    policy = parts({"policy": floor}).build("policy")
    for parameter in policy.parameters():
        parameter.data *= 20  # away from the uniform policy
    batch = random_batch((4, 4))
    generator = torch.Generator().manual_seed(0)
    for t_env, epsilon in ((0, 0.5), (50, 0.3), (500, 0.1)):
        carry = policy.init_carry(2, CPU)
        policy.act(Seen.of(batch, 0), carry, t_env, False, generator)
        assert policy.metrics(t_env) == {"epsilon": pytest.approx(epsilon)}
        p = policy.unroll(batch)[:, 0].exp()
        may = batch.avail_actions[:, 0]
        least = epsilon / may.sum(-1)
        assert bool((p >= least[..., None] - 1e-6)[may].all())
        assert not p[~may].any()
        drawn = [
            policy.act(Seen.of(batch, 0), carry, t_env, False, generator)[0] for _ in range(3000)
        ]
        share = torch.nn.functional.one_hot(torch.stack(drawn), A).float().mean(0)
        torch.testing.assert_close(share, p, atol=0.05, rtol=0)
    assert policy.metrics(0)["epsilon"] == 0.5
    assert parts().build("policy").metrics(0) == {}


def test_a_floor_under_vectors_is_refused() -> None:
    configs = {"policy": {"epsilon_start": 0.5}}
    with pytest.raises(ConfigError, match="epsilon_start mixes in a uniform choice"):
        parts(configs, spec=ACTIONS["continuous"], agent="normed").build("policy")
