"""A dataset gives back what was written, whole or in windows, whatever happens to its writer."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from phalanx.data.batch import EpisodeBatch
from phalanx.data.dataset import Dataset, DatasetWriter
from phalanx.data.dataset.description import differences, spec_from_json, spec_to_json
from phalanx.data.replay import EpisodeReplay
from phalanx.data.store import EpisodeStore
from phalanx.envs.protocol import Box, Discrete, EnvSpec, Mixed
from phalanx.errors import DatasetError, EnvError

from .made import LENGTHS, SPEC, description, episode, write


def equal(one: EpisodeBatch, other: EpisodeBatch) -> None:
    """Bit for bit, types and padding too."""
    for name, value in vars(one).items():
        theirs = getattr(other, name)
        if isinstance(value, torch.Tensor):
            assert value.dtype == theirs.dtype, name
            assert torch.equal(value, theirs), name
    assert (one.carry is None) == (other.carry is None)
    for name, value in (one.carry or {}).items():
        assert torch.equal(value, (other.carry or {})[name]), name


def test_batches_are_those_of_a_replay_of_the_same_episodes(tmp_path: Path) -> None:
    data = write(tmp_path / "d")
    assert len(data.shards) > 2
    store = EpisodeStore(len(LENGTHS), SPEC)
    for row, arrays in enumerate(data):
        store.lengths[row] = len(arrays["reward"])
        for name, array in arrays.items():
            store.arrays[name][row, : len(array)] = array
    replay = EpisodeReplay(
        EpisodeReplay.Config(buffer_size=8), SPEC, seed=0, optional_fields=frozenset()
    )
    replay.insert(store, np.arange(len(LENGTHS)))
    rows = np.array([4, 1, 1, 0, 5])
    equal(data.batch(rows), replay.store.batch(rows))
    starts = np.array([1, 0, 4, 1, 2])
    equal(data.batch(rows, starts, 3), replay.store.batch(rows, starts, 3))
    assert data.batch(rows, starts, 3).lengths.tolist() == [2, 3, 2, 1, 3]
    assert data.lengths.tolist() == list(LENGTHS)
    np.testing.assert_allclose(data.returns, [a["reward"].sum() for a in data], rtol=1e-6)


def test_files_are_plain_numpy_without_padding_or_pickles(tmp_path: Path) -> None:
    data = write(tmp_path / "d")
    for shard in data.shards:
        for name, mapped in shard.arrays.items():
            array = np.load(shard.folder / f"{name}.npy", allow_pickle=False)
            assert array.dtype == mapped.dtype
            np.testing.assert_array_equal(array, mapped)
        offsets = np.load(shard.folder / "offsets.npy", allow_pickle=False)
        assert len(np.load(shard.folder / "reward.npy")) == offsets[-1] == shard.entry.steps
        assert len(np.load(shard.folder / "obs.npy")) == offsets[-1] + shard.entry.episodes
    with pytest.raises(ValueError, match="read-only"):
        data.episode(0)["obs"][0] = 1
    assert data.outcomes["battle_won"].tolist() == [0, 1, 0, 1, 0, 1]
    told = json.loads((tmp_path / "d" / "dataset.json").read_text())
    assert told["environment"]["spec"]["n_agents"] == 2
    assert told["episodes"] == 6
    assert sum(told["returns"]["counts"]) == 6


def test_a_kill_loses_the_open_shard_alone(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path / "d", description(), shard_bytes=10**6)
    for seed in range(3):
        writer.append(episode(4, seed))
    writer.seal()
    writer.append(episode(2, 9))
    shutil.copytree(tmp_path / "d", tmp_path / "killed")  # what a kill at this moment leaves
    writer.close()
    assert len(Dataset.open(tmp_path / "d")) == 4
    killed = Dataset.open(tmp_path / "killed")
    assert killed.lengths.tolist() == [4, 4, 4]
    assert killed.description.returns["mean"] == pytest.approx(killed.returns.mean())


def test_a_reopened_dataset_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole", shard_bytes=1)
    write(tmp_path / "d", [episode(n, seed) for seed, n in enumerate(LENGTHS[:4])], shard_bytes=1)
    writer = DatasetWriter.reopened(tmp_path / "d", 2, shard_bytes=1)
    assert len(Dataset.open(tmp_path / "d")) == 2
    for seed in range(2, 6):
        writer.append(episode(LENGTHS[seed], seed), {"battle_won": float(seed % 2)})
    writer.close()
    assert Dataset.open(tmp_path / "d").description.checksum == whole.description.checksum
    with pytest.raises(DatasetError, match="has 6 shards, but 7 were written"):
        DatasetWriter.reopened(tmp_path / "d", 7)


def test_nothing_is_written_over(tmp_path: Path) -> None:
    write(tmp_path / "d")
    with pytest.raises(DatasetError, match=r"there is a dataset at .* already, and it is kept"):
        write(tmp_path / "d")


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "d", description()) as writer:
        short = episode(3) | {"obs": episode(3)["obs"][:-1]}
        with pytest.raises(
            DatasetError, match=r"field obs .* of shape \(3, 2, 3\), not \(4, 2, 3\)"
        ):
            writer.append(short)
        large = episode(3) | {"state": np.full((4, 4), 3000, np.float32)}
        with pytest.raises(EnvError, match="state holds 3000, and float16"):
            writer.append(large)
        writer.append(episode(2))
    assert Dataset.open(tmp_path / "d").lengths.tolist() == [2]


def test_a_full_disk_costs_the_open_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = DatasetWriter(tmp_path / "d", description(), shard_bytes=10**6)
    writer.append(episode(2))
    writer.seal()
    writer.append(episode(3))

    def full(self: object, *_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("phalanx.data.dataset.writer._OpenShard.append", full)
    with pytest.raises(OSError, match="No space left"):
        writer.append(episode(4))
    writer.close()
    assert Dataset.open(tmp_path / "d").lengths.tolist() == [2]
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == ["dataset.json", "shard_000000"]


SPECS = [
    SPEC,
    replace(SPEC, action=Box((-1.0, 0.0), (1.0, 2.0), unequal=True), agent_groups=(0, 1)),
    replace(SPEC, action=Mixed(Discrete(3), Box((0.0,), (1.0,))), obs_bound=None),
]


@pytest.mark.parametrize("spec", SPECS)
def test_specs_survive_json(spec: EnvSpec) -> None:
    assert spec_from_json(json.loads(json.dumps(spec_to_json(spec)))) == spec


def test_differences_are_named() -> None:
    other = replace(SPEC, n_agents=3, obs_bound=None)
    assert differences(SPEC, other) == ["n_agents 2 / 3", "obs_bound 8.0 / None"]
    assert differences(SPEC, SPEC) == []


def test_what_is_no_dataset_is_said(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"is no dataset: it has no dataset\.json"):
        Dataset.open(tmp_path)
    write(tmp_path / "d")
    file = tmp_path / "d" / "dataset.json"
    file.write_text(file.read_text().replace('"map_name": "x"', '"map_name": "y"'))
    with pytest.raises(DatasetError, match=r"damaged: it is not what was written \(checksum\)"):
        Dataset.open(tmp_path / "d")
