"""MARIE's world model: who knows what, cached equal to whole, and that it learns."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from phalanx.data.batch import EpisodeBatch
from phalanx.envs.protocol import Box
from phalanx.errors import ConfigError
from phalanx.modules.world_models.marie import model as marie
from phalanx.modules.world_models.marie.model import Marie

from ..toys import ACTIONS, CPU, SPEC, assemble
from .toys import CODES, TOKENS, make, windows


def features(model: Marie, batch: EpisodeBatch) -> tuple[Tensor, Tensor]:
    assert batch.codes is not None
    with torch.no_grad():
        return model._features(batch.codes, model.actions.encode(batch.actions))


def changed(batch: EpisodeBatch, t: int, agent: int, token: int) -> EpisodeBatch:
    assert batch.codes is not None
    codes = batch.codes.clone()
    codes[:, t, agent, token] = (codes[:, t, agent, token] + 1) % CODES
    return replace(batch, codes=codes)


def acting_otherwise(batch: EpisodeBatch, t: int, agent: int) -> EpisodeBatch:
    actions = batch.actions.clone()
    actions[:, t, agent] = (actions[:, t, agent] + 1) % SPEC.n_actions
    return replace(batch, actions=actions)


def test_nothing_knows_of_what_comes_later() -> None:
    model, batch = make(), windows((4, 4))
    seen, told = features(model, batch)
    after, after_told = features(model, changed(batch, t=2, agent=1, token=1))
    assert torch.equal(seen[:, :2], after[:, :2])
    assert torch.equal(told[:, :2], after_told[:, :2])
    assert torch.equal(seen[:, 2, 1, 0], after[:, 2, 1, 0])
    assert not torch.isclose(seen[:, 2, 1, 1], after[:, 2, 1, 1]).all()
    # The others learn of it with the step's own actions, not before.
    assert torch.equal(seen[:, 2, 0], after[:, 2, 0])
    assert not torch.isclose(told[:, 2, 0], after_told[:, 2, 0]).all()
    assert not torch.isclose(seen[:, 3, 0], after[:, 3, 0]).all()


def test_the_others_actions_are_known_through_the_aggregation_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, batch = make(), windows((4, 4))
    other = acting_otherwise(batch, t=1, agent=2)
    _, told = features(model, batch)
    _, after = features(model, other)
    assert torch.equal(told[:, 0], after[:, 0])
    assert not torch.isclose(told[:, 1, 0], after[:, 1, 0]).all()
    held = model.perceiver(torch.zeros(8, 3, TOKENS + 1, 16)).detach()
    monkeypatch.setattr(model.perceiver, "forward", lambda tokens: held)
    _, told = features(model, batch)
    _, after = features(model, other)
    assert torch.equal(told[:, :, 0], after[:, :, 0])
    assert not torch.isclose(told[:, 1, 2], after[:, 1, 2]).all()


@pytest.mark.parametrize("slots", [True, False])
def test_the_aggregation_knows_which_token_is_which_if_told(slots: bool) -> None:
    perceiver = make(slot_embedding=slots).perceiver
    tokens = torch.randn(2, 3, TOKENS + 1, 16)
    whole = perceiver(tokens)
    same = torch.allclose(perceiver(tokens.flip(2)), whole, atol=1e-5)
    assert same is not slots
    assert not torch.allclose(perceiver(tokens.flip(1)), whole, atol=1e-3)


@pytest.mark.parametrize(
    ("actions", "recall"),
    [("discrete", False), ("discrete", True), ("continuous", False), ("unequal", True)],
)
def test_imagining_token_by_token_equals_a_whole_pass(
    actions: str, recall: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits of all that was drawn, from the cache, against those of the drawn rows fed back whole."""
    spec = ACTIONS[actions]
    model, batch = make(spec, recall=recall), windows((4, 4), spec)
    assert batch.codes is not None
    logits, passes, heads = list[Tensor](), list[int](), 0

    def drawn(given: Tensor, generator: torch.Generator) -> Tensor:
        logits.append(given)
        return torch.randint(CODES, given.shape[:1], generator=generator)

    monkeypatch.setattr(marie, "sampled", drawn)
    model.trunk.register_forward_hook(lambda *_: passes.append(1))
    for head in (model.reward_head, model.end_head, model.mask_head):
        if head is not None:
            head.register_forward_hook(lambda *_: passes.append(0))
    dream = model.begin(
        batch.codes[:, 0], batch.avail_actions[:, 0], torch.Generator().manual_seed(0)
    )
    codes = [batch.codes[:, 0]]
    with torch.no_grad():
        for t in range(model.horizon):
            passes.clear()
            moment = dream.step(batch.actions[:, t])
            codes.append(moment.codes)
            heads = 3 if actions == "discrete" else 2
            assert (passes.count(1), passes.count(0)) == (TOKENS, heads)
            assert moment.avail_actions.shape == (2, 3, spec.mask_dim)
            assert (moment.reward.shape, moment.terminated.shape) == ((2,), (2,))
        seen, told = features(model, replace(batch, codes=torch.stack(codes, dim=1)))
        whole = [model.token_head(told.transpose(1, 2)), model.token_head(seen.transpose(1, 2))]
    for t in range(model.horizon):
        first, *others = logits[TOKENS * t : TOKENS * (t + 1)]
        torch.testing.assert_close(first, whole[0][:, :, t].flatten(0, 1), atol=1e-5, rtol=1e-4)
        for k, other in enumerate(others):
            expected = whole[1][:, :, t + 1, k].flatten(0, 1)
            torch.testing.assert_close(other, expected, atol=1e-5, rtol=1e-4)


