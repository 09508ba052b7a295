"""Greedy test episodes, during training and on a finished checkpoint."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .build import build_player, choose_device, make_env, num_envs, seed_of
from .checkpoint import find_checkpoint, open_checkpoint, read_meta
from .config import Composed
from .envs.protocol import Env, Filmable
from .errors import ConfigError, EnvError
from .modules.behaviours.base import Behaviour
from .modules.policies.base import Condition
from .runners.rollout import EpisodeStats, Rollout, play_episodes
from .seeding import named_generator


class Tester:
    """Plays greedy episodes in environments of its own, so tests never disturb training.

    Where a policy can be asked for something, its conditions are played side by side, as many episodes of
    each.

    Args:
        composed: the run.
        behaviour: what is tested, on ``device``.
        n_episodes: of each condition. As many as there may be environments are played together; these are
            made at the first test.
    """

    def __init__(
        self, composed: Composed, behaviour: Behaviour, device: torch.device, n_episodes: int
    ) -> None:
        self._composed, self._behaviour, self._device = composed, behaviour, device
        self._n_episodes, self._conditions = n_episodes, behaviour.conditions
        self._copies = min(num_envs(composed), n_episodes * len(self._conditions))
        self._rollout: Rollout | None = None

    def play(self, t_env: int) -> EpisodeStats:
        """Whole episodes: each copy plays its share, so short ones are not favoured."""
        rollout = self._ensure_rollout()
        stats = rollout.stats
        stats.clear()
        while missing := self._missing(stats):
            together = missing[: self._copies]
            rows = np.arange(self._copies) < len(together)
            play_episodes(rollout, rows, t_env, test_mode=True, conditions=together)
        return stats

    def _missing(self, stats: EpisodeStats) -> list[Condition]:
        """The condition of each episode that is still to be played, one of each in turn."""
        played = Counter(stats.conditions)
        return [
            condition
            for turn in range(self._n_episodes)
            for condition in self._conditions
            if turn + played[condition.name] < self._n_episodes
        ]

    def means(self) -> dict[str, float]:
        """Means of the last test: the first condition's, and each one's as ``name@condition`` if several."""
        stats = self._ensure_rollout().stats
        means = stats.means(self._conditions[0].name)
        if len(self._conditions) > 1:
            means |= {
                f"{name}@{condition.name}": value
                for condition in self._conditions
                for name, value in stats.means(condition.name).items()
            }
        return means

    @property
    def env(self) -> Env:
        """The environments tests are played in."""
        return self._ensure_rollout().env

    def _ensure_rollout(self) -> Rollout:
        if self._rollout is None:
            env = make_env(self._composed, self._copies, "test_env")
            generator = named_generator(seed_of(self._composed), "test_act", self._device)
            self._rollout = Rollout(env, self._behaviour, generator, self._device)
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
        n_episodes: episodes to play, of each condition.
        out: CSV file, replaced.

    Returns:
        Means over the episodes, see :meth:`Tester.means`.

    Raises:
        CheckpointError: there is no checkpoint, or it does not fit.
        EnvError: films are wanted of an environment that cannot be filmed.
        ConfigError: ``out`` cannot be written; said before anything is played.
    """
    state = open_checkpoint(checkpoint, replay=False).state
    _check_writable(out)
    device = choose_device(composed.run.device)
    env = make_env(composed, 1, "spec")
    behaviour = build_player(composed, env.spec, device, state)
    env.close()
    tester = Tester(composed, behaviour, device, n_episodes)
    run = composed.run
    try:
        camera = _camera(tester.env, composed) if run.save_video else None
        stats = tester.play(int(state["counters"]["t_env"]))
        means = tester.means()
        films = camera.take_films() if camera is not None else []
    finally:
        tester.close()
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        # Which condition a row was played under is told where there are several.
        told = ["condition"] if len(behaviour.conditions) > 1 else []
        writer.writerow(["episode", *told, *stats.rows[0]])
        for i, (name, row) in enumerate(zip(stats.conditions, stats.rows, strict=True)):
            writer.writerow([i, *([name] if told else []), *row.values()])
    for i, film in enumerate(films):
        recorded = film.save(film_folder(out) / f"episode_{i:03d}.npz")
        film.render(recorded.with_suffix(f".{run.video_format}"))
    return means


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
