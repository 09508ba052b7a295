"""Checkpoints and players written by hand, played into datasets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from phalanx.collection import Amount, Collector, Explorer
from phalanx.config import compose
from phalanx.data.dataset import Dataset
from phalanx.data.dataset.checks import check
from phalanx.envs.protocol import Box, Discrete, EnvSpec
from phalanx.errors import CheckpointError, ConfigError, DatasetError, EnvError
from phalanx.evaluation import evaluate_checkpoint
from phalanx.modules.policies.base import Seen
from phalanx.session import open_run

from ..recorder import trainer
from .modules.toys import plain


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the two-step game with checkpoints of steps 12 and 24."""
    folder = tmp_path_factory.mktemp("runs") / "teacher"
    words = ("t_max=24", "batch_size_run=3", "save_model_interval=12", "keep_models=true")
    trainer(folder, "qmix", "matrix", *words, "test_nepisode=1")[0].run()
    return folder


def played(run: Path, folder: Path, amount: Amount, **options: float) -> Dataset:
    checkpoint, composed = open_run(run, [])
    return Collector(composed, folder, amount, **options).play_checkpoint(checkpoint, "teacher")  # type: ignore[arg-type]


def actions(data: Dataset) -> list[list[list[int]]]:
    return [episode["actions"].tolist() for episode in data]


def test_one_seed_decides_everything(run: Path, tmp_path: Path) -> None:
    made = [
        played(run, tmp_path / str(i), Amount(7), epsilon=0.5, seed=seed)
        for i, seed in enumerate((1, 1, 2))
    ]
    assert [len(data) for data in made] == [7, 7, 7]
    assert actions(made[0]) == actions(made[1]) != actions(made[2])
    assert made[0].description.checksum == made[1].description.checksum
    assert check(tmp_path / "0").faults == []


def test_without_exploration_it_plays_what_tests_play(run: Path, tmp_path: Path) -> None:
    data = played(run, tmp_path / "d", Amount(5))
    checkpoint, composed = open_run(run, [])
    tested = evaluate_checkpoint(checkpoint.folder, composed, 5, tmp_path / "rows.csv")
    assert data.returns.mean() == pytest.approx(tested["return_mean"])
    assert len({str(episode) for episode in actions(data)}) == 1
    (acted,) = data.description.policies
    assert (acted["name"], acted["run"], acted["step"]) == ("qmix", "teacher", 24)
    assert acted["config"]["mixer"] == "qmix"
    assert data.description.environment["options"] == {"game": "two_step"}


def test_transitions_are_whole_episodes(run: Path, tmp_path: Path) -> None:
    data = played(run, tmp_path / "d", Amount(9, "step"))
    assert data.lengths.tolist() == [2] * 5


def test_a_step_is_found_or_those_there_are_said(run: Path) -> None:
    checkpoint, _ = open_run(run, [], 12)
    assert checkpoint.t_env == 12
    with pytest.raises(
        CheckpointError, match=r"no checkpoint of step 13 .*: there are those of 12, 24"
    ):
        open_run(run, [], 13)


class Always:
    """Takes action 0, and remembers its last actions."""

    def init_carry(self, batch_size: int, *_: object) -> dict[str, torch.Tensor]:
        return {"last_actions": torch.zeros(batch_size, 2, dtype=torch.int64)}

    def act(
        self, seen: Seen, carry: dict[str, torch.Tensor], *_: object
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        done = torch.zeros(len(seen.obs), 2, dtype=torch.int64)
        return done, {"last_actions": done + 1}


def test_random_actions_are_available_ones_and_are_remembered() -> None:
    spec = EnvSpec(2, 1, 1, Discrete(4), 5)
    explorer = Explorer(plain(Always()), 0.3, spec)
    B = 4000
    avail = torch.tensor([True, True, False, True]).expand(B, 2, 4)
    seen = Seen(torch.zeros(B, 2, 1), torch.zeros(B, 1), avail, avail[..., 0], torch.zeros(B))
    done, carry, _ = explorer.act(seen, {}, 0, True, torch.Generator().manual_seed(0))
    shares = torch.bincount(done.flatten(), minlength=4) / done.numel()
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.0, 0.1], atol=0.02)
    assert carry["last_actions"].equal(done + 1)


def test_what_cannot_be_recorded_is_refused(run: Path, tmp_path: Path) -> None:
    vectors = EnvSpec(2, 1, 1, Box((0.0,), (1.0,)), 5)
    with pytest.raises(ConfigError, match=r"--epsilon 0\.1 .* needs discrete actions"):
        Explorer(plain(Always()), 0.1, vectors)
    played(run, tmp_path / "d", Amount(1))
    with pytest.raises(DatasetError, match="there is a dataset at"):
        played(run, tmp_path / "d", Amount(1))
    checkpoint, _ = open_run(run, [])
    other = compose("qmix", "matrix", ["rnn_hidden_dim=8"])
    with pytest.raises(CheckpointError, match="does not fit"):
        Collector(other, tmp_path / "e", Amount(1)).play_checkpoint(checkpoint, "")
    with pytest.raises(EnvError, match=r"--bot focus: env matrix .* no players written by hand"):
        Collector(other, tmp_path / "e", Amount(1)).play_by_hand("focus")
    assert not (tmp_path / "e").exists()


def test_bots_of_the_battle_engine(tmp_path: Path) -> None:
    composed = compose("iql", "sc2", ["map_name=3m", "engine=embedded", "batch_size_run=4"])
    data = Collector(composed, tmp_path / "d", Amount(4), seed=3).play_by_hand("focus")
    assert check(tmp_path / "d").faults == []
    assert "visibility" in data.fields
    assert data.description.policies[0]["by_hand"].startswith("attacks the weakest")
    idle = Collector(composed, tmp_path / "e", Amount(4), seed=3).play_by_hand("stop")
    assert data.returns.mean() > 2 * idle.returns.mean()
    with pytest.raises(EnvError, match=r"no player 'focsu' on 3m\. Did you mean 'focus'"):
        Collector(composed, tmp_path / "f", Amount(1)).play_by_hand("focsu")
