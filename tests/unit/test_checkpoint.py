"""A checkpoint is whole or not there, and nothing in it is executed."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from phalanx.checkpoint import (
    find_checkpoint,
    load_checkpoint,
    open_checkpoint,
    previous,
    read_meta,
    save_checkpoint,
    set_aside_newer,
)
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
    latest = tmp_path / "checkpoints" / "latest"
    latest.rename(previous(latest))
    assert open_checkpoint(tmp_path).t_env == 7
    save_checkpoint(latest, {}, 8, STATE)
    assert open_checkpoint(tmp_path).t_env == 8


def twice(folder: Path) -> Path:
    """A checkpoint of step 8, with that of step 7 before it."""
    latest = folder / "checkpoints" / "latest"
    for step in (7, 8):
        save_checkpoint(latest, {"name": "qmix", "lr": 0.5}, step, STATE, recorded=10 * step)
    return latest


def test_the_checkpoint_before_is_kept_and_used_when_the_newest_is_damaged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    latest = twice(tmp_path)
    for step in (9, 10):  # no more than two are kept
        save_checkpoint(latest, {}, step, STATE)
    assert sorted(p.name for p in latest.parent.iterdir()) == ["latest", "latest.previous"]
    (latest / "replay.pt").write_bytes(b"nothing")
    found = open_checkpoint(tmp_path)
    assert (found.t_env, found.folder) == (9, previous(latest))
    (record,) = caplog.records
    assert "replay.pt is damaged" in record.getMessage()
    assert "Using the one before it" in record.getMessage()
    assert open_checkpoint(tmp_path, replay=False).t_env == 10
    # The damaged one does not take the place of the good one.
    set_aside_newer(found)
    save_checkpoint(latest, {}, 11, STATE)
    assert [open_checkpoint(folder).t_env for folder in (latest, previous(latest))] == [11, 9]
    assert (latest.parent / "latest.damaged").is_dir()
    for folder in (latest, previous(latest)):
        (folder / "meta.json").write_text("null")
    with pytest.raises(CheckpointError, match=r"format None.*format None.*nothing was changed"):
        open_checkpoint(tmp_path)


def test_no_flipped_bit_is_overlooked(tmp_path: Path) -> None:
    latest = twice(tmp_path)
    drawn = np.random.default_rng(0)
    for name in ("meta.json", "state.pt", "replay.pt"):
        file = latest / name
        whole = file.read_bytes()
        for at in drawn.integers(len(whole), size=60).tolist():
            flipped = bytearray(whole)
            flipped[at] ^= 1 << int(drawn.integers(8))
            file.write_bytes(flipped)
            found = None
            try:
                found = load_checkpoint(latest)
            except CheckpointError:
                continue
            # Where a blank of the layout changed into another, the content is still the same.
            assert name == "meta.json"
            assert found["counters"] == STATE["counters"]
            assert read_meta(latest)["config"] == {"name": "qmix", "lr": 0.5}
        file.write_bytes(whole)
    assert load_checkpoint(latest)["counters"] == STATE["counters"]


@pytest.mark.parametrize(
    "content", ["null", "[]", "{}", '{"format": 2}', '{"format": 2, "sha256": 3}']
)
def test_an_odd_meta_json_gets_a_sentence(tmp_path: Path, content: str) -> None:
    save_checkpoint(tmp_path / "latest", {}, 7, STATE)
    (tmp_path / "latest" / "meta.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"format|damaged"):
        load_checkpoint(tmp_path / "latest")


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
    (tmp_path / "2000050").mkdir()
    (tmp_path / "2000050" / "agent.th").touch()
    for folder in (tmp_path, tmp_path / "2000050"):
        with pytest.raises(CheckpointError, match=r"that PyMARL saved .* Train again"):
            find_checkpoint(folder)
