"""What every tokenizer does, and that those that learn do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from phalanx.modules.tokenizers.base import DEAD_AFTER, Tokenizer
from phalanx.registry import TOKENIZERS

from ..toys import SPEC, assemble

SMALL: dict[str, dict[str, Any]] = {
    "vq": {"tokens": 3, "codes": 24, "code_dim": 8, "hidden_width": 32},
    "fsq": {"tokens": 3, "levels": [4, 4, 3], "hidden_width": 32},
    "bins": {"bins": 32},
}


def make(name: str, **config: Any) -> Tokenizer:
    assembler = assemble({"tokenizer": SMALL[name] | config}, tokenizer=name)
    tokenizer: Tokenizer = assembler.build("tokenizer")
    return tokenizer


def observations(count: int = 256) -> Tensor:
    """Seven numbers that depend on two, one of which is a choice among four."""
    g = torch.Generator().manual_seed(1)
    kind = torch.randint(4, (count,), generator=g)
    size = torch.rand(count, 1, generator=g)
    basis = torch.randn(4, SPEC.obs_dim, generator=g)
    return basis[kind] * size


def train(tokenizer: Tokenizer, obs: Tensor, updates: int) -> None:
    optimiser = torch.optim.AdamW(tokenizer.parameters(), lr=3e-3)
    tokenizer.train()
    for _ in range(updates):
        optimiser.zero_grad()
        sum(tokenizer.losses(obs).losses.values()).backward()  # type: ignore[union-attr]
        optimiser.step()
    tokenizer.eval()


@pytest.mark.parametrize("name", TOKENIZERS.names())
def test_codes_are_of_the_vocabulary_and_stay_what_they_are(name: str) -> None:
    tokenizer = make(name).eval()
    obs = observations(30).view(5, 2, 3, SPEC.obs_dim)
    codes = tokenizer.encode(obs)
    assert codes.shape == (5, 2, 3, tokenizer.tokens)
    assert codes.dtype == torch.int64
    assert codes.min() >= 0
    assert codes.max() < tokenizer.vocabulary
    assert torch.equal(tokenizer.encode(obs[3]), codes[3])
    assert tokenizer.decode(codes).shape == obs.shape
    before = {k: v.clone() for k, v in tokenizer.state_dict().items() if torch.is_tensor(v)}
    tokenizer.losses(obs.flatten(0, 2))
    fixed = [k for k in before if k != "unused_for"]
    assert all(torch.equal(tokenizer.state_dict()[k], before[k]) for k in fixed)


@pytest.mark.parametrize("name", ["vq", "fsq"])
def test_what_is_learnt_is_better_than_the_mean(name: str) -> None:
    tokenizer, obs = make(name), observations()
    train(tokenizer, obs, 300)
    error = (tokenizer.decode(tokenizer.encode(obs)) - obs).abs().mean()
    assert error < 0.35 * (obs - obs.mean(dim=0)).abs().mean()
    assert float(tokenizer.losses(obs).metrics["reconstruction_error"]) == pytest.approx(
        float(error)
    )


def test_bins_lose_no_more_than_half_a_bin() -> None:
    tokenizer, obs = make("bins", bins=256), observations()
    error = (tokenizer.decode(tokenizer.encode(obs)) - obs).abs()
    assert (error <= (1 + obs.abs()) * (torch.e ** (3 / 256) - 1) + 1e-6).all()


def test_dead_codes_are_revived_unless_that_is_off() -> None:
    obs = observations()
    dead = {}
    for revive in (True, False):
        tokenizer = make("vq", revive=revive)
        train(tokenizer, obs, 3 * DEAD_AFTER)
        dead[revive] = float(tokenizer.losses(obs).metrics["dead_codes"])
        first = (6 / (24 * 8)) ** 0.5
        assert revive or tokenizer.codes[tokenizer.dead].abs().max() < 2 * first
    assert dead[False] > 12 > 6 > dead[True]


def test_the_tokenizer_goes_on_as_if_never_stopped() -> None:
    obs, one = observations(), make("vq")
    train(one, obs, DEAD_AFTER)
    two = make("vq")
    two.load_state_dict(one.state_dict())
    for tokenizer in (one, two):
        train(tokenizer, obs, 2)
    assert torch.equal(one.codes, two.codes)


def test_what_is_decoded_stays_within_the_environments_bound() -> None:
    spec = replace(SPEC, obs_bound=0.25)
    tokenizer: Tokenizer = assemble({"tokenizer": {}}, spec, tokenizer="bins").build("tokenizer")
    assert tokenizer.decode(torch.full((SPEC.obs_dim,), 255)).tolist() == [0.25] * SPEC.obs_dim
