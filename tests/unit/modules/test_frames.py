"""Observations and states that are seen at once: the same in acting, in learning and where rows are cut."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from phalanx.data.chunks import Chunks, Cutting
from phalanx.data.offline import DatasetBuffer
from phalanx.data.on_policy import OnPolicyBuffer
from phalanx.errors import ConfigError
from phalanx.modules.critics.base import last_values, values_of
from phalanx.modules.policies.base import Seen
from phalanx.registry import RUNNERS

from ..runners.test_runners import Counting
from .toys import CPU, SPEC, assemble, plain, random_batch


def test_frames_are_derived_from_a_row_and_from_what_stood_before_it() -> None:
    batch = random_batch((2, 1))
    state = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 0.0]])[..., None].expand(2, 3, 9)
    batch = replace(batch, state=state)
    assert batch.frames("state", 1) is batch.state

    def firsts(found: torch.Tensor) -> list[list[list[float]]]:
        return found[..., ::9].tolist()

    fresh = [[[0, 0, 1], [0, 1, 2], [1, 2, 3]], [[0, 0, 4], [0, 4, 5], [4, 5, 0]]]
    assert firsts(batch.frames("state", 3)) == fresh
    for known in ([8.0, 9.0], [7.0, 8.0, 9.0]):
        before = torch.tensor(known)[None, :, None].expand(2, len(known), 9)
        later = replace(batch, carry={"state_before": before})
        assert firsts(later.frames("state", 3))[0] == [[8, 9, 1], [9, 1, 2], [1, 2, 3]]
    later = replace(batch, carry={"state_before": torch.full((2, 1, 9), 9.0)})
    chunks = Chunks.of(later, Cutting.of(later, 1), {})
    assert firsts(chunks.frames("state", 3)) == [[[0, 9, 1]], [[9, 1, 2]], [[0, 9, 4]]]
    assert chunks.frames("obs", 2).shape == (3, 1, 3, 14)
    assert Chunks.of(later, Cutting.of(later, 1), {}, member=1).frames("obs", 2).shape[2:] == (
        1,
        14,
    )


def test_pieces_of_episodes_know_the_frames_before_them() -> None:
    """Copies show copy, episode and step; segments are cut where they may, shorter than the frames."""
    env = Counting(4)
    buffer = OnPolicyBuffer(OnPolicyBuffer.Config(), env.spec, optional_fields=frozenset())
    parts = assemble(spec=env.spec, policy="actor", agent="normed")
    part = RUNNERS.get("vector")
    runner = part(
        part.Config(batch_size_run=4, episode_length=2),
        env=env,
        behaviour=plain(parts.build("policy")),
        buffer=buffer,
        seed=0,
        device=CPU,
        optional_fields=frozenset(),
        frames=4,
    )
    begun = set()
    for _ in range(6):
        runner.collect(0)
        (batch,) = buffer.batches(0)
        frames = batch.frames("obs", 4).unflatten(-1, (4, 3))[:, :, 0]
        states = batch.frames("state", 4)
        for b, length in enumerate(batch.lengths.tolist()):
            for entry in range(length):
                copy, episode, t = batch.obs[b, entry, 0].tolist()
                begun.add(t - entry)
                shown = [
                    [copy, episode, s] if s >= 0 else [0, 0, 0]
                    for s in range(int(t) - 3, int(t) + 1)
                ]
                assert frames[b, entry].tolist() == shown
                assert states[b, entry].tolist() == [
                    max(s, 0) for s in range(int(t) - 3, int(t) + 1)
                ]
    assert begun >= {0, 1, 2, 3}


@pytest.mark.parametrize("policy", ["actor", "value"])
def test_acting_sees_what_learning_sees(policy: str) -> None:
    parts = assemble({"agent": {"frames": 3}}, policy=policy, agent="normed")
    acting, batch = parts.build("policy"), random_batch((9, 9))
    whole = acting.agent(batch.frames("obs", 3), batch.last_actions).hidden
    carry, hidden = acting.init_carry(2, CPU), []
    for t in range(9):
        _, carry = acting.act(Seen.of(batch, t), carry, 0, True, torch.Generator())
        hidden.append(carry["hidden"])
    torch.testing.assert_close(torch.stack(hidden, dim=1), whole[:, :9])
    later = batch.obs.clone()
    later[:, 4] += 1.0
    moved = (
        acting.agent(replace(batch, obs=later).frames("obs", 3), batch.last_actions).hidden != whole
    )
    assert moved.any(dim=-1).any(dim=-1)[0].nonzero().flatten().tolist() == [4, 5, 6]


def test_critics_see_states_and_observations_of_before() -> None:
    keys = {"critic": {"frames": 2}, "agent": {"frames": 2}}
    parts = assemble(keys, policy="actor", agent="normed", critic="normed", learner="ppo")
    policy, critic, batch = parts.build("policy"), parts.build("critic"), random_batch((5, 5))
    chunks = Chunks.of(batch, Cutting.of(batch, 1), {"hidden": torch.zeros(2, 5, 3, 64)})
    values = values_of(critic, chunks, None).view(2, 5, 3)
    last = last_values(critic, batch, policy.start_of(batch))
    for name in ("obs", "state"):
        changed = getattr(batch, name).clone()
        changed[:, 4] += 1.0
        other = replace(batch, alive=torch.ones_like(batch.alive), **{name: changed})
        base = replace(other, **{name: getattr(batch, name)})
        moved = [
            (values_of(critic, replace(chunks, batch=x), None).view(2, 5, 3)) for x in (base, other)
        ]
        assert (moved[0] != moved[1]).any(dim=-1)[0].tolist() == [False] * 4 + [True]
        ends = [last_values(critic, x, policy.start_of(x)) for x in (base, other)]
        assert not torch.equal(*ends)
    assert values.shape[2:] == last.shape[1:]
    assert torch.isfinite(parts.build("learner").learn(batch, 0)["loss"])


def test_windows_without_their_frames_are_refused() -> None:
    config = DatasetBuffer.Config(dataset="anywhere", chunk_length=5)
    with pytest.raises(ConfigError, match="set chunk_length=0, or frames=1"):
        DatasetBuffer(config, SPEC, env=None, seed=0, optional_fields=frozenset(), frames=2)
