"""Episodes go in compact and come out whole."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from phalanx.data.batch import EpisodeBatch
from phalanx.data.store import EpisodeStore
from phalanx.envs.protocol import Discrete, EnvSpec, Timestep

SPEC = EnvSpec(
    n_agents=2, obs_dim=3, state_dim=4, action=Discrete(5), episode_limit=6, has_alive=True
)


def seen(B: int, value: float, terminated: bool = False, truncated: bool = False) -> Timestep:
    """A timestep full of ``value``."""
    return Timestep(
        obs=np.full((B, 2, 3), value, np.float32),
        state=np.full((B, 4), value, np.float32),
        avail_actions=np.ones((B, 2, 5), np.uint8),
        reward=np.full(B, value, np.float32),
        terminated=np.full(B, terminated),
        truncated=np.full(B, truncated),
        alive=np.ones((B, 2), bool),
        visibility=None,
        info={},
    )


def fill(store: EpisodeStore, row: int, length: int, first: float) -> None:
    """Write an episode whose step t shows ``first + t`` and takes action t % 5."""
    rows = np.array([row])
    store.write_seen(rows, np.array([0]), seen(store.capacity, first))
    for t in range(length):
        after = seen(store.capacity, first + t + 1, terminated=t == length - 1)
        actions = np.full((store.capacity, 2), t % 5)
        store.write_taken(rows, np.array([t]), actions, after)
        store.write_seen(rows, np.array([t + 1]), after)


@pytest.mark.parametrize("float_dtype", [np.float16, np.float32])
def test_batch_holds_what_was_written_padded_with_zeros(float_dtype: type) -> None:
    store = EpisodeStore(3, SPEC, float_dtype=float_dtype)
    fill(store, 0, length=2, first=10)
    fill(store, 2, length=4, first=20)
    batch = store.batch(np.array([0, 2]))
    assert batch.max_t == 4
    assert batch.obs[:, :, 0, 0].tolist() == [[10, 11, 12, 0, 0], [20, 21, 22, 23, 24]]
    assert batch.reward.tolist() == [[11, 12, 0, 0], [21, 22, 23, 24]]
    assert batch.filled.tolist() == [[True, True, False, False], [True] * 4]
    assert batch.terminated.tolist() == [[False, True, False, False], [False] * 3 + [True]]
    assert batch.last_actions[:, :, 0].tolist() == [[0, 1, 2, 0, 0], [0, 1, 2, 3, 4]]
    assert batch.obs.dtype == torch.float32
    assert batch.alive is not None
    assert batch.alive[0, :, 0].tolist() == [True, True, True, False, False]


def test_a_shorter_episode_hides_what_an_older_longer_one_left() -> None:
    store = EpisodeStore(2, SPEC)
    fill(store, 0, length=6, first=100)
    fill(store, 0, length=1, first=1)
    fill(store, 1, length=3, first=5)
    batch = store.batch(np.array([0, 1]))
    assert batch.obs[0, :, 0, 0].tolist() == [1, 2, 0, 0]
    assert batch.actions[0, :, 0].tolist() == [0, 0, 0]


def test_copy_rows_converts_types() -> None:
    wide, compact = EpisodeStore(2, SPEC), EpisodeStore(4, SPEC, float_dtype=np.float16)
    fill(wide, 1, length=3, first=2)
    compact.copy_rows(wide, np.array([1]), np.array([3]))
    assert compact.arrays["obs"].dtype == np.float16
    original, copied = wide.batch(np.array([1])), compact.batch(np.array([3]))
    for name in ("obs", "state", "actions", "reward", "terminated", "lengths"):
        assert torch.equal(getattr(original, name), getattr(copied, name)), name


def test_rows_apart_are_sent_without_copies_and_read_only() -> None:
    store = EpisodeStore(4, SPEC, carry={"hidden": torch.zeros(1, 2)})
    assert store.carry is not None
    fill(store, 1, length=2, first=10)
    fill(store, 3, length=4, first=20)
    store.carry["hidden"][:] = torch.arange(8.0).reshape(4, 2)
    store.begins[3], store.outcomes[3] = 5, {"won": 1.0}
    rows = np.array([1, 3])
    buffers: list[pickle.PickleBuffer] = []
    sent = pickle.dumps(store.apart(rows), protocol=5, buffer_callback=buffers.append)
    whole = sum(buffer.raw().nbytes for buffer in buffers)
    assert whole > 2 * 5 * (2 * 3 + 4) * 4  # two rows of observations and states alone
    came = pickle.loads(sent, buffers=[bytes(buffer.raw()) for buffer in buffers])
    assert not came.arrays["obs"].flags.writeable
    assert came.copies.tolist() == [1, 3]
    assert (came.begins.tolist(), came.outcomes) == ([0, 5], [{}, {"won": 1.0}])
    kept = EpisodeStore(2, SPEC, carry=came.carry)
    kept.copy_rows(came, np.array([0, 1]), np.array([0, 1]))
    one, other = store.batch(rows), kept.batch(np.array([0, 1]))
    for name in ("obs", "state", "actions", "reward", "terminated", "lengths"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert one.carry is not None
    assert other.carry is not None
    assert torch.equal(one.carry["hidden"], other.carry["hidden"])


def test_pack_then_unpack_gives_the_same_batch() -> None:
    store, other = EpisodeStore(3, SPEC), EpisodeStore(3, SPEC)
    for row, length in enumerate((6, 1, 3)):
        fill(store, row, length, first=10.0 * row)
    rows = np.arange(3)
    packed = store.pack(rows)
    assert packed["reward"].shape == (10,)
    assert packed["obs"].shape[0] == 13
    other.unpack(rows, packed)
    a, b = store.batch(rows), other.batch(rows)
    for name in ("obs", "state", "avail_actions", "actions", "reward", "terminated", "alive"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name


def test_episode_bytes_is_what_numpy_takes() -> None:
    store = EpisodeStore(7, SPEC, float_dtype=np.float16)
    taken = sum(a.nbytes for a in store.arrays.values())
    assert EpisodeStore.episode_bytes(SPEC, float_dtype=np.float16) * 7 == taken


def test_a_field_of_the_wrong_shape_is_named() -> None:
    batch = _batch()
    with pytest.raises(
        ValueError, match=r"batch field state has shape \(1, 3, 9\), not \(1, 3, 4\)"
    ):
        EpisodeBatch(**{**_fields(batch), "state": torch.zeros(1, 3, 9)})


def _batch() -> EpisodeBatch:
    store = EpisodeStore(1, SPEC)
    fill(store, 0, length=2, first=0)
    return store.batch(np.array([0]))


def _fields(batch: EpisodeBatch) -> dict[str, object]:
    return {name: getattr(batch, name) for name in batch.__dataclass_fields__}
