"""Every episode of a training run is filed once, whatever its runner, and whatever kills it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from phalanx.checkpoint import open_checkpoint
from phalanx.data.dataset import Dataset
from phalanx.data.dataset.checks import check
from phalanx.envs.matrix import GAMES
from phalanx.errors import DatasetError

from ....recorder import trainer

RUNS = {
    "pieces": ("mappo", "batch_size_run=2", "episode_length=3", "ppo_epoch=1"),
    "vector": ("qmix", "batch_size_run=3"),
    "episode": ("qmix", "runner=episode", "batch_size_run=2"),
}


def train(folder: Path, name: str, *words: str, resume: bool = False) -> None:
    """A short run on the two-step game, recorded beside its folder."""
    config, *own = RUNS[name]
    words = (f"record={folder / 'data'}", "test_nepisode=1", *own, *words)
    if resume:
        words = (*words, "resume=run")
    made, _ = trainer(folder / "run", config, "matrix", *words)
    if resume:
        made.load(open_checkpoint(folder / "run").state)
    made.run()


@pytest.mark.parametrize("name", RUNS)
def test_whole_episodes_of_every_runner(tmp_path: Path, name: str) -> None:
    train(tmp_path, name, "t_max=60", "save_model=False")
    data = Dataset.open(tmp_path / "data")
    assert check(tmp_path / "data").faults == []
    # Pieces of three steps cut every other episode of two steps.
    assert len(data) == 30
    game = GAMES["two_step"]
    for episode in data:
        states = episode["state"].argmax(-1)
        actions = episode["actions"].astype(int)
        assert states[0] == 0
        assert states[1] == game.next_state[0, actions[0, 0], actions[0, 1]]
        assert episode["reward"][1] == game.payoff[states[1], actions[1, 0], actions[1, 1]]
    told = data.description
    assert told.environment["options"] == {"game": "two_step"}
    assert told.policies[0]["run"] == "run"
    assert told.policies[0]["config"]["learner"] in ("q_learner", "ppo")


@pytest.mark.parametrize("name", ["pieces", "vector"])
def test_a_killed_run_files_nothing_twice(tmp_path: Path, name: str) -> None:
    often = "save_model_interval=18"
    train(tmp_path / "whole", name, "t_max=90", often)
    train(tmp_path / "killed", name, "t_max=36", often)
    # What a kill leaves: episodes from after the checkpoint, in a shard and in an open one.
    files = tmp_path / "killed" / "data"
    later = Dataset.open(tmp_path / "whole" / "data").shards[-1].folder
    stray = files / later.name
    stray.mkdir()
    (stray / "obs.npy").write_bytes(b"half")
    train(tmp_path / "killed", name, "t_max=90", often, resume=True)
    whole, killed = (Dataset.open(tmp_path / run / "data") for run in ("whole", "killed"))
    assert len(whole) == len(killed) >= 44
    for one, other in zip(whole, killed, strict=True):
        for field, array in one.items():
            np.testing.assert_array_equal(array, other[field])
    assert check(files).faults == []


def test_nothing_is_recorded_over(tmp_path: Path) -> None:
    train(tmp_path, "vector", "t_max=12")
    with pytest.raises(DatasetError, match="and it is kept"):
        train(tmp_path, "vector", "t_max=12")


def test_models_are_kept_by_step(tmp_path: Path) -> None:
    train(tmp_path, "vector", "t_max=12", "save_model_interval=6", "keep_models=True")
    kept = sorted(p.name for p in (tmp_path / "run" / "checkpoints").glob("step_*"))
    assert kept == ["step_12", "step_6"]
    state = open_checkpoint(tmp_path / "run" / "checkpoints" / "step_6").state
    assert set(state) == {"policy", "counters", "spec"}
