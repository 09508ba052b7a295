"""Rounds of training and imagining: when they come, what they need, and that they go on after a kill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from phalanx.build import build_player
from phalanx.checkpoint import find_checkpoint, load_checkpoint
from phalanx.config import compose
from phalanx.data import imagination as module
from phalanx.data.codes import StoredCodes
from phalanx.data.imagination import Imagination
from phalanx.data.store import EpisodeStore
from phalanx.errors import BufferMemoryError, ConfigError
from phalanx.modules.policies.actor import ActorPolicy
from phalanx.modules.policies.base import Seen

from ...families import small
from ...recorder import trainer
from ..modules.counting import SPEC, Counter, Counting
from ..modules.toys import CPU, assemble

LONG = replace(SPEC, episode_limit=50)
NO_TRAINING = {"tokenizer_updates": 0, "model_updates": 0}


def make(spec: Any = LONG, agent: dict[str, Any] | None = None, **config: Any) -> Imagination:
    policy: ActorPolicy = assemble(
        {"agent": agent or {}}, spec, policy="actor", agent="normed"
    ).build("policy")
    return Imagination(
        Imagination.Config(**({"buffer_size": 30, "batch_size": 6} | NO_TRAINING | config)),
        spec,
        policy=policy,
        world_model=Counting(),
        tokenizer=Counter(),
        seed=0,
        device=CPU,
        optional_fields=frozenset(),
    )


def episodes(count: int, length: int = 50, spec: Any = LONG) -> EpisodeStore:
    """Whose observations are counts up to 5, over and over, and whose actions are these modulo 2."""
    store = EpisodeStore(count, spec)
    along = np.arange(spec.episode_limit + 1) % 5
    store.arrays["obs"][..., 0] = along[None, :, None]
    store.arrays["actions"][:] = along[None, :-1, None] % 2
    store.arrays["avail_actions"][:] = True
    store.arrays["reward"][:] = 1.0
    store.lengths[:] = length
    return store


def test_rounds_come_when_the_published_ones_do() -> None:
    """Episodes of 50 steps: first tokenizer at 1000 steps, first model at 1900, first policy at 2900."""
    buffer = make(buffer_size=80, batches=1)
    first: dict[str, int] = {}
    for episode in range(1, 61):
        before, t_env = buffer.round, 50 * episode
        buffer.insert(episodes(1), np.arange(1))
        batches = list(buffer.batches(t_env))
        if buffer.round > before:
            first.setdefault("round", t_env)
        if buffer.round == buffer._config.model_from_round:
            first.setdefault("model", t_env)
        if batches:
            first.setdefault("policy", t_env)
    assert first == {"round": 1000, "model": 1900, "policy": 2900}


def test_rows_begin_where_episodes_were_and_remember_what_was_before() -> None:
    buffer = make(
        agent={"recurrent": True}, burn_in=60, min_steps=1, model_from_round=1, policy_from_round=1
    )
    buffer.insert(episodes(2), np.arange(2))
    rows, steps = np.array([0, 1, 1]), np.array([0, 1, 7])
    start = buffer._start(rows, steps, 0)
    assert start.codes[:, 0, 0].tolist() == [0, 1, 2]
    assert start.carry["last_actions"].tolist() == [[0, 0], [1, 1], [2, 2]]
    # As acting through the same steps does.
    policy, hidden = buffer.policy, start.carry["hidden"]
    assert isinstance(policy, ActorPolicy)
    window = buffer.episodes.store.batch(np.array([1]), np.array([0]), 7)
    with torch.no_grad():
        seen = policy.agent(window.obs[:, :7], window.last_actions[:, :7])
    assert not hidden[0].any()
    torch.testing.assert_close(hidden[1], seen.hidden[0, 0])
    torch.testing.assert_close(hidden[2], seen.hidden[0, 6])


def test_rows_begin_with_the_frames_before_them() -> None:
    buffer = make(agent={"frames": 3}, min_steps=1)
    buffer.insert(episodes(2), np.arange(2))
    start = buffer._start(np.array([0, 1, 1]), np.array([0, 1, 7]), 0)
    assert start.carry["obs_before"][:, :, 0, 0].tolist() == [[0, 0], [0, 0], [0, 1]]
    assert start.codes[:, 0, 0].tolist() == [0, 1, 2]


def test_every_batch_is_by_the_policy_as_the_one_before_has_made_it() -> None:
    buffer = make(min_steps=1, model_from_round=1, policy_from_round=1, batches=2, batch_size=64)
    buffer.insert(episodes(2), np.arange(2))
    policy = buffer.policy
    assert isinstance(policy, ActorPolicy)
    counts = []
    for batch in buffer.batches(100):
        counts.append((batch.actions == 0)[batch.filled].float().mean())
        with torch.no_grad():
            policy.agent.nets[0].action_head.linear.bias[0] += 10.0
    assert counts[0] < 0.6
    assert counts[1] > 0.95


def test_a_batch_in_chunks_has_all_its_rows() -> None:
    buffer = make(min_steps=1, model_from_round=1, policy_from_round=1, batches=1, chunk=4)
    buffer.insert(episodes(2), np.arange(2))
    (batch,) = buffer.batches(100)
    assert batch.batch_size == 6
    found = buffer.metrics()
    assert found["imagined_return"] == pytest.approx(float(batch.reward.sum()) / 6)
    assert found["imagined_length"] == pytest.approx(float(batch.lengths.float().mean()))
    assert 1.0 <= found["imagined_return_real"] <= 4.0


def test_a_chunk_that_does_not_fit_is_refused_with_the_largest_that_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "free_on", lambda device: 3500)
    with pytest.raises(
        BufferMemoryError, match=r"imagining 6 rows .* The largest that fits is chunk=3;"
    ):
        make()
    make(chunk=3)


def test_stored_observations_are_encoded_once_until_forgotten() -> None:
    store, calls = episodes(3), list[int]()

    def encode(obs: torch.Tensor) -> torch.Tensor:
        calls.append(len(obs))
        return Counter().encode(obs)

    codes = StoredCodes(store, 1, 7, encode)
    rows, starts, lengths = np.array([0, 0, 2]), np.array([3, 4, 46]), np.array([4, 4, 2])
    found = codes.of_windows(rows, starts, lengths)[..., 0, 0]
    assert found.tolist() == [[3, 4, 0, 1, 2], [4, 0, 1, 2, 3], [1, 2, 3, 3, 3]]
    assert calls == [9]  # six entries of the first episode, three of the last
    assert torch.equal(codes.of_windows(rows, starts, lengths)[..., 0, 0], found)
    assert calls == [9]
    store.arrays["obs"][:] = 0
    codes.forget()
    assert not codes.of_windows(rows, starts, lengths).any()
    assert calls == [9, 9]


SMALL = (
    *small("marie_small", "episode"),
    "game=two_step",
    "t_max=144",
    "log_interval=40",
    "test_interval=100",
    "save_model_interval=48",
    "world_model_args.dropout=0.2",
)


def test_a_run_killed_inside_a_round_goes_on_as_if_never_killed(tmp_path: Path) -> None:
    whole, record = trainer(tmp_path / "whole", "marie_small", "matrix", *SMALL)
    whole.run()
    killed, before = trainer(tmp_path / "killed", "marie_small", "matrix", *SMALL)
    learn, updates = killed.parts.learner.learn, 0

    def dies(batch: Any, t_env: int) -> Any:
        nonlocal updates
        updates += 1
        if (
            updates == 14
        ):  # the second of the two updates of a round, after both models were trained
            raise KeyboardInterrupt
        return learn(batch, t_env)

    killed.parts.learner.learn = dies  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        killed.run()
    again, after = trainer(tmp_path / "killed", "marie_small", "matrix", *SMALL)
    state = load_checkpoint(find_checkpoint(tmp_path / "killed"))
    again.load(state)
    since = again.t_env
    assert 0 < since < killed.t_env
    again.run()
    kept = [row for row in before.rows if row[1] <= since and not row[0].startswith("test")]
    names = {name for name, _, _ in record.rows}
    assert {"model_next_token_accuracy", "tokenizer_dead_codes", "imagined_return"} <= names
    assert "foresight_reward_error_1" in names
    new = {(n, t): v for n, t, v in record.rows if t > since}
    assert new
    assert new == {(n, t): v for n, t, v in after.rows if t > since}
    assert kept == [row for row in record.rows if row[1] <= since and not row[0].startswith("test")]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("world_model=none",), "world_model=none does not fit buffer=imagination"),
        (("world_model=disentangled",), "world_model=disentangled does not fit buffer=imagination"),
        (("critic=normed",), "not the states that critic=normed reads"),
        (
            (
                "learner=q_learner",
                "policy=value",
                "agent=rnn",
                "action_selector=epsilon_greedy",
                "mixer=qmix",
            ),
            "not the states that mixer=qmix reads",
        ),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(words: tuple[str, ...], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        trainer(Path(), "marie_small", "matrix", *words)


def test_what_reads_states_fits_where_these_are_all_observations(tmp_path: Path) -> None:
    words = ("map_name=3m", "engine=embedded", "critic=normed", "obs_instead_of_state=True")
    run, _ = trainer(tmp_path, "marie_small", "sc2", *words)
    assert run.parts.buffer.gives_state
    assert run.parts.spec.state_dim == 3 * run.parts.spec.obs_dim


def test_a_simulator_that_nobody_imagines_with_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        compose("qmix", "matrix", ("world_model=marie", "tokenizer=bins"))
    assert "world_model=marie does not fit buffer=episode_replay: nothing here trains it" in str(
        caught.value
    )
    assert "Choose buffer=imagination" in str(caught.value)


def test_play_is_shown_what_the_tokenizer_makes_of_it(tmp_path: Path) -> None:
    """In play, in tests, and by whoever has no more than a checkpoint."""
    run, _ = trainer(tmp_path, "marie_small", "matrix", *SMALL, "t_max=40", "tokenizer_lr=0.1")
    run.run()
    behaviour, policy = run.parts.behaviour, run.parts.policy
    shown, act = list[Any](), policy.act

    def spy(seen: Any, *others: Any) -> Any:
        shown.append(seen.obs)
        return act(seen, *others)

    obs = torch.eye(3)[None, :2]
    seen = Seen(
        obs, torch.zeros(1, 3), torch.ones(1, 2, 2).bool(), torch.ones(1, 2).bool(), torch.zeros(1)
    )
    state = load_checkpoint(find_checkpoint(tmp_path))
    player = build_player(run.composed, run.parts.spec, CPU, state)
    for one in (behaviour, player):
        one.policy.act = spy  # type: ignore[method-assign]
        one.act(seen, one.init_carry(1, CPU), 0, True, torch.Generator())
    tokenizer = run.parts.buffer.tokenizer  # type: ignore[attr-defined]
    assert torch.equal(shown[0], tokenizer.decode(tokenizer.encode(obs)))
    assert torch.equal(shown[1], shown[0])
    assert not torch.equal(shown[0], obs)


def test_a_tokenizer_that_nobody_trains_is_refused() -> None:
    with pytest.raises(ConfigError, match="tokenizer=vq does not fit buffer=on_policy"):
        compose("mappo", "matrix", ("behaviour=reconstructed", "tokenizer=vq"))
    compose("mappo", "matrix", ("behaviour=reconstructed", "tokenizer=bins"))


@pytest.mark.parametrize(
    "words",
    [
        ("policy=transformer", "critic=of_policy"),
        ("critic=normed", "critic_args.see_state=false"),
        ("learner=q_learner", "policy=value", "agent=rnn", "mixer=vdn"),
    ],
)
def test_other_learners_and_policies_learn_from_imagination(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    learning = () if "learner=q_learner" not in words else ("ppo_epoch", "num_mini_batch")
    kept = [word for word in SMALL if not word.startswith(learning or "-")]
    run, record = trainer(tmp_path, "marie_small", "matrix", *kept, "t_max=60", *words)
    run.run()
    assert record.curve("loss")
