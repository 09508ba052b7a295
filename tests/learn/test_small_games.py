"""Every shipped algorithm solves a game it must be able to solve."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..families import ALGORITHMS, on_policy
from ..recorder import trainer

# What only a mixer that sees the state can represent; VDFD's ablations are the same learner and mixer.
STATE_AWARE = ["qmix", "vdfd"]
SMALL = (
    "epsilon_anneal_time=1500",
    "t_max=2500",
    "env_steps_per_update=8",
    "target_update_interval=40",
    "buffer_size=300",
    "test_interval=10000",
    "save_model=False",
    "batch_size=32",
    "lr=0.002",
)
ON_POLICY = (
    "t_max=1600",
    "batch_size_run=16",
    "episode_length=10",
    "ppo_epoch=5",
    "test_interval=10000",
    "save_model=False",
)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_finds_the_best_corner(algorithm: str, tmp_path: Path) -> None:
    words = ON_POLICY if on_policy(algorithm) else SMALL
    run, _ = trainer(tmp_path, algorithm, "matrix", "game=coordination", *words)
    assert run.run()["return_mean"] == 4.0


@pytest.mark.parametrize("algorithm", STATE_AWARE)
def test_solves_the_two_step_game(algorithm: str, tmp_path: Path) -> None:
    words = (*SMALL, "t_max=5000", "epsilon_finish=1.0", "epsilon_anneal_time=5000")
    run, _ = trainer(tmp_path, algorithm, "matrix", "game=two_step", *words)
    assert run.run()["return_mean"] == 8.0
