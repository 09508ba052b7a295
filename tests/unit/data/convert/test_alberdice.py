"""AlberDICE's padded arrays come out as whole episodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from phalanx.data.convert import convert
from phalanx.data.dataset import Dataset
from phalanx.data.dataset.checks import check
from phalanx.errors import DatasetError

ROOT = Path(__file__).resolve().parents[4]
SAMPLE = next(
    (
        folder / "shared" / "data" / "alberdice"
        for folder in (ROOT, ROOT.parent)
        if (folder / "shared" / "data" / "alberdice").is_dir()
    ),
    None,
)


def small(folder: Path) -> Path:
    """Two episodes, of 3 steps with an end and of 4 without, in 5 rows."""
    folder.mkdir()
    rows = np.arange(5)
    filled = np.stack([rows < 4, rows < 5])[..., None].astype(np.int64)
    arrays = {
        "obs": np.broadcast_to(rows[None, :, None, None], (2, 5, 2, 3)).astype(np.float32),
        "state": np.broadcast_to(rows[None, :, None], (2, 5, 3)).astype(np.float32),
        "avail_actions": np.broadcast_to(filled[:, :, None], (2, 5, 2, 4)).astype(np.int32),
        "actions": np.broadcast_to(rows[None, :, None, None] % 4, (2, 5, 2, 1)),
        "reward": -np.ones((2, 5, 1), np.float32),
        "terminated": np.zeros((2, 5, 1), np.uint8),
        "filled": filled,
    }
    arrays["terminated"][0, 2] = 1
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def test_lengths_ends_and_final_observations(tmp_path: Path) -> None:
    convert("alberdice", small(tmp_path / "in"), tmp_path / "out")
    data = Dataset.open(tmp_path / "out")
    assert data.lengths.tolist() == [3, 4]
    assert data.returns.tolist() == [-3, -4]
    assert data.episode(0)["state"][:, 0].tolist() == [0, 1, 2, 3]
    assert data.episode(0)["terminated"].tolist() == [False, False, True]
    assert data.episode(1)["truncated"].tolist() == [False, False, False, True]
    assert not data.episode(1)["terminated"].any()
    assert data.episode(1)["actions"][:, 1].tolist() == [0, 1, 2, 3]
    assert check(tmp_path / "out").faults == []


def test_what_is_not_the_format_is_named(tmp_path: Path) -> None:
    source = small(tmp_path / "in")
    np.save(source / "reward.npy", np.zeros((2, 4, 1)))
    with pytest.raises(DatasetError, match=r"reward\.npy has shape \(2, 4, 1\)"):
        convert("alberdice", source, tmp_path / "out")
    np.save(source / "reward.npy", np.array([object()]))
    with pytest.raises(
        DatasetError, match=r"reward\.npy is no array that can be read.*Python objects"
    ):
        convert("alberdice", source, tmp_path / "out")


@pytest.mark.skipif(SAMPLE is None, reason="the published episodes are not here")
def test_sixty_published_episodes(tmp_path: Path) -> None:
    assert SAMPLE is not None
    convert("alberdice", SAMPLE, tmp_path / "out")
    data = Dataset.open(tmp_path / "out")
    assert len(data) == 60
    assert (data.lengths.min(), data.lengths.max(), data.steps) == (28, 50, 2978)
    assert data.returns.sum() == pytest.approx(-1040.9795, abs=1e-3)
    assert sum(bool(episode["terminated"][-1]) for episode in data) == 60
    assert check(tmp_path / "out").faults == []
