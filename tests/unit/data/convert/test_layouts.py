"""A set in MAPPO's layout is learnt from and tested on in that layout, and refused in SMAC's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phalanx.cli import run
from phalanx.data.convert import convert
from phalanx.data.convert.foreign import Place
from phalanx.data.dataset import Dataset
from phalanx.errors import DatasetError

from .test_alberdice import small
from .test_madt import tier

PLACE = ["map_name=3m", "engine=embedded"]
SMALL = ["mongo_url=none", "t_max=1", "test_nepisode=1", "batch_size=2", "batch_size_run=1"]


def as_madt(episode: dict[str, np.ndarray]) -> list[Any]:
    """One of ours as MADT keeps it: what followed the last action is not."""
    length, agents = episode["actions"].shape
    dead = ~episode["alive"][1:]
    dead[-1] = True  # it is over for all
    return [
        [
            [
                episode["state"][t].tolist(),
                episode["obs"][t, i].tolist(),
                [int(episode["actions"][t, i])],
                [float(episode["reward"][t])],
                np.bool_(dead[t, i]),
                episode["avail_actions"][t, i].astype(int).tolist(),
            ]
            for t in range(length)
        ]
        for i in range(agents)
    ]


def test_battles_go_through_madts_files_and_are_tested_on_in_their_layout(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    record = ["dataset", "record", "--bot=focus", "--env-config=sc2", "--episodes=3", "--out=ours"]
    assert run([*record, "with", *PLACE, "layout=mappo"]) == 0
    ours = Dataset.open("ours")
    assert (ours.spec.obs_dim, ours.spec.state_dim) == (64, 81)
    tier(tmp_path / "3m" / "good", *map(as_madt, ours))
    words = ["dataset", "convert", "madt", "3m/good", "--env-config=sc2", "--out=theirs"]
    assert run([*words, "with", *PLACE, "layout=mappo"]) == 0
    assert "3 episodes with" in capsys.readouterr().out
    theirs = Dataset.open("theirs")
    assert theirs.spec == ours.spec
    for one, other in zip(ours, theirs, strict=True):
        for name in other:
            known = len(one["reward"])  # entries; what followed the last action is not in the files
            np.testing.assert_array_equal(other[name][:known], one[name][:known], err_msg=name)
    bc = ["--config=bc", "--env-config=sc2", "with", "dataset=theirs", *PLACE, *SMALL]
    assert run([*bc, "layout=mappo"]) == 0
    assert "engine 'that of the madt data' / 'embedded'" in caplog.text
    assert run([*bc, "layout=smac"]) == 1
    said = capsys.readouterr()
    assert "recorded in another environment than this run tests in (dataset / run): " in said.err
    assert "obs_dim 64 / 30; state_dim 81 / 48" in said.err
    # As is the conversion itself.
    words[-1] = "--out=wrong"
    assert run([*words, "with", *PLACE]) == 1
    assert (
        "3m/good was not recorded in sc2 map_name=3m layout=smac (files / environment): "
        "obs_dim 64 / 30; state_dim 81 / 48." in capsys.readouterr().err
    )
    assert not Path("wrong").exists()


def test_episodes_longer_than_the_environments_are_refused(tmp_path: Path) -> None:
    source = small(tmp_path / "in")
    spec = convert("alberdice", source, tmp_path / "a").spec
    place = Place(replace(spec, episode_limit=3), {"name": "x", "options": {}, "facts": {}})
    with pytest.raises(DatasetError, match=r"episode 1 of .* has 4 steps, more than the 3 that"):
        convert("alberdice", source, tmp_path / "b", place)
