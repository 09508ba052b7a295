"""A checkpoint is whole or not there, and nothing in it is executed."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from phalanx.checkpoint import find_checkpoint, load_checkpoint, read_meta, save_checkpoint
from phalanx.errors import CheckpointError

STATE = {
    "counters": {"t_env": 7, "best": (1.0, None)},
    "learner": {"w": torch.arange(3.0)},
    "env": {"x": np.array([[1.5, 2.5]]), "flags": np.array([True]), "loop": np.uint64(2**63 + 5)},
    "replay": {"generator": torch.Generator().get_state()},
}


def test_round_trip_keeps_types_and_bits(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "latest", {"name": "qmix"}, 7, STATE)
    state = load_checkpoint(find_checkpoint(tmp_path))
    assert state["counters"] == {"t_env": 7, "best": (1.0, None)}
    assert torch.equal(state["learner"]["w"], STATE["learner"]["w"])
    assert state["env"]["x"].dtype == np.float64
    assert state["env"]["x"].tolist() == [[1.5, 2.5]]
    assert state["env"]["flags"].dtype == np.bool_
    assert state["env"]["loop"] == 2**63 + 5
    assert torch.equal(state["replay"]["generator"], STATE["replay"]["generator"])
    meta = read_meta(tmp_path / "latest")
    assert meta["config"] == {"name": "qmix"}
    assert meta["contains"] == ["counters", "env", "learner", "replay"]


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes")
@pytest.mark.parametrize("numbers", [10, 100_000])
def test_full_disk_leaves_the_older_checkpoint(tmp_path: Path, numbers: int) -> None:
    save_checkpoint(tmp_path / "latest", {}, 7, STATE)
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, before[1]))
    try:
        with pytest.raises(OSError, match=r"cannot be written|File too large"):
            save_checkpoint(tmp_path / "latest", {}, 8, {"w": torch.zeros(numbers)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert read_meta(tmp_path / "latest")["t_env"] == 7
    assert [p.name for p in tmp_path.iterdir()] == ["latest"]


def test_a_crash_between_the_renames_leaves_the_old_one_to_be_found(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoints" / "latest", {}, 7, STATE)
    (tmp_path / "checkpoints" / "latest").rename(tmp_path / "checkpoints" / ".latest.old")
    assert read_meta(find_checkpoint(tmp_path))["t_env"] == 7


def test_damage_is_reported(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "latest", {}, 7, STATE)
    file = tmp_path / "latest" / "state.pt"
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match=r"state\.pt is damaged"):
        load_checkpoint(tmp_path / "latest")


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    save_checkpoint(tmp_path / "latest", {}, 7, STATE)
    (tmp_path / "latest" / "state.pt").write_bytes(pickle.dumps({"counters": Evil()}))
    with pytest.raises(CheckpointError, match="is damaged"):
        load_checkpoint(tmp_path / "latest")
    assert not (tmp_path / "ran").exists()


def test_missing_checkpoint_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such folder"):
        find_checkpoint(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="checkpoints/latest"):
        find_checkpoint(tmp_path)
