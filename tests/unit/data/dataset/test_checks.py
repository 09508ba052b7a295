"""Each check finds what it is for, names the place, and leaves the rest readable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from phalanx.data.dataset import Dataset
from phalanx.data.dataset.checks import check
from phalanx.data.dataset.derive import rescue
from phalanx.data.dataset.shard import HEADER
from phalanx.errors import DatasetError

from .made import LENGTHS, SPEC, episode, write


def flip(file: Path, at: int) -> None:
    """Change one byte."""
    content = bytearray(file.read_bytes())
    content[at] ^= 0x10
    file.write_bytes(content)


def test_a_good_dataset_passes(tmp_path: Path) -> None:
    write(tmp_path / "d")
    report = check(tmp_path / "d")
    assert report.faults == []
    assert report.whole.tolist() == [True] * len(LENGTHS)


def test_one_flipped_byte_is_found_and_costs_one_episode(tmp_path: Path) -> None:
    data = write(tmp_path / "d", shard_bytes=10**6)
    # Episodes of 2, 6, 1 ... steps: entry 3 of obs is the first of episode 1, 12 bytes each.
    flip(tmp_path / "d" / "shard_000000" / "obs.npy", HEADER + 3 * 12 + 5)
    report = check(tmp_path / "d")
    assert [f.check for f in report.faults] == ["checksums"]
    said = str(report.faults[0])
    assert said.startswith("shard_000000, episode 1: ")
    assert f"obs.npy is not what was written in bytes {HEADER + 36} to {HEADER + 119}" in said
    assert "entries 3 to 9" in said
    assert report.whole.tolist() == [True, False, True, True, True, True]
    mended = rescue(report.dataset, report.whole, tmp_path / "mended")
    assert check(tmp_path / "mended").faults == []
    for row, kept in enumerate((0, 2, 3, 4, 5)):
        for name, array in mended.episode(row).items():
            np.testing.assert_array_equal(array, data.episode(kept)[name])


@pytest.mark.parametrize("damage", ["cut", "gone", "header"])
def test_a_broken_file_costs_its_shard(tmp_path: Path, damage: str) -> None:
    data = write(tmp_path / "d")
    lost = data.shards[1].entry
    file = tmp_path / "d" / lost.name / "state.npy"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    elif damage == "gone":
        file.unlink()
    else:
        flip(file, 12)
    with pytest.raises(DatasetError, match=rf"{lost.name}/state.npy .*dataset check"):
        Dataset.open(tmp_path / "d")
    left = Dataset.open(tmp_path / "d", damaged="skip")
    assert len(left) == len(data) - lost.episodes
    report = check(tmp_path / "d")
    assert [(f.check, f.shard, f.episode) for f in report.faults] == [("files", lost.name, None)]
    assert report.whole.all()


def test_changed_offsets_are_found(tmp_path: Path) -> None:
    write(tmp_path / "d", shard_bytes=10**6)
    flip(tmp_path / "d" / "shard_000000" / "offsets.npy", HEADER + 8)
    with pytest.raises(DatasetError, match=r"offsets\.npy is damaged: episodes must follow"):
        Dataset.open(tmp_path / "d")


BAD = {
    "finite": ("state", (1, 2), np.nan, "state is nan at step 1"),
    "masks": ("actions", (1, 0), 4, "agent 0 takes action 4 at step 1, which its mask rules out"),
    "ends": ("terminated", (0,), True, "it ends at step 0 and goes on to step 2"),
}


@pytest.mark.parametrize("name", BAD)
def test_contents_are_checked(tmp_path: Path, name: str) -> None:
    field, at, value, said = BAD[name]
    bad = episode(3)
    bad["avail_actions"][1, 0, 4] = False
    bad[field][at] = value
    write(tmp_path / "d", [episode(2), bad, episode(1)], shard_bytes=10**6)
    report = check(tmp_path / "d")
    assert [(f.check, f.episode) for f in report.faults] == [(name, 1)]
    assert said in str(report.faults[0])


def test_more_that_is_checked(tmp_path: Path) -> None:
    endless = episode(3)
    endless["terminated"][:] = False
    stuck = episode(3)
    stuck["avail_actions"][3, 1] = False
    too_long = episode(SPEC.episode_limit + 1)
    write(tmp_path / "d", [endless, stuck, too_long], shard_bytes=10**6)
    assert [str(f).partition(": ")[2] for f in check(tmp_path / "d").faults] == [
        "it is neither terminated nor truncated at its last step, 2",
        "agent 1 has no available action at step 3",
        "7 steps, but the environment's episodes have 6 at most",
    ]
