"""Greedy test episodes, during training and on a finished checkpoint."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .build import choose_device, make_env, num_envs, restored_policy
from .checkpoint import find_checkpoint, open_checkpoint, read_meta
from .config import Composed
from .envs.protocol import Env, Filmable
from .errors import ConfigError, EnvError
from .modules.policies.base import Policy
from .runners.rollout import EpisodeStats, Rollout, play_episodes
from .seeding import named_generator


class Tester:
    """Plays greedy episodes in environments of its own, so tests never disturb training.

    Args:
        composed: the run.
        policy: what is tested, on ``device``.
        copies: environments played together; they are made at the first test.
    """

    def __init__(
        self, composed: Composed, policy: Policy, device: torch.device, copies: int
    ) -> None:
        self._composed, self._policy, self._device = composed, policy, device
        self._copies = copies
        self._rollout: Rollout | None = None

    def play(self, n_episodes: int, t_env: int) -> EpisodeStats:
        """``n_episodes`` whole episodes: each copy plays its share, so short ones are not favoured."""
        rollout = self._ensure_rollout()
        rollout.stats.clear()
        while (missing := n_episodes - len(rollout.stats.rows)) > 0:
            play_episodes(rollout, np.arange(self._copies) < missing, t_env, test_mode=True)
        return rollout.stats

    @property
    def env(self) -> Env:
        """The environments tests are played in."""
        return self._ensure_rollout().env

    def _ensure_rollout(self) -> Rollout:
        if self._rollout is None:
            env = make_env(self._composed, self._copies, "test_env")
            generator = named_generator(self._composed.run.seed, "test_act", self._device)
            self._rollout = Rollout(env, self._policy, generator, self._device)
        return self._rollout

    def close(self) -> None:
        """Free the environments."""
        if self._rollout is not None:
            self._rollout.env.close()

    def state_dict(self) -> dict[str, Any]:
        """The test environments' place in their sequence of episodes."""
        return {"rollout": None if self._rollout is None else self._rollout.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state_dict`."""
        if state["rollout"] is not None:
            self._ensure_rollout().load_state_dict(state["rollout"])


def score(metrics: Mapping[str, float]) -> tuple[float, float]:
    """How good a test was: battles won where there are battles, then return."""
    return metrics.get("battle_won_mean", 0.0), metrics["return_mean"]


def evaluate_checkpoint(
    checkpoint: Path, composed: Composed, n_episodes: int, out: Path
) -> dict[str, float]:
    """Play a checkpoint greedily and write one CSV row per episode.

    The run's ``save_video`` first rows are filmed as well, see :func:`film_folder`.

    Args:
        checkpoint: checkpoint folder, or the folder of a run.
        composed: the config stored with it, see :func:`stored_config`.
        n_episodes: episodes to play.
        out: CSV file, replaced.

    Returns:
        Means over the episodes.

    Raises:
        CheckpointError: there is no checkpoint, or it does not fit.
        EnvError: films are wanted of an environment that cannot be filmed.
        ConfigError: ``out`` cannot be written; said before anything is played.
    """
    state = open_checkpoint(checkpoint, replay=False).state
    _check_writable(out)
    copies = min(n_episodes, num_envs(composed))
    device = choose_device(composed.run.device)
    env = make_env(composed, 1, "spec")
    policy = restored_policy(composed, state, env.spec, device)
    env.close()
    tester = Tester(composed, policy, device, copies)
    run = composed.run
    try:
        camera = _camera(tester.env, composed) if run.save_video else None
        stats = tester.play(n_episodes, int(state["counters"]["t_env"]))
        films = camera.take_films() if camera is not None else []
    finally:
        tester.close()
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["episode", *stats.rows[0]])
        writer.writeheader()
        writer.writerows({"episode": i, **row} for i, row in enumerate(stats.rows))
    for i, film in enumerate(films):
        recorded = film.save(film_folder(out) / f"episode_{i:03d}.npz")
        film.render(recorded.with_suffix(f".{run.video_format}"))
    return stats.means()


def _check_writable(out: Path) -> None:
    new = not out.exists()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("a"):
            pass
        if new:
            out.unlink()
    except OSError as error:
        raise ConfigError(
            f"{out} cannot be written ({error}). Name another file with --out."
        ) from error


def film_folder(out: Path) -> Path:
    """Where the films of an evaluation lie: beside its CSV file, numbered like its rows."""
    return out.with_name(f"{out.stem}_films")


def _camera(env: Env, composed: Composed) -> Filmable:
    if not isinstance(env, Filmable):
        raise EnvError(
            f"save_video={composed.run.save_video}, but env {composed.chosen['env']} cannot be filmed; "
            "sc2 with engine=embedded can."
        )
    env.start_filming(composed.run.save_video, composed.run.video_format)
    return env


def stored_config(path: Path) -> dict[str, Any]:
    """The nested config of the run a checkpoint belongs to."""
    config: dict[str, Any] = read_meta(find_checkpoint(path))["config"]
    return config
