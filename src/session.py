"""One command from start to end: a tracked training run, or an evaluation."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .build import Parts, build
from .checkpoint import find_checkpoint, load_checkpoint, read_meta
from .config import Composed, compose, compose_stored
from .errors import CheckpointError
from .evaluation import evaluate_checkpoint, film_folder
from .tracking.console import Console
from .tracking.experiment import RunHandle, run_experiment
from .tracking.identity import task_name
from .tracking.logger import Logger
from .tracking.queries import run_folder
from .training import Trainer

log = logging.getLogger("phalanx.session")


def train(
    config: str | None,
    env_config: str | None,
    updates: Sequence[str],
    sacred_options: Sequence[str],
) -> int:
    """Train one run, recorded; returns the exit status."""
    composed, checkpoint = _compose(config, env_config, updates)
    for note in composed.notes:
        log.info("%s", note)
    run = composed.run
    resumed = read_meta(checkpoint) if run.resume and checkpoint else None
    results = Path(run.local_results_path)

    # Before anything is recorded: an unknown map or too large a buffer is no run.
    parts = build(composed)

    def body(handle: RunHandle) -> dict[str, float]:
        return _train(composed, parts, handle, checkpoint)

    run_experiment(
        body,
        name=run.name,
        config=composed.nested(),
        sacred_options=list(sacred_options),
        results_dir=results,
        mongo_url=run.mongo_url,
        mongo_db=run.mongo_db,
        resume_uid=run_folder(results, run.resume).name if resumed else None,
        resume_step=int(resumed["t_env"]) if resumed else None,
    )
    return 0


def _compose(
    config: str | None, env_config: str | None, updates: Sequence[str]
) -> tuple[Composed, Path | None]:
    """The config of a run, and the checkpoint it starts from.

    A run that continues another takes that one's config, with ``updates`` on top, unless ``--config`` says
    otherwise.
    """
    given = dict(word.partition("=")[::2] for word in updates)
    results = Path(given.get("local_results_path", "results"))
    checkpoint = None
    if given.get("resume"):
        checkpoint = find_checkpoint(run_folder(results, given["resume"]))
    elif given.get("checkpoint_path"):
        checkpoint = find_checkpoint(Path(given["checkpoint_path"]))
    if checkpoint is not None and config is None:
        stored = read_meta(checkpoint)["config"] | {"resume": "", "checkpoint_path": ""}
        return compose_stored(stored, str(checkpoint), updates), checkpoint
    return compose(config, env_config, updates), checkpoint


def _train(
    composed: Composed, parts: Parts, handle: RunHandle, checkpoint: Path | None
) -> dict[str, float]:
    """Train inside a tracked run and say at the end what came out and where to look."""
    run = composed.run
    console = Console()
    logger = Logger(handle.log_scalar)
    trainer = Trainer(composed, parts, _Tracker(handle, logger, console), handle.directory)
    if checkpoint is not None:
        trainer.load(load_checkpoint(checkpoint))
        log.info("continuing from %s at step %d", checkpoint, trainer.t_env)
    handle.info["env"] = trainer.parts.env.describe()
    handle.info["engine"] = handle.info["env"].get("engine", "")
    handle.info["device"] = str(trainer.parts.device)
    console.start(run.t_max, f"{run.name} on {task_name(composed.nested())}, run {handle.run_id}")
    start = time.perf_counter()
    try:
        result = trainer.run()
    finally:
        console.close()
    minutes = (time.perf_counter() - start) / 60
    handle.set_result(result.get("battle_won_mean", result["return_mean"]))
    print(_epilogue(handle, result, trainer, minutes))
    return result


def _epilogue(
    handle: RunHandle, result: Mapping[str, float], trainer: Trainer, minutes: float
) -> str:
    won = f"test win rate {result['battle_won_mean']:.0%}, " if "battle_won_mean" in result else ""
    phalanx, folder = program(), _shown(handle.directory)
    lines = [
        f"run {handle.run_id} done: {won}test return {result['return_mean']:.2f} "
        f"after {trainer.t_env} steps and {trainer.n_updates} updates in {minutes:.1f} min",
        f"  numbers:   {phalanx} runs show {handle.uid}",
        f"  curve:     {phalanx} plot {handle.uid}",
        f"  files:     {folder}",
    ]
    if trainer.run_config.save_model:
        lines += [
            f"  evaluate:  {phalanx} evaluate {folder}",
            f"  go on:     {phalanx} with resume={handle.uid} t_max={2 * trainer.run_config.t_max}",
        ]
    return "\n".join(lines)


def program() -> str:
    """The words that start this program again from here, as the user started it."""
    script = Path(sys.argv[0])
    if script.name != "main.py":
        return "phalanx"
    return f"{_shown(Path(sys.executable))} {_shown(script)}"


def _shown(path: Path) -> Path:
    """The path as seen from the working directory, where it is below it."""
    absolute = path if path.is_absolute() else Path.cwd() / path
    return absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute


class _Tracker:
    """Sends the loop's numbers to the record and to the screen."""

    def __init__(self, handle: RunHandle, logger: Logger, console: Console) -> None:
        self._handle, self._logger, self._console = handle, logger, console

    def log_many(self, metrics: Mapping[str, float], t_env: int, prefix: str = "") -> None:
        self._logger.log_many(metrics, t_env, prefix)

    def update(self, t_env: int, n_updates: int) -> None:
        self._console.update(t_env, n_updates)

    def report(self, t_env: int, split: Mapping[str, float]) -> None:
        self._console.report(t_env, self._logger.latest(), split)

    def flush(self) -> None:
        self._handle.flush()


def evaluate(checkpoint: Path, out: Path | None, updates: Sequence[str]) -> int:
    """Play a checkpoint and print what came out; returns the exit status."""
    try:
        folder = find_checkpoint(checkpoint)
    except CheckpointError:
        folder = find_checkpoint(run_folder(Path("results"), str(checkpoint)))
    composed = compose_stored(read_meta(folder)["config"], str(folder), updates)
    out = out or folder / "evaluation.csv"
    means = evaluate_checkpoint(folder, composed, composed.run.test_nepisode, out)
    numbers: dict[str, Any] = {k: round(v, 4) for k, v in means.items()}
    print(f"{composed.run.test_nepisode} episodes of {task_name(composed.nested())}: {numbers}")
    print(f"one row per episode: {out}")
    if composed.run.save_video:
        print(f"films and their traces: {film_folder(out)}")
    return 0
