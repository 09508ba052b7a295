"""MADS4's policy: rows equal steps, agents wait for those before them, and use what these tell."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from phalanx.data.batch import EpisodeBatch
from phalanx.envs.protocol import Discrete, EnvSpec
from phalanx.modules.policies.base import Seen
from phalanx.modules.policies.s4 import S4Policy
from phalanx.modules.policies.sequence import Moments

from .test_sequence_policies import LONG, evaluated, followed, hindsight, outputs, piece
from .toys import ACTIONS, CPU, assemble, random_batch

SHARES = ("none", "logits", "memory", "both")
SMALL = {"embed_dim": 8, "features": 6, "states": 8, "layers": 2}


def make(spec: EnvSpec = LONG, **keys: Any) -> S4Policy:
    """A small policy."""
    policy: S4Policy = assemble({"policy": SMALL | keys}, spec, policy="s4").build("policy")
    return policy


@pytest.mark.parametrize("kernel", ["dplr", "s4d_lin"])
@pytest.mark.parametrize("share", SHARES)
def test_rows_equal_steps_and_pieces_go_on(share: str, kernel: str) -> None:
    policy, batch = make(share=share, kernel=kernel), random_batch((40, 40), LONG)
    whole = evaluated(policy, batch)
    steps = followed(policy, batch, hindsight(policy, batch))
    greedy = torch.stack([proposal.actions for _, proposal in steps], dim=1)
    ours = torch.stack([proposal.log_prob for _, proposal in steps], dim=1)
    assert whole.outputs is not None
    judged, _ = policy.distribution.log_prob(whole.outputs, batch.avail_actions[:, :-1], greedy)
    torch.testing.assert_close(ours, judged, atol=1e-5, rtol=1e-5)
    late = piece(batch, 23, 40, steps[23][0] | {"reward": batch.reward[:, 22]})
    found = evaluated(policy, late)
    torch.testing.assert_close(found.log_prob, whole.log_prob[:, 23:], atol=1e-5, rtol=1e-5)
    assert found.carry is None


@pytest.mark.parametrize("share", SHARES)
def test_within_a_step_agents_know_of_those_before_them_alone(share: str) -> None:
    policy, batch = make(share=share, use_state=False), random_batch((30,), LONG)
    plain = outputs(policy.requires_grad_(False), batch)
    for i in range(3):
        obs = batch.obs.clone()
        obs[0, 20, i] += 1.0
        moved = (outputs(policy, replace(batch, obs=obs)) - plain)[0].abs().amax(dim=-1)
        assert float(moved[:20].max()) < 1e-6  # nothing but rounding by the Fourier transform
        later = [j for j in range(3) if j == i or (j > i and share != "none")]
        assert all(moved[20, j] > 1e-6 for j in later)
        assert not moved[:, [j for j in range(3) if j not in later]].any()


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("share", SHARES)
def test_who_is_told_teaches_who_told(share: str, detach: bool) -> None:
    policy, batch = make(share=share, detach=detach, use_state=False), random_batch((9,), LONG)
    obs = batch.obs.clone().requires_grad_()
    found = outputs(policy, replace(batch, obs=obs))
    for i in range(3):
        (slope,) = torch.autograd.grad(found[:, :, i].sum(), obs, retain_graph=True)
        reached = slope.abs().sum(dim=(0, 1, 3)) > 0
        told = share != "none" and not detach
        assert reached.tolist() == [j == i or (told and j < i) for j in range(3)]


def copy_task() -> tuple[EnvSpec, EpisodeBatch]:
    """The first agent sees a bit and does it; the second sees nothing and did the same at the same step."""
    spec = EnvSpec(n_agents=2, obs_dim=1, state_dim=1, action=Discrete(2), episode_limit=8)
    batch = random_batch((8,) * 64, spec)
    bit = torch.randint(0, 2, (64, 9), generator=torch.Generator().manual_seed(3))
    obs = torch.zeros_like(batch.obs)
    obs[:, :, 0, 0] = bit.float()
    return spec, replace(
        batch,
        obs=obs,
        state=torch.zeros_like(batch.state),
        avail_actions=torch.ones_like(batch.avail_actions),
        actions=bit[:, :8, None].expand(-1, -1, 2),
        reward=torch.zeros_like(batch.reward),
    )


@pytest.mark.parametrize("share", SHARES)
def test_the_second_agent_uses_what_the_first_tells(share: str) -> None:
    spec, batch = copy_task()
    policy = make(spec, share=share, features=12, layers=1)
    optimiser = torch.optim.Adam(policy.parameter_groups(), lr=0.02)
    for _ in range(60):
        log_prob = evaluated(policy, batch).log_prob
        optimiser.zero_grad()
        (-log_prob.mean()).backward()
        optimiser.step()
    first, second = (-log_prob.detach()).mean(dim=(0, 1, 3)).tolist()
    assert first < 0.05
    if share == "none":
        assert second == pytest.approx(math.log(2), rel=0.05)
    else:
        assert second < 0.05


def test_a_step_is_what_was_seen_then_done_before_and_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same in learning and in acting, and of the step whose action it is to give."""
    policy, batch = make(), random_batch((3,), LONG)
    batch = replace(
        batch,
        reward=torch.tensor([[1.0, 0.0, 2.0]]),
        actions=torch.tensor([3, 1, 2])[None, :, None].expand(1, 3, 3),
        avail_actions=torch.ones_like(batch.avail_actions),
    )
    told: list[Moments] = []
    look = policy.look
    monkeypatch.setattr(policy, "look", lambda m, memory: told.append(m) or look(m, memory))
    evaluated(policy, batch)
    followed(policy, batch, hindsight(policy, batch))
    for moments in (told[0], Moments(*(torch.cat(x, dim=1) for x in zip(*told[1:], strict=True)))):
        assert moments.return_to_go.tolist() == [[3, 2, 2]]
        assert moments.last_actions[0, :, 0].tolist() == [0, 4, 2]  # plus one
        assert torch.equal(moments.obs, batch.obs[:, :3])
        assert torch.equal(moments.state, batch.state[:, :3])