def test_what_is_beyond_a_windows_end_does_not_count() -> None:
    model, batch = make(), windows((4, 2))
    assert batch.codes is not None
    losses = model.losses(batch).losses
    codes, reward = batch.codes.clone(), batch.reward.clone()
    codes[1, 3:], reward[1, 2:] = 0, 100.0
    other = model.losses(replace(batch, codes=codes, reward=reward)).losses
    assert (
        losses.keys() == other.keys() == {"observation", "reward", "continuation", "availability"}
    )
    for name, loss in losses.items():
        torch.testing.assert_close(loss, other[name])


def test_every_token_but_the_first_is_learnt_and_by_name() -> None:
    """The loss on observations is the mean over the K T tokens that something came before, and K - 1 more."""
    model, batch = make(), windows((1,))
    assert batch.codes is not None
    seen, told = features(model, batch)
    logits = [
        model.token_head(
            torch.cat([seen[:, 0, :, :-1], told[:, 0, :, None], seen[:, 1, :, :-1]], 2)
        )
    ]
    targets = torch.cat([batch.codes[:, 0, :, 1:], batch.codes[:, 1]], dim=2)
    expected = torch.nn.functional.cross_entropy(logits[0].flatten(0, 2), targets.flatten())
    torch.testing.assert_close(model.losses(batch).losses["observation"], expected)


def test_a_world_that_stays_is_known_sooner_by_who_is_told_what_was_there() -> None:
    """Random codes that never change: all but those of the first observation can be known."""
    found = {}
    for recall in (False, True):
        blank, g = windows((4,) * 64), torch.Generator().manual_seed(0)
        codes = torch.randint(CODES, (64, 1, 3, TOKENS), generator=g).expand(-1, 5, -1, -1)
        batch = replace(blank, codes=codes)
        model = make(std=None, n_embd=32, recall=recall).train()
        optimiser = torch.optim.AdamW(model.parameters(), lr=6e-3)
        for _ in range(10):
            optimiser.zero_grad()
            model.losses(batch).losses["observation"].backward()
            optimiser.step()
        found[recall] = float(model.losses(batch).metrics["next_token_accuracy"])
    assert found[True] > 0.55 > 0.45 > found[False], found


def test_an_end_by_the_clock_is_none() -> None:
    model, batch = make(), windows((1, 1))
    ended = torch.ones(2, 1, dtype=torch.bool)
    clock = replace(batch, terminated=ended, truncated=ended)
    torch.testing.assert_close(
        model.losses(clock).losses["continuation"],
        model.losses(replace(batch, terminated=~ended, truncated=~ended)).losses["continuation"],
    )
    # After an end nobody acts: no mask is learnt, and that is no division by zero.
    assert float(model.losses(clock).losses["availability"]) == 0.0


def test_it_has_the_published_parameters() -> None:
    spec = replace(SPEC, n_agents=8)
    assembler = assemble(
        {"world_model": {"slot_embedding": False}, "tokenizer": {}},
        spec,
        tokenizer="vq",
        world_model="marie",
    )
    model: Marie = assembler.build("world_model")
    sizes = {n: sum(p.numel() for p in m.parameters()) for n, m in model.named_children()}
    assert sizes["trunk"] - model.trunk.place.numel() == 7_898_112
    assert sizes["perceiver"] == 3_950_080
    # In 32 bits 3.3 GB an agent for 600 rows, as published; three tokens of each row are never kept.
    assert 600 * model.row_bytes(CPU) / 8 == pytest.approx(3.3e9, rel=0.02)


@pytest.mark.parametrize("action", [ACTIONS["mixed"].action, Box((-torch.inf,), (1.0,))])
def test_actions_that_it_cannot_tell_are_refused(action: Box) -> None:
    with pytest.raises(ConfigError, match=r"world_model marie .* (both at once|have none)"):
        make(replace(SPEC, action=action))


def test_it_learns_what_a_team_does_to_its_world() -> None:
    """Each sees what the other did, and both are paid and stopped by what they did together."""
    spec = replace(SPEC, n_agents=2)
    g, B, T = torch.Generator().manual_seed(0), 32, 4
    actions = torch.randint(5, (B, T, 2), generator=g)
    others = torch.cat([torch.zeros(B, 1, 2, dtype=torch.int64), actions.flip(2)], dim=1)
    blank = windows((T,) * B, spec)
    over = (actions == 0).all(dim=2)
    batch = replace(
        blank,
        actions=actions,
        codes=others[..., None] + torch.arange(TOKENS),
        reward=(actions[..., 0] == actions[..., 1]).float(),
        terminated=over,
        truncated=torch.zeros_like(over),
        avail_actions=torch.ones_like(blank.avail_actions),
    )
    model = make(spec, std=None, n_embd=32).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=6e-3)
    for _ in range(140):
        optimiser.zero_grad()
        found = model.losses(batch)
        sum(found.losses.values()).backward()  # type: ignore[union-attr]
        optimiser.step()
    metrics = {name: float(value) for name, value in model.losses(batch).metrics.items()}
    assert metrics["next_token_accuracy"] > 0.97
    assert metrics["reward_error"] < 0.06
    assert metrics["continuation_error"] < 0.03
    assert metrics["availability_error"] == 0.0
