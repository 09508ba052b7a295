"""The replay keeps the latest, samples fairly, and says no before memory runs out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from phalanx.data import replay as replay_module
from phalanx.data.memory import free_memory, gib
from phalanx.data.replay import EpisodeReplay
from phalanx.data.store import EpisodeStore
from phalanx.errors import BufferMemoryError, EnvError

from .test_batch_and_store import SPEC, fill


def make(size: int, seed: int = 0) -> EpisodeReplay:
    """A small replay."""
    config = EpisodeReplay.Config(buffer_size=size, obs_dtype="float32")
    return EpisodeReplay(config, SPEC, seed=seed, optional_fields=frozenset())


def insert(replay: EpisodeReplay, first: float, length: int = 2) -> None:
    """One episode that starts with ``first``."""
    store = EpisodeStore(1, SPEC)
    fill(store, 0, length, first)
    replay.insert(store, np.array([0]))


def starts(replay: EpisodeReplay) -> set[float]:
    """First observations of everything in the replay."""
    return set(replay.sample(len(replay)).obs[:, 0, 0, 0].tolist())


def test_the_oldest_make_room() -> None:
    replay = make(3)
    for first in range(5):
        insert(replay, first)
    assert len(replay) == 3
    assert starts(replay) == {2.0, 3.0, 4.0}


def test_sampling_is_without_replacement_and_uniform() -> None:
    replay = make(8)
    for first in range(8):
        insert(replay, first)
    counts = np.zeros(8)
    for _ in range(400):
        drawn = replay.sample(2).obs[:, 0, 0, 0].tolist()
        assert drawn[0] != drawn[1]
        for d in drawn:
            counts[int(d)] += 1
    assert counts.min() > 70  # 100 expected, standard deviation about 8.7
    assert counts.max() < 130


def test_cannot_sample_before_enough_episodes() -> None:
    replay = make(4)
    insert(replay, 0)
    assert replay.can_sample(1)
    assert not replay.can_sample(2)


def test_state_continues_bit_for_bit() -> None:
    replay, other = make(4, seed=1), make(4, seed=2)
    for first in range(6):
        insert(replay, first, length=1 + first % 3)
    other.load_state_dict(replay.state_dict())
    insert(replay, 9)
    insert(other, 9)
    for _ in range(3):
        assert torch.equal(replay.sample(3).obs, other.sample(3).obs)


def paced() -> EpisodeReplay:
    """Batches of two episodes, one every ten steps."""
    config = EpisodeReplay.Config(
        buffer_size=8, obs_dtype="float32", batch_size=2, env_steps_per_update=10
    )
    return EpisodeReplay(config, SPEC, seed=0, optional_fields=frozenset())


def updates(replay: EpisodeReplay, t_env: int) -> int:
    """Updates that are due after ``t_env`` steps, all of them made."""
    return len(list(replay.batches(t_env)))


def test_no_update_is_owed_after_resuming_without_episodes() -> None:
    replay, resumed = paced(), paced()
    insert(replay, 0)
    insert(replay, 1)
    assert [updates(replay, t) for t in (100, 109, 110, 145)] == [0, 0, 1, 3]
    resumed.load_state_dict(replay.state_dict(contents=False))
    assert updates(resumed, 145) == 0
    insert(resumed, 2)
    assert updates(resumed, 400) == 0  # one episode is no batch
    insert(resumed, 3)
    # The 255 steps until there was one are worth nothing; from there on it goes at the usual pace.
    assert [updates(resumed, t) for t in (600, 609, 610, 645)] == [0, 0, 1, 3]


def test_pace_goes_on_after_resuming_with_episodes() -> None:
    replay, resumed = paced(), paced()
    insert(replay, 0)
    insert(replay, 1)
    assert [updates(replay, t) for t in (100, 119)] == [0, 1]
    resumed.load_state_dict(replay.state_dict())
    assert updates(resumed, 140) == updates(replay, 140) == 3


def test_too_large_is_refused_with_the_largest_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    per_episode = EpisodeStore.episode_bytes(SPEC)
    monkeypatch.setattr(replay_module, "free_memory", lambda: 10 * per_episode + 1)
    with pytest.raises(BufferMemoryError, match="The largest that fits is buffer_size=10"):
        make(11)
    make(10)


def test_free_memory_is_plausible() -> None:
    free = free_memory()
    assert free is None or 2**20 < free < 2**45
    assert gib(2**31) == "2.00 GiB"


@pytest.mark.parametrize(
    ("bound", "wanted", "kept"),
    [
        (None, "auto", np.float32),
        (1e6, "auto", np.float32),
        (2048.0, "auto", np.float16),
        (2049.0, "auto", np.float32),
        (None, "float16", np.float16),
        (1.0, "float32", np.float32),
    ],
)
def test_the_type_follows_the_declared_bounds_and_is_said(
    bound: float | None, wanted: str, kept: type, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "phalanx.data")
    spec = replace(SPEC, obs_bound=bound)
    config = EpisodeReplay.Config(buffer_size=2, obs_dtype=wanted)  # type: ignore[arg-type]
    replay = EpisodeReplay(config, spec, seed=0, optional_fields=frozenset())
    assert replay.store.arrays["obs"].dtype == kept
    assert caplog.text.count(f"observations in {np.dtype(kept).name} (") == 1


@pytest.mark.parametrize("value", [2049.0, -1e5, float("nan")])
def test_what_float16_would_lose_is_refused_while_writing(value: float) -> None:
    store = EpisodeStore(1, SPEC)
    fill(store, 0, 2, 0)
    store.arrays["state"][0, 1, 0] = value
    compact = EpisodeStore(1, SPEC, float_dtype=np.float16)
    with pytest.raises(EnvError, match=r"state holds .* Set obs_dtype=float32"):
        compact.copy_rows(store, np.array([0]), np.array([0]))


def test_large_declared_observations_come_back_whole() -> None:
    spec = replace(SPEC, obs_bound=1e6)
    config = EpisodeReplay.Config(buffer_size=1)
    replay = EpisodeReplay(config, spec, seed=0, optional_fields=frozenset())
    store = EpisodeStore(1, spec)
    fill(store, 0, 2, 0)
    store.arrays["obs"][0, 0, 0, 0] = 2049
    store.arrays["obs"][0, 1, 0, 0] = 1e5
    replay.insert(store, np.array([0]))
    assert replay.sample(1).obs[0, :2, 0, 0].tolist() == [2049.0, 1e5]
