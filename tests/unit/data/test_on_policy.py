"""Pieces of episodes: cut where an update falls, whole where it does not, memory and all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from phalanx.data.batch import EpisodeBatch
from phalanx.data.chunks import Chunks, Cutting, alive_of
from phalanx.data.on_policy import OnPolicyBuffer
from phalanx.errors import ConfigError
from phalanx.registry import RUNNERS

from ..modules.toys import plain, random_batch
from ..runners.test_runners import SPEC, Counting, Drawing


def make(length: int, num_envs: int = 3) -> tuple[Any, OnPolicyBuffer]:
    """A vector runner that learns every ``length`` steps of each copy of the counting game."""
    nothing: frozenset[str] = frozenset()
    buffer = OnPolicyBuffer(OnPolicyBuffer.Config(), SPEC, optional_fields=nothing)
    part = RUNNERS.get("vector")
    runner = part(
        part.Config(batch_size_run=num_envs, episode_length=length),
        env=Counting(num_envs),
        behaviour=plain(Drawing()),
        buffer=buffer,
        seed=0,
        device=torch.device("cpu"),
        optional_fields=nothing,
    )
    return runner, buffer


def collected(runner: Any, buffer: OnPolicyBuffer) -> EpisodeBatch:
    """The batch of one update."""
    assert runner.collect(0) == 3 * 4
    (batch,) = buffer.batches(0)
    assert not list(buffer.batches(0))
    return batch


def test_pieces_join_to_the_episodes_that_were_played() -> None:
    runner, buffer = make(length=4)
    seen: dict[tuple[float, float], list[float]] = {}
    ended = set()
    for _ in range(6):
        batch = collected(runner, buffer)
        assert int(batch.lengths.sum()) == 12
        assert batch.carry is not None
        for b in range(batch.batch_size):
            length = int(batch.lengths[b])
            copy, episode = batch.obs[b, 0, 0, :2].tolist()
            times = seen.setdefault((copy, episode), [])
            # The policy counts the episode's steps: its memory goes on with the piece.
            assert batch.carry["steps"][b].item() == len(times) == batch.obs[b, 0, 0, 2]
            assert batch.obs[b, 1 : length + 1, 0, 2].tolist() == [
                len(times) + i + 1 for i in range(length)
            ]
            times += batch.reward[b, :length].tolist()
            if batch.terminated[b].any():
                ended.add((copy, episode))
                assert len(times) == 2 + (copy + 2 * episode) % 5
    assert len(ended) > 10
    lengths = [row["ep_length"] for row in runner.rollout.stats.rows]
    assert sorted(lengths) == sorted(len(seen[key]) for key in ended)


def test_continues_bit_for_bit_within_an_episode() -> None:
    (runner, buffer), (other, other_buffer) = make(length=4), make(length=4)
    for _ in range(3):
        collected(runner, buffer)
    other.load_state_dict(runner.state_dict())
    other_buffer.load_state_dict(buffer.state_dict())
    for _ in range(3):
        a, b = collected(runner, buffer), collected(other, other_buffer)
        for name in ("obs", "actions", "lengths", "terminated"):
            assert torch.equal(getattr(a, name), getattr(b, name))
        assert a.carry is not None
        assert b.carry is not None
        assert torch.equal(a.carry["steps"], b.carry["steps"])


def test_what_waits_is_in_a_checkpoint() -> None:
    (runner, buffer), (_, other) = make(length=4), make(length=4)
    runner.collect(0)
    other.load_state_dict(buffer.state_dict())
    (ours,), (theirs,) = buffer.batches(0), other.batches(0)
    assert torch.equal(ours.obs, theirs.obs)


def test_runner_and_buffer_must_fit() -> None:
    with pytest.raises(ConfigError, match="needs episode_length"):
        make(length=0)


@pytest.mark.parametrize("width", [1, 3, 5, 12, 99])
def test_chunks_cover_every_step_once(width: int) -> None:
    batch = random_batch()
    cutting = Cutting.of(batch, width)
    assert int(cutting.lengths.min()) > 0
    assert int(cutting.filled.sum()) == int(batch.lengths.sum())
    for field in (batch.obs[:, :-1], batch.reward):
        assert torch.equal(cutting.put(cutting.take(field))[batch.filled], field[batch.filled])
    later = torch.arange(12.0).expand(4, 12)
    took = cutting.take(later)
    assert torch.equal(took[:, 0], cutting.start.float())
    assert (took.diff(dim=1)[cutting.filled[:, 1:]] == 1).all()


def test_a_part_is_those_chunks_alone() -> None:
    batch = random_batch()
    cutting = Cutting.of(batch, 3)
    members = torch.tensor([4, 1])
    part = cutting.part(members)
    assert torch.equal(part.take(batch.reward), cutting.take(batch.reward)[members])
    carry = {"x": torch.arange(4.0)[:, None, None] + torch.arange(12.0)[:, None] / 100}
    chunks = Chunks.of(batch, part, carry)
    assert torch.equal(chunks.carry["x"][:, 0], part.row + part.start / 100)
    assert torch.equal(chunks.alive, part.take(alive_of(batch)))


def test_everyone_is_alive_where_nobody_tells() -> None:
    from dataclasses import replace

    assert alive_of(replace(random_batch(), alive=None)).all()
    assert np.prod(alive_of(random_batch()).shape) == 4 * 13 * 3
