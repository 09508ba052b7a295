"""Every shipped algorithm solves a game it must be able to solve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phalanx.config import compose
from phalanx.learners.ppo import PPOLearner
from phalanx.registry import LEARNERS

from ..families import ALGORITHMS, imagines, on_policy, readable
from ..recorder import trainer

gymnasium = pytest.importorskip("gymnasium")
spaces = gymnasium.spaces

# What only a mixer that sees the state can represent; VDFD's ablations are the same learner and mixer.
STATE_AWARE = ["qmix", "vdfd"]
SMALL = (
    "epsilon_anneal_time=1500",
    "t_max=1500",
    "env_steps_per_update=8",
    "target_update_interval=40",
    "buffer_size=300",
    "test_interval=10000",
    "save_model=False",
    "batch_size=32",
    "lr=0.002",
)
# COMA takes one step per batch where PPO takes several.
PACE = {"coma": ("t_max=6400", "lr=0.01", "critic_lr=0.01", "epsilon_anneal_time=3000")}
# Steps of the non-monotonic game. QPLEX's advantages have to be learnt before its greedy actions are worth
# what they say; weighted projections know the best one after 250 steps, and go on knowing it (seeds 1 to 4).
PATIENCE = {
    "qplex": ("t_max=12000",),
    "cw_qmix": ("t_max=2000",),
    "ow_qmix": ("t_max=2000",),
    # A narrow joint value may stay near one number for long, as its inputs hardly tell actions apart.
    "qtran": ("mixer_args.mixing_embed_dim=256",),
}
# What decides whether a team can value the non-monotonic game as it is.
NON_MONOTONIC = ("qtran", "qplex", "cw_qmix", "ow_qmix")
UNIFORM = (
    "epsilon_finish=1.0",
    "t_max=6000",
    "env_steps_per_update=5",
    "target_update_interval=40",
    "buffer_size=500",
    "batch_size=32",
    "batch_size_run=10",
    "optim=rmsprop",
    "lr=0.002",
    "test_interval=10000",
    "test_nepisode=1",
    "save_model=False",
)
ON_POLICY = (
    "t_max=1600",
    "batch_size_run=16",
    "episode_length=10",
    "ppo_epoch=5",
    "test_interval=10000",
    "save_model=False",
)
# What learns from imagination needs a world model that has learnt first.
PLAYERS = [name for name in ALGORITHMS if not imagines(name)]


@pytest.mark.parametrize("algorithm", PLAYERS)
def test_finds_the_best_corner(algorithm: str, tmp_path: Path) -> None:
    words = readable(algorithm, ON_POLICY) if on_policy(algorithm) else SMALL
    words = (*words, *PACE.get(algorithm, ()))
    run, _ = trainer(tmp_path, algorithm, "matrix", "game=coordination", *words)
    assert run.run()["return_mean"] == 4.0


@pytest.mark.parametrize("algorithm", STATE_AWARE)
def test_solves_the_two_step_game(algorithm: str, tmp_path: Path) -> None:
    words = (*SMALL, "t_max=3000", "epsilon_finish=1.0", "epsilon_anneal_time=5000")
    run, _ = trainer(tmp_path, algorithm, "matrix", "game=two_step", *words)
    assert run.run()["return_mean"] == 8.0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("algorithm", ["vdn", "qmix", *NON_MONOTONIC])
def test_only_unrestricted_values_solve_the_non_monotonic_game(
    algorithm: str, seed: int, tmp_path: Path
) -> None:
    """Son et al., 2019: 8 for the one right joint action, -12 for all that miss it by one agent."""
    words = (*UNIFORM, f"seed={seed}", *PATIENCE.get(algorithm, ()))
    run, _ = trainer(tmp_path, algorithm, "matrix", "game=nonmonotonic", *words)
    assert run.run()["return_mean"] == (8.0 if algorithm in NON_MONOTONIC else 0.0)


class Darts(gymnasium.Env[Any, Any]):
    """Both aim at the same one of three boards, and throw at its bull's eye; one shot, paid at most 2."""

    observation_space = spaces.Tuple([spaces.Box(-1, 1, (2,))] * 2)
    action_space = spaces.Tuple([spaces.Tuple((spaces.Discrete(3), spaces.Box(-1, 1, (1,))))] * 2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        return self._look(), {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, Any]:
        same = action[0][0] == action[1][0]
        rewards = [same * (1 - abs(float(throw[0]) - 0.5)) for _, throw in action]
        return self._look(), rewards, True, False, {}

    def _look(self) -> tuple[Any, Any]:
        return (np.ones(2, np.float32),) * 2


def takes_vectors(algorithm: str) -> bool:
    """Whether it needs no value for each action, and no tokens of it."""
    return not imagines(algorithm) and issubclass(
        LEARNERS.get(compose(algorithm, "matrix").chosen["learner"]), PPOLearner
    )


gymnasium.register("Darts-v0", entry_point=Darts)


@pytest.mark.parametrize("algorithm", [a for a in ALGORITHMS if takes_vectors(a)])
def test_learns_a_choice_and_a_vector_at_once(algorithm: str, tmp_path: Path) -> None:
    words = (*ON_POLICY, "t_max=4800", "lr=0.003", "critic_lr=0.003", "entropy_coef=0.001")
    run, _ = trainer(tmp_path, algorithm, "gymma", "key=Darts-v0", "time_limit=1", *words)
    # At random they meet in one of three throws and earn about 0.3.
    assert run.run()["return_mean"] > 1.5
