"""What Minari reads of an exported dataset is what was in it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from phalanx.data.dataset import DatasetWriter
from phalanx.data.dataset.description import Description
from phalanx.data.export_minari import export_minari
from phalanx.envs.protocol import Box
from phalanx.errors import DatasetError

from .dataset.made import LENGTHS, SPEC, write

h5py = pytest.importorskip("h5py")


def test_the_files_are_there_and_whole(tmp_path: Path) -> None:
    data = write(tmp_path / "d")
    folder = export_minari(data, tmp_path / "good-v0")
    about = json.loads((folder / "data" / "metadata.json").read_text())
    assert (about["total_episodes"], about["total_steps"]) == (len(LENGTHS), sum(LENGTHS))
    assert about["dataset_id"] == "good-v0"
    with h5py.File(folder / "data" / "main_data.hdf5") as file:
        assert file["episode_1"].attrs["battle_won"] == 1
        assert "infos" in file["episode_1"]


def test_a_name_minari_does_not_take_is_refused(tmp_path: Path) -> None:
    data = write(tmp_path / "d")
    with pytest.raises(DatasetError, match="names like 3m-good-v0"):
        export_minari(data, tmp_path / "good")
    (tmp_path / "good-v1").mkdir()
    (tmp_path / "good-v1" / "x").touch()
    with pytest.raises(DatasetError, match="there is something at"):
        export_minari(data, tmp_path / "good-v1")


def test_minari_reads_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    data = write(tmp_path / "d")
    export_minari(data, tmp_path / "good-v0")
    theirs = minari.load_dataset("good-v0")
    assert (theirs.total_episodes, theirs.total_steps) == (len(LENGTHS), sum(LENGTHS))
    for ours, found in zip(data, theirs.iterate_episodes(), strict=True):
        for name in ("obs", "state", "avail_actions", "alive"):
            np.testing.assert_array_equal(found.observations[name], ours[name])
            for entry in found.observations[name]:
                assert theirs.observation_space[name].contains(entry)
        np.testing.assert_array_equal(found.actions, ours["actions"])
        assert all(theirs.action_space.contains(action) for action in found.actions)
        np.testing.assert_array_equal(found.rewards, ours["reward"])
        np.testing.assert_array_equal(found.terminations, ours["terminated"])
        np.testing.assert_array_equal(found.truncations, ours["truncated"])
    won = [about["battle_won"] for about in theirs.storage.get_episode_metadata(range(6))]
    assert won == [0, 1] * 3
    assert list(minari.list_local_datasets()) == ["good-v0"]


def test_vectors_have_their_bounds(tmp_path: Path) -> None:
    minari = pytest.importorskip("minari")
    spec = replace(SPEC, action=Box((-1.0, 0.0), (1.0, 2.0)), has_alive=False)
    description = Description.of(spec, np.float32, {"name": "", "options": {}, "facts": {}})
    with DatasetWriter(tmp_path / "d", description) as writer:
        writer.append(
            {
                "obs": np.ones((3, 2, 3)),
                "state": np.ones((3, 4)),
                "avail_actions": np.zeros((3, 2, 0), bool),
                "actions": np.full((2, 2, 2), 0.5),
                "reward": np.ones(2),
                "terminated": np.array([False, True]),
                "truncated": np.zeros(2, bool),
            }
        )
    from phalanx.data.dataset import Dataset

    folder = export_minari(Dataset.open(tmp_path / "d"), tmp_path / "robot-v0")
    theirs = minari.MinariDataset(folder / "data")
    assert theirs.action_space.high.tolist() == [[1, 2], [1, 2]]
    (episode,) = theirs.iterate_episodes()
    assert all(theirs.action_space.contains(action) for action in episode.actions)
    assert set(episode.observations) == {"obs", "state"}
