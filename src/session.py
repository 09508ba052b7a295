"""One command from start to end: a tracked training run, or an evaluation."""

from __future__ import annotations

import logging
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .checkpoint import (
    Checkpoint,
    checkpoint_of_step,
    find_checkpoint,
    has_checkpoint,
    open_checkpoint,
    set_aside_newer,
)
from .config import Composed, compose, compose_stored
from .errors import CheckpointError, ConfigError, DivergedError, TrackingError
from .evaluation import evaluate_checkpoint, film_folder
from .interrupt import terminated_like_interrupted
from .phases import Phases
from .plugins import unfamiliar
from .registry import SINKS
from .tracking.claim import Claim, claim_planned, claim_run
from .tracking.console import Console
from .tracking.experiment import RunHandle, run_experiment
from .tracking.filters import flat
from .tracking.identity import BOOKKEEPING, task_name
from .tracking.logger import Logger
from .tracking.queries import run_folder
from .tracking.record import Position, SpooledRun
from .tracking.sinks.base import Sink
from .training import Trainer

log = logging.getLogger("phalanx.session")

RESULTS = "results"


@dataclass(frozen=True)
class Trained:
    """A run that has ended well.

    Attributes:
        uid: its name for good.
        folder: its folder, with checkpoints, metrics and output.
        result: means over the episodes of its last test, e.g. ``return_mean``.
    """

    uid: str
    folder: Path
    result: Mapping[str, float]


def train(
    config: str | None,
    env_config: str | None,
    updates: Sequence[str],
    sacred_options: Sequence[str],
) -> Trained:
    """Train one run, recorded."""
    words = _Words(updates)
    if not words.resume:
        return _train(_begun(config, env_config, words), sacred_options)
    # Before anything of it is read: what is read must still be so when it is acted upon.
    claim = claim_run(_run_folder(words.results, words.resume))
    try:
        start = _taken_up(config, env_config, words, claim)
    except BaseException:
        claim.release()
        raise
    return _train(start, sacred_options)


def train_planned(
    directory: Path,
    config: Mapping[str, Any],
    updates: Sequence[str],
    watch: Callable[[int, Mapping[str, float]], None] | None = None,
) -> None:
    """Train a run whose folder is settled: from the start, or on from its last checkpoint if it has one.

    Args:
        directory: the run's folder, ``<results>/runs/<uid>``; need not exist.
        config: composed and nested, as it was stored.
        updates: ``KEY=VALUE`` words on top of it.
        watch: is told the step and the metrics of each test, and may raise to end the run.

    Raises:
        PhalanxError: it cannot be run, or ended in an error.
    """
    claim = claim_planned(directory.absolute())
    try:
        origin = f"the plan of run {directory.name}"
        composed = compose_stored(
            config, origin, [*updates, f"local_results_path={directory.parent.parent}"]
        )
        goes_on = claim.resumed and has_checkpoint(claim.directory)
        checkpoint = None
        if goes_on or composed.run.checkpoint_path:
            checkpoint = open_checkpoint(
                claim.directory if goes_on else Path(composed.run.checkpoint_path)
            )
            composed = _in_phase_of(checkpoint, composed)
        start = _built(composed, claim.directory.parent.parent)
        start.claim, start.checkpoint, start.goes_on = claim, checkpoint, goes_on
        start.tracker.watch = watch
        if checkpoint is not None:
            start.trainer.load(checkpoint.state, same_run=goes_on)
    except BaseException:
        claim.release()
        raise
    _train(start, [])


class _Words:
    """``KEY=VALUE`` words that say where a run comes from; they are needed before it can be composed."""

    def __init__(self, updates: Sequence[str]) -> None:
        given = dict(word.partition("=")[::2] for word in updates)
        self.results = Path(given.get("local_results_path") or RESULTS)
        self.resume = given.get("resume", "")
        self.checkpoint_path = given.get("checkpoint_path", "")
        self.names_plugins = "plugins" in given
        self.trust_plugins = _yes_or_no("trust_plugins", given.get("trust_plugins", "false"))
        # A permission for this command alone, which no stored config can give.
        self.updates = [word for word in updates if word.partition("=")[0] != "trust_plugins"]


