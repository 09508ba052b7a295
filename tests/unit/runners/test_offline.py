"""A run that learns from files alone: its clock counts updates, and it resumes bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from phalanx.build import build
from phalanx.checkpoint import open_checkpoint
from phalanx.config import compose
from phalanx.errors import ConfigError

from ...recorder import trainer

OFFLINE = (
    "runner=offline",
    "buffer=dataset",
    "batch_size=8",
    "test_nepisode=2",
    "test_interval=10",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Episodes that an untrained policy played in the two-step game."""
    folder = tmp_path_factory.mktemp("recorded")
    words = (f"record={folder / 'data'}", "t_max=200", "save_model=False", "batch_size_run=4")
    trainer(folder / "run", "iql", "matrix", *words, "test_nepisode=1")[0].run()
    return str(folder / "data")


# Which of them draws noise while it learns: madvae_offline.
@pytest.mark.parametrize(("config", "chunk"), [("qmix", 0), ("qmix", 1), ("madvae_offline", 0)])
def test_the_clock_counts_updates_and_a_resumed_run_is_the_same(
    tmp_path: Path, data: str, config: str, chunk: int
) -> None:
    words = (*OFFLINE, f"dataset={data}", f"chunk_length={chunk}", "save_model_interval=20")
    whole, told = trainer(
        tmp_path / "whole", config, "matrix", *words, "t_max=40", "log_interval=10"
    )
    whole.run()
    assert (whole.t_env, whole.n_updates) == (40, 40)
    assert [step for step, _ in told.curve("loss")] == [10, 20, 30, 40]
    assert [step for step, _ in told.curve("test_return_mean")] == [0, 10, 20, 30, 40]
    assert "return_mean" not in {name for name, _, _ in told.rows}
    half, first = trainer(
        tmp_path / "half", config, "matrix", *words, "t_max=20", "log_interval=10"
    )
    half.run()
    rest, second = trainer(
        tmp_path / "half", config, "matrix", *words, "t_max=40", "log_interval=10"
    )
    rest.load(open_checkpoint(tmp_path / "half").state)
    rest.run()
    assert first.rows + [row for row in second.rows if row[1] > 20] == told.rows
    for name, value in whole.parts.policy.state_dict().items():
        assert torch.equal(value, rest.parts.policy.state_dict()[name]), name


def test_such_a_run_records_nothing(tmp_path: Path, data: str) -> None:
    words = (*OFFLINE, f"dataset={data}", f"record={tmp_path / 'new'}")
    with pytest.raises(
        ConfigError, match="runner offline plays no episodes that could be recorded"
    ):
        build(compose("qmix", "matrix", words))


def test_tests_ask_for_several_returns_and_get_each(tmp_path: Path, data: str) -> None:
    """The two-step game pays 7 where agent 0 begins with its first action, else 0, 1 or 8."""
    words = (
        f"dataset={data}",
        "target_returns=[7.0, 0.0]",
        "return_scale=3.0",
        "head_gain=1.0",
        "n_layer=1",
        "context_length=2",
    )
    quick = ("t_max=200", "test_interval=200", "test_nepisode=2", "lr=0.01", "save_model=False")
    run, told = trainer(tmp_path, "madt", "matrix", *words, *quick)
    run.run()
    for asked in (7.0, 0.0):
        assert told.curve(f"test_return_mean@{asked:g}")[-1] == (200, asked)
    assert told.curve("test_return_mean")[-1] == (200, 7.0)
