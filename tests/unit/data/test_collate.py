"""Windows: of one episode each, with what went before and what is still to come."""

from __future__ import annotations

import numpy as np
import pytest

from phalanx.data.store import EpisodeStore

from .test_batch_and_store import SPEC, fill


@pytest.fixture
def store() -> EpisodeStore:
    """Two episodes: rewards 11, 12 and 21, 22, 23, 24; step t takes action t."""
    store = EpisodeStore(2, SPEC)
    fill(store, 0, length=2, first=10)
    fill(store, 1, length=4, first=20)
    return store


def test_windows_end_with_their_episode_and_know_what_was_before(store: EpisodeStore) -> None:
    batch = store.batch(np.array([1, 0, 1]), np.array([1, 0, 3]), 2)
    assert batch.obs[:, :, 0, 0].tolist() == [[21, 22, 23], [10, 11, 12], [23, 24, 0]]
    assert batch.reward.tolist() == [[22, 23], [11, 12], [24, 0]]
    assert batch.lengths.tolist() == [2, 2, 1]
    assert batch.carry is not None
    assert batch.carry["step"].tolist() == [1, 0, 3]
    assert batch.carry["return_to_go"].tolist() == [22 + 23 + 24, 23, 24]
    # Actions 0 .. 3 were taken; plus one, and 0 at the start of an episode.
    assert batch.last_actions[:, :, 1].tolist() == [[1, 2, 3], [0, 1, 2], [3, 4, 0]]


def test_a_window_may_go_to_the_end(store: EpisodeStore) -> None:
    batch = store.batch(np.array([1, 0]), np.array([0, 1]))
    assert batch.lengths.tolist() == [4, 1]


def test_no_window_begins_behind_an_episode(store: EpisodeStore) -> None:
    with pytest.raises(ValueError, match="a window at step 2 of episode 0, which has 2"):
        store.batch(np.array([1, 0]), np.array([2, 2]), 1)
