"""The VAEFormer: what its latent is for, what it costs, and how large it is."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from phalanx.envs.protocol import Discrete, EnvSpec
from phalanx.errors import ConfigError
from phalanx.modules.layers.vae_mixer import VAEMixer
from phalanx.modules.policies.sequence import Looked, SequencePolicy

from .test_sequence_policies import LONG, evaluated, learnt_courses, make
from .toys import assemble, random_batch


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
