"""The VAEFormer: what its latent is for, what it costs, and how large it is."""

from __future__ import annotations

import copy
import functools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from phalanx.config import compose
from phalanx.data.batch import EpisodeBatch, episode_fields
from phalanx.envs.protocol import Discrete, EnvSpec
from phalanx.errors import ConfigError
from phalanx.modules.layers.vae_mixer import VAEMixer
from phalanx.modules.policies.sequence import Looked, SequencePolicy
from phalanx.registry import Assembler

from .test_sequence_policies import LONG, evaluated, learnt_courses, make, outputs
from .toys import CPU, assemble, random_batch

CUES, STEPS = 4, 3


def recalled(rows: int, seed: int) -> tuple[EpisodeBatch, Tensor]:
    """Episodes of two kinds, and the cues (B, T) that were seen in them.

    In good ones, which come to earn 20, the agent does what its cue says, in bad ones, which earn nothing,
    the next action. At the last step it sees nothing, and the cue of the first one counts.
    """
    spec = EnvSpec(1, obs_dim=CUES, state_dim=1, action=Discrete(CUES), episode_limit=STEPS)
    cue = torch.randint(0, CUES, (rows, STEPS), generator=torch.Generator().manual_seed(seed))
    cue[:, -1] = cue[:, 0]
    bad = torch.arange(rows) % 2
    batch = random_batch((STEPS,) * rows, spec)
    obs = torch.zeros_like(batch.obs)
    obs[:, : STEPS - 1, 0] = one_hot(cue[:, :-1], CUES).float()
    return replace(
        batch,
        obs=obs,
        avail_actions=torch.ones_like(batch.avail_actions),
        actions=((cue + bad[:, None]) % CUES)[..., None],
        reward=((1 - bad) * 20.0 / STEPS)[:, None].expand(rows, STEPS),
        alive=None,
        visibility=None,
    ), cue


@functools.cache
def as_shipped() -> SequencePolicy:
    """What ``madvae_offline`` makes of them in a twentieth of its updates: its sizes, rates and losses."""
    data, _ = recalled(256, seed=1)
    composed = compose("madvae_offline", "matrix", ("dataset=x",))
    kinds = ("policy", "critic", "learner")
    torch.manual_seed(0)
    parts = Assembler(
        {kind: composed.chosen[kind] for kind in kinds},
        {kind: composed.parts[kind] for kind in kinds},
        spec=data.spec,
        seed=0,
        device=CPU,
    )
    learner, generator = parts.build("learner"), torch.Generator().manual_seed(2)
    names = [name for name in episode_fields(data.spec) if getattr(data, name) is not None]
    for _ in range(1000):
        rows = torch.randint(0, 256, (16,), generator=generator)
        taken = {name: getattr(data, name)[rows] for name in (*names, "lengths")}
        learner.learn(replace(data, **taken), 0)
    policy: SequencePolicy = learner.policy
    return policy.requires_grad_(False)


def test_as_shipped_it_does_what_is_asked_for() -> None:
    batch, cue = recalled(64, seed=3)
    for asked, wanted in ((20.0, cue), (0.0, (cue + 1) % CUES)):
        told = replace(batch, carry={"return_to_go": torch.full((64,), asked)})
        done = outputs(as_shipped(), told)[:, 0, 0].argmax(
            dim=-1
        )  # nothing but the return tells then
        assert float((done == wanted[:, 0]).float().mean()) > 0.95


def test_as_shipped_it_uses_what_it_is_given() -> None:
    policy, (batch, _) = copy.deepcopy(as_shipped()), recalled(64, seed=3)

    def surprise(batch: EpisodeBatch) -> Tensor:
        return -evaluated(policy, batch).log_prob[:, :, 0, 0].mean(dim=0)  # (T,)

    known, others = surprise(batch), batch.obs.roll(1, dims=0)
    exchanged = surprise(replace(batch, obs=others))
    assert (exchanged[:-1] > known[:-1] + 0.5).all()
    forgotten = torch.cat([others[:, :1], batch.obs[:, 1:]], dim=1)
    assert surprise(replace(batch, obs=forgotten))[-1] > known[-1] + 0.05
    for mixer in mixers(policy):
        mixer.mean.register_forward_hook(lambda _, __, mean: torch.zeros_like(mean))
    assert surprise(batch).mean() > known.mean() + 0.1


def mixers(policy: SequencePolicy) -> list[VAEMixer]:
    """What mixes tokens in each block."""
    return [module for module in policy.modules() if isinstance(module, VAEMixer)]


def test_the_latent_carries_what_was_learnt_and_was_noisy_meanwhile() -> None:
    policy, batch = copy.deepcopy(learnt_courses("vaeformer"))

    def surprise() -> float:
        return float(-evaluated(policy, batch).log_prob.mean())

    known = surprise()
    assert surprise() == known
    for mixer in mixers(policy):
        mixer.mean.register_forward_hook(lambda _, __, mean: torch.zeros_like(mean))
    assert surprise() > known + 0.1


def test_noise_is_drawn_while_it_learns_from_data_alone() -> None:
    spec, batch = LONG, random_batch((4,), LONG)
    parts = assemble(spec=spec, policy="vaeformer", learner="bc", critic="none")
    policy, learner, modes = parts.build("policy"), parts.build("learner"), []
    for mixer in mixers(policy):
        mixer.register_forward_hook(lambda mixer, *_: modes.append(mixer.training))
    evaluated(policy, batch)
    learner.learn(batch, 0)
    evaluated(policy, batch)
    assert modes == [False, False, True, True, False, False]


def test_with_eval_noise_acting_draws_too() -> None:
    policy, batch = make("vaeformer", eval_noise=True), random_batch((4,), LONG)
    first, second = (evaluated(policy, batch).log_prob for _ in range(2))
    assert not torch.equal(first, second)


def test_divergences_count_where_agents_live(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two blocks that give the same latent to whatever they are given."""
    policy, batch = make("vaeformer", n_embd=4), random_batch((3, 9), LONG)
    for mixer in mixers(policy):
        mixer.mean.weight.zero_()
        mixer.mean.bias.copy_(torch.tensor([1.0, -0.5]))
        mixer.logvar.weight.zero_()
        mixer.logvar.bias.copy_(torch.tensor([0.0, -1.0]))
    look = policy.look
    assert batch.alive is not None
    counts = batch.alive[:, :-1] & batch.filled[..., None]

    def dear_elsewhere(*arguments: Any) -> Looked:
        looked = look(*arguments)
        return looked._replace(costs={"kl": looked.costs["kl"].masked_fill(~counts, 1e9)})

    monkeypatch.setattr(policy, "look", dear_elsewhere)
    torch.testing.assert_close(evaluated(policy, batch).losses["kl"], torch.tensor(2 * 0.808940))


def test_it_is_as_large_as_published_but_for_what_it_leaves_out() -> None:
    spec = EnvSpec(8, obs_dim=252, state_dim=1, action=Discrete(15), episode_limit=400)
    keys = {"tokens": "obs", "mix": "none", "obs_agent_id": False}
    policy = assemble({"policy": keys}, spec, policy="vaeformer").build("policy")
    size = sum(p.numel() for p in policy.parameters())
    unused = (
        2 * 15 * 32 + 2 * 64
    )  # tables of tokens and of actions, embeddings of returns and of a mask
    places, bias = 4 * 32, 15  # within a window; and of the head
    assert size == 40_864 - unused - places + bias


def test_sizes_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ConfigError, match="n_embd=10 must be even"):
        make("vaeformer", n_embd=10, n_head=3)
    with pytest.raises(ConfigError, match="mix=none no token knows of another"):
        make("vaeformer", mix="none")
    with pytest.raises(ConfigError, match=r"lv_clip=\[4.0, -8.0\] must be a low bound"):
        make("vaeformer", lv_clip=[4.0, -8.0])