def test_what_is_asked_for_and_the_state_matter() -> None:
    policy, batch = make(), random_batch((9,), LONG)
    plain = outputs(policy, batch)
    asked = replace(batch, carry={"return_to_go": torch.tensor([50.0])})
    assert not torch.allclose(outputs(policy, asked), plain)
    other = replace(batch, state=batch.state + 1)
    assert not torch.allclose(outputs(policy, other), plain)
    blind = make(use_state=False)
    assert torch.equal(outputs(blind, other), outputs(blind, batch))


@pytest.mark.parametrize(
    ("agents", "obs", "state", "actions", "width"),
    [(2, 478, 675, 70, 584), (5, 124, 156, 12, 913), (6, 172, 213, 14, 1044), (6, 9, 9, 5, 1035)],
)
def test_sizes_are_the_published_ones(
    agents: int, obs: int, state: int, actions: int, width: int
) -> None:
    spec = EnvSpec(agents, obs, state, Discrete(actions), 50)
    policy = assemble(spec=spec, policy="s4").build("policy")
    assert policy.enter.in_features == width
    if agents == 2:  # what the published network trains, and the head's bias
        assert sum(p.numel() for p in policy.parameters()) == 275_936 + actions


def test_state_spaces_have_a_rate_of_their_own() -> None:
    policy = make(train_ssm="all", ssm_lr=0.003)
    rest, own = policy.parameter_groups()
    assert (own["lr"], own["weight_decay"]) == (0.003, 0.0)
    assert len(own["params"]) == 2 * 5  # dt, decays, frequencies, B and P of two layers
    assert len(rest["params"]) + len(own["params"]) == len(list(policy.parameters()))
    assert len(make().parameter_groups()) == 1
    configs = {"policy": SMALL | {"train_ssm": "dt"}, "learner": {"lr": 0.5}}
    for learner in ("ppo", "bc", "omiga"):
        parts = assemble(configs, learner=learner, policy="s4", agent="normed", critic="normed")
        groups = parts.build("learner").optimisers[0].param_groups
        assert [group["lr"] for group in groups] == [0.5, 1e-3]


def flops(policy: S4Policy, steps: int, carry: dict[str, Tensor] | None) -> int:
    """Of one step with this carry, or of a whole row where there is none."""
    batch = random_batch((steps,) * 4, replace(LONG, episode_limit=400))
    counter = FlopCounterMode(display=False, custom_mapping=COSTS)
    with torch.no_grad(), counter:
        if carry is None:
            evaluated(policy, batch)
        else:
            policy.act(Seen.of(batch, 0), carry, 0, True, torch.Generator())
    return int(counter.get_total_flops())


def _transform(shape: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    longest = max(shape[-1], out_shape[-1])
    return int(math.prod(shape[:-1]) * 2.5 * longest * math.log2(longest))


def _elements(shape: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return 6 * math.prod(out_shape)  # a product of complex numbers; too many of real ones


def _added(shape: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return 2 * math.prod(out_shape)


COSTS = {
    torch.ops.aten._fft_r2c: _transform,
    torch.ops.aten._fft_c2r: _transform,
    torch.ops.aten.mul: _elements,
    torch.ops.aten.addcmul: _added,
    torch.ops.aten.addcmul_: _added,
}


def test_acting_costs_the_same_late_in_an_episode_and_little() -> None:
    policy = make(replace(LONG, episode_limit=400), states=96, features=24)
    carry = policy.init_carry(4, CPU)
    flops(policy, 1, carry)  # what is fixed is made once
    early, late = (flops(policy, 1, carry | {"step": torch.full((4,), t)}) for t in (10, 390))
    assert early == late > 0
    evaluated(
        policy, random_batch((200,), replace(LONG, episode_limit=400))
    )  # kernels are made once
    assert flops(policy, 200, None) > 10 * late


def test_vectors_are_drawn_too() -> None:
    spec = ACTIONS["continuous"]
    policy, batch = make(spec), random_batch((4, 4), spec)
    seen, carry = Seen.of(batch, 0), policy.init_carry(2, CPU)
    drawn, mean = (policy.propose(seen, carry, 0, g).actions for g in (torch.Generator(), None))
    assert drawn.shape == mean.shape == (2, 3, 2)
    assert not torch.equal(drawn, mean)
    assert outputs(policy, batch).shape == (2, 4, 3, 4)
