"""OMIGA's rows come out as whole episodes. The published files are not here: these are written alike."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from phalanx.data.convert import convert
from phalanx.data.convert.foreign import Place
from phalanx.data.dataset.checks import check
from phalanx.envs.protocol import EnvSpec
from phalanx.errors import DatasetError

h5py = pytest.importorskip("h5py")
ENDS = (3, 5)  # of ten rows: episodes of 3 steps and of 1, and 4 rows of one that is not over


def rows(file: Path, **changed: np.ndarray) -> Path:
    """Of two agents that see two numbers and whose actions have three; each number tells its row."""
    at = np.arange(10.0)
    arrays = {
        "s": np.broadcast_to(at[:, None, None], (10, 2, 4)),
        "o": np.stack([at, at + 100], axis=1)[..., None].repeat(2, axis=2),
        "a": np.broadcast_to(at[:, None, None] / 4, (10, 2, 3)),
        "r": at[:, None],
        "d": np.isin(at, ENDS)[:, None],
    } | changed
    with h5py.File(file, "w") as out:
        for name, array in arrays.items():
            out[name] = array
    return file


def test_what_stands_behind_an_end_is_its_last_observation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        data = convert("omiga", rows(tmp_path / "x.hdf5"), tmp_path / "out")
    assert "its last 4 steps are of an episode without an end: left out" in caplog.text
    assert (data.lengths.tolist(), data.returns.tolist()) == ([3, 1], [3, 4])
    assert data.episode(0)["obs"][:, :, 0].tolist() == [[0, 100], [1, 101], [2, 102], [3, 103]]
    assert data.episode(1)["state"][:, 0].tolist() == [4, 5]
    # Motors do no more than they can.
    assert data.episode(0)["actions"][:, 0, 0].tolist() == [0, 0.25, 0.5]
    assert data.episode(1)["actions"].max() == 1
    assert data.episode(0)["terminated"].tolist() == [False, False, True]
    assert (data.spec.dimensions, data.spec.episode_limit) == (3, 3)
    assert check(tmp_path / "out").faults == []


def test_with_the_environment_the_clock_is_known(tmp_path: Path) -> None:
    source = rows(tmp_path / "x.hdf5")
    spec = EnvSpec(2, 2, 4, convert("omiga", source, tmp_path / "a").spec.action, episode_limit=3)
    place = Place(spec, {"name": "robot", "options": {}, "facts": {}})
    data = convert("omiga", source, tmp_path / "b", place)
    assert data.spec == spec
    assert data.episode(0)["truncated"].tolist() == [False, False, True]
    assert not data.episode(0)["terminated"].any()
    assert data.episode(1)["terminated"].tolist() == [True]


def test_what_is_not_the_format_is_named(tmp_path: Path) -> None:
    cases = {
        "r is of shape \\(9, 1\\)": {"r": np.zeros((9, 1))},
        "a has type int64, .* convert madt": {"a": np.zeros((10, 2, 1), np.int64)},
        "rows 4 to 4 of .*an episode without a step": {"d": np.isin(np.arange(10), (3, 4))},
    }
    for e, (said, changed) in enumerate(cases.items()):
        with pytest.raises(DatasetError, match=said):
            convert("omiga", rows(tmp_path / f"{e}.hdf5", **changed), tmp_path / "out")
        assert not (tmp_path / "out").exists()
    (tmp_path / "text").write_text("no")
    with pytest.raises(DatasetError, match="text is no hdf5 file that can be read"):
        convert("omiga", tmp_path / "text", tmp_path / "out")