def _yes_or_no(key: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ConfigError(f"{key}={text} (command line): expected True or False")
    return text.lower() == "true"


@dataclass
class _Start:
    """A run that can begin: all of it was built, and nothing is recorded yet."""

    phases: Phases
    tracker: _Tracker
    results: Path
    checkpoint: Checkpoint | None = None
    sinks: Mapping[str, Sink] = field(default_factory=dict)
    claim: Claim | None = None
    goes_on: bool = False  # the checkpoint is of the very run whose folder is claimed

    @property
    def trainer(self) -> Trainer:
        """Of the phase that the run is in."""
        return self.phases.trainer

    @property
    def composed(self) -> Composed:
        """The run, in that phase."""
        return self.phases.composed


def _begun(config: str | None, env_config: str | None, words: _Words) -> _Start:
    """A new run, from nothing or from another run's checkpoint."""
    if not words.checkpoint_path:
        return _built(compose(config, env_config, words.updates), words.results)
    checkpoint = open_checkpoint(Path(words.checkpoint_path))
    start = _built(_composed(config, env_config, words, checkpoint), words.results)
    start.trainer.load(checkpoint.state, same_run=False)
    start.checkpoint = checkpoint
    return start


def _taken_up(config: str | None, env_config: str | None, words: _Words, claim: Claim) -> _Start:
    """An earlier run, with its checkpoint loaded: that it fits is known before its record is touched."""
    checkpoint = open_checkpoint(claim.directory)
    words.updates = [w for w in words.updates if w.partition("=")[0] != "resume"]
    words.updates.append(f"resume={claim.uid}")
    composed = _composed(config, env_config, words, checkpoint)
    start = _built(composed, claim.directory.parent.parent)
    start.trainer.load(checkpoint.state)
    start.checkpoint, start.claim, start.goes_on = checkpoint, claim, True
    return start


def _built(composed: Composed, results: Path) -> _Start:
    if len(composed.notes) == 1:
        log.info("%s", composed.notes[0])
    elif composed.notes:
        log.info(
            "%d values of the config files are not used in this run; `print_config` and -d list them",
            len(composed.notes),
        )
    for note in composed.notes[1:] and composed.notes:
        log.debug("%s", note)
    # Before anything is recorded: an unknown map or too large a buffer is no run.
    sinks = {name: SINKS.get(name)() for name in composed.run.sinks}
    tracker = _Tracker(Console())
    return _Start(Phases(composed, tracker, results), tracker, results, sinks=sinks)


def _composed(
    config: str | None, env_config: str | None, words: _Words, checkpoint: Checkpoint
) -> Composed:
    """The checkpoint's config with the words on top, unless ``--config`` says otherwise."""
    if config is not None:
        return _in_phase_of(checkpoint, compose(config, env_config, words.updates))
    return _stored(checkpoint, words)


def _in_phase_of(checkpoint: Checkpoint, composed: Composed) -> Composed:
    """The run in the phase that the checkpoint was made in, where it has phases."""
    phase = checkpoint.config.get("phase")
    return composed.phase(phase) if composed.phases and phase else composed


def _stored(checkpoint: Checkpoint, words: _Words) -> Composed:
    """The config in a checkpoint with the words of the command line on top.

    Raises:
        CheckpointError: it names code to run that nobody here has said may run.
    """
    config = checkpoint.config
    foreign = [] if words.names_plugins else unfamiliar(config.get("plugins") or [])
    if foreign and not words.trust_plugins:
        raise CheckpointError(
            f"{checkpoint.folder} asks for the plugins {', '.join(map(repr, foreign))}, Python code that "
            "would be run now and is not among the installed plugins. If you trust it, add "
            f"trust_plugins=True; or name your own copy: plugins=[{','.join(foreign)}]."
        )
    if foreign:
        log.info("running the plugins that %s names: %s", checkpoint.folder, ", ".join(foreign))
    stored = config | {"resume": "", "checkpoint_path": ""}
    return compose_stored(stored, str(checkpoint.folder), words.updates)


def _run_folder(results: Path, name: str) -> Path:
    try:
        return run_folder(results, name)
    except TrackingError as error:
        raise TrackingError(
            f"{error}. Runs that are kept elsewhere need local_results_path=DIR."
        ) from None


def _train(start: _Start, sacred_options: Sequence[str]) -> Trained:
    run, checkpoint, trainer = start.composed.run, start.checkpoint, start.trainer
    since = None
    if start.claim is not None and start.claim.resumed:
        since = Position(0, 0)  # without a checkpoint it begins again, and so does its record
    if start.claim is not None and start.goes_on and checkpoint is not None:
        recorded = SpooledRun.read(start.claim.directory)
        ended = recorded is not None and recorded.run["status"] == "COMPLETED"
        if ended and trainer.t_env >= run.t_max and start.composed.following is None:
            trainer.close()
            start.claim.release()
            print(
                f"run {start.claim.uid} is complete: it has done {trainer.t_env} of t_max={run.t_max} "
                f"{trainer.unit}s, so there is nothing to resume. Go on with a larger one, e.g. "
                f"t_max={2 * trainer.t_env}."
            )
            return Trained(start.claim.uid, start.claim.directory, trainer.last_test)
        set_aside_newer(checkpoint)
        since = Position(checkpoint.t_env, checkpoint.recorded)
    # Until here SIGTERM ends the program on the spot, compilers or not: there is no record to close.
    with terminated_like_interrupted():
        result: Mapping[str, float] = run_experiment(
            lambda handle: _body(start, handle),
            name=run.name,
            config=start.composed.last.nested(),
            sacred_options=list(sacred_options),
            results_dir=start.results,
            mongo_url=run.mongo_url,
            mongo_db=run.mongo_db,
            claim=start.claim,
            since=since,
            sinks=start.sinks,
            sink_project=run.sink_project,
        )
    return Trained(trainer.folder.name, trainer.folder, result)


def _body(start: _Start, handle: RunHandle) -> dict[str, float]:
    """Train inside a tracked run and say at the end what came out and where to look."""
    run, trainer, console = start.composed.run, start.trainer, start.tracker.console
    trainer.folder = handle.directory
    start.tracker.record_into(handle)
    hints = _Hints(start, handle)
    if start.checkpoint is not None:
        log.info("continuing from %s at %s", start.checkpoint.folder, trainer.now)
        _note_changes(start, handle)
    handle.info["env"] = trainer.parts.env.describe()
    handle.info["engine"] = handle.info["env"].get("engine", "")
    handle.info["device"] = str(trainer.parts.device)
    task = task_name(start.composed.nested())
    began = time.perf_counter()
    try:
        result = _trained(start, handle, f"{run.name} on {task}, run {handle.run_id}")
    except (KeyboardInterrupt, DivergedError) as stopped:
        console.close()
        print(hints.after_stop(start.trainer.now, stopped))
        raise
    finally:
        console.close()
    minutes = (time.perf_counter() - began) / 60
    handle.set_result(result.get("battle_won_mean", result["return_mean"]))
    print(hints.epilogue(result, minutes))
    return result


def _trained(start: _Start, handle: RunHandle, title: str) -> dict[str, float]:
    """All that is left of the run's phases; metrics of the last one's last test."""
    console = start.tracker.console
    while True:
        trainer, run = start.trainer, start.composed.run
        handle.info["clock"] = f"{trainer.unit}s"
        phase = f", phase {run.phase}" if run.phase else ""
        console.start(run.t_max, title + phase, trainer.unit)
        result = trainer.run()
        if not start.phases.follow():
            return result
        log.info("phase %s has ended at %s", run.phase, trainer.now)
        console.close()


def _note_changes(start: _Start, handle: RunHandle) -> None:
    """Say which keys a continued run has other values of than before, and put it on record."""
    assert start.checkpoint is not None
    before = flat(start.checkpoint.config)
    now = flat(start.composed.nested())
    passed_over = {*BOOKKEEPING, "t_max"}
    changed = {
        key: [before.get(key), now.get(key)]
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
        and not passed_over & {key.partition(".")[0], key.rpartition(".")[2]}
    }
    if not changed:
        return
    told = ", ".join(f"{key} ({old!r} before, now {new!r})" for key, (old, new) in changed.items())
    seed = (
        " Generators that are in the checkpoint go on as they are: the new seed is for what is made anew."
        if "seed" in changed
        else ""
    )
    log.info(
        "from %s %d on this run has other settings than before: %s.%s",
        start.trainer.unit,
        start.checkpoint.t_env,
        told,
        seed,
    )
    earlier = list(handle.info.get("changed_on_resume", []))
    entry = {
        "step": start.checkpoint.t_env,
        "keys": {k.replace(".", "/"): v for k, v in changed.items()},
    }
    handle.info["changed_on_resume"] = [*earlier, entry]


class _Hints:
    """Commands that work as they are printed, from the folder the program was started in."""

    def __init__(self, start: _Start, handle: RunHandle) -> None:
        self._start, self._handle = start, handle
        run = start.composed.run
        self._elsewhere = start.results.absolute() != Path(RESULTS).absolute()
        self._results = str(_shown(start.results))
        self._plugins = [f"plugins=[{','.join(run.plugins)}]"] if unfamiliar(run.plugins) else []

    def epilogue(self, result: Mapping[str, float], minutes: float) -> str:
        """What came out, and where to look."""
        handle = self._handle
        won = (
            f"test win rate {result['battle_won_mean']:.0%}, "
            if "battle_won_mean" in result
            else ""
        )
        folder = _shown(handle.directory)
        lines = [
            f"run {handle.run_id} done: {won}test return {result['return_mean']:.2f} "
            f"after {self._work()} in {minutes:.1f} min",
            f"  numbers:   {self._look('runs', 'show', handle.uid)}",
            f"  curve:     {self._look('plot', handle.uid)}",
            f"  files:     {folder}",
        ]
        if self._has_checkpoint():
            lines += [
                f"  evaluate:  {self._evaluate(folder)}",
                f"  go on:     {self._resume(self._longer())}",
            ]
        return "\n".join(lines)

    def after_stop(self, now: str, stopped: BaseException) -> str:
        """How a run that was stopped, or that stopped itself, can be taken up."""
        uid = self._handle.uid
        if not self._has_checkpoint():
            return f"run {uid} stopped at {now} without a checkpoint, so it cannot be resumed."
        if isinstance(stopped, DivergedError):
            change = self._resume("lr=SMALLER")
            return f"run {uid} diverged at {now}; its last checkpoint with other settings: {change}"
        return f"run {uid} stopped at {now}; go on with: {self._resume()}"

    def _work(self) -> str:
        trainer = self._start.trainer
        updates = f"{trainer.n_updates} updates"
        return (
            updates
            if trainer.unit == "update"
            else f"{trainer.t_env} {trainer.unit}s and {updates}"
        )

    def _longer(self) -> str:
        run = self._start.trainer.run_config
        return f"{run.phase}.t_max={2 * run.t_max}" if run.phase else f"t_max={2 * run.t_max}"

    def _has_checkpoint(self) -> bool:
        return (self._handle.directory / "checkpoints" / "latest").exists()

    def _look(self, *words: str) -> str:
        return _line(*words, *(["--results", self._results] if self._elsewhere else []))

    def _evaluate(self, folder: Path) -> str:
        return _line("evaluate", str(folder), *(["with", *self._plugins] if self._plugins else []))

    def _resume(self, *words: str) -> str:
        where = [f"local_results_path={self._results}"] if self._elsewhere else []
        return _line("with", f"resume={self._handle.uid}", *words, *where, *self._plugins)


def _line(*words: str) -> str:
    return " ".join([program(), *map(shlex.quote, words)])


def program() -> str:
    """The words that start this program again from here, as the user started it."""
    script = Path(sys.argv[0])
    if script.name != "main.py":
        return "phalanx"
    return shlex.join([str(_shown(Path(sys.executable))), str(_shown(script))])


def _shown(path: Path) -> Path:
    """The path as seen from the working directory, where it is below it."""
    absolute = path if path.is_absolute() else Path.cwd() / path
    return absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute


class _Tracker:
    """Sends the loop's numbers to the record and to the screen.

    It is made before there is a record: what may fail is tried first.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.watch: Callable[[int, Mapping[str, float]], None] | None = None
        self._handle: RunHandle | None = None
        self._logger = Logger()

    def record_into(self, handle: RunHandle) -> None:
        """From here on there is a record."""
        self._handle, self._logger = handle, Logger(handle.log_scalar)

    def log_many(self, metrics: Mapping[str, float], t_env: int, prefix: str = "") -> None:
        self._logger.log_many(metrics, t_env, prefix)
        if self.watch is not None and prefix == "test_":
            self.watch(t_env, metrics)

    def update(self, t_env: int, n_updates: int) -> None:
        self.console.update(t_env, n_updates)

    def report(self, t_env: int, split: Mapping[str, float]) -> None:
        self.console.report(t_env, self._logger.latest(), split)

    def flush(self) -> int | None:
        return None if self._handle is None else self._handle.flush()


def evaluate(checkpoint: Path, out: Path | None, updates: Sequence[str]) -> int:
    """Play a checkpoint and print what came out; returns the exit status."""
    opened, composed = open_run(checkpoint, updates)
    out = out or home(opened.folder) / "evaluation.csv"
    means = evaluate_checkpoint(opened.folder, composed, composed.run.test_nepisode, out)
    numbers: dict[str, Any] = {k: round(v, 4) for k, v in means.items()}
    print(f"{composed.run.test_nepisode} episodes of {task_name(composed.nested())}: {numbers}")
    print(f"one row per episode: {out}")
    if composed.run.save_video:
        print(f"films and their traces: {film_folder(out)}")
    return 0


def open_run(
    run: Path, updates: Sequence[str], which: str | int = "latest"
) -> tuple[Checkpoint, Composed]:
    """A run's checkpoint, without its replay, and its config with ``updates`` on top.

    Args:
        run: number, name, uid or folder of a run, or a checkpoint's folder.
        updates: ``KEY=VALUE`` words.
        which: the checkpoint's name within a run, or its step.

    Raises:
        CheckpointError: there is none, or none that is whole, or it names code that nobody here says may run.
        TrackingError: there is no such run.
    """
    words = _Words(updates)
    try:
        path = find_checkpoint(run)
    except CheckpointError as fault:
        try:
            run = _run_folder(words.results, str(run))
        except TrackingError:
            if not Path(run).is_dir():
                raise
            raise fault from None  # there is such a folder, and what is wrong with it is known
        path = find_checkpoint(run)
    if isinstance(which, int):
        path = checkpoint_of_step(path, which)
    elif which != "latest" and path.parent.name == "checkpoints":
        path = path.with_name(which)
    opened = open_checkpoint(path, replay=False)
    return opened, _stored(opened, words)


def home(checkpoint: Path) -> Path:
    """The run's folder: what lies in a checkpoint's own is gone once newer ones replace it."""
    return checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint
