"""One run as a Sacred experiment: recorded on disk, mirrored to MongoDB, ended properly."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .. import __version__
from ..errors import ConfigError, TrackingError
from .absent import absent
from .claim import Claim, claim_new
from .identity import config_digest, task_name
from .output import Output
from .plain import plain, plain_scalar
from .provenance import git_state, versions
from .record import RUNS_FOLDER, Position, SpooledRun, read_mark, whole_output
from .server import INSTALL_HINT
from .sources import imported_sources
from .target import DEFAULT_DATABASE, NO_DATABASE, URL_VARIABLE, choose_target, redact

try:
    # Sacred imports pandas where it is installed, for two seconds of CPU, to store frames in configs.
    with warnings.catch_warnings(), absent("pandas"):
        warnings.simplefilter("ignore")  # pkg_resources is deprecated, and Sacred cannot do without
        from sacred import SETTINGS, Experiment
        from sacred.run import Run
except ModuleNotFoundError as missing:
    if missing.name != "pkg_resources":
        raise
    raise TrackingError(
        "Sacred needs the module pkg_resources, which this version of setuptools no longer has. "
        "Try: pip install 'setuptools>=77.0.3,<82'"
    ) from None

from .feed import Feed
from .mirror import Mirror
from .sinks.base import About, Sink
from .spool import Spool
from .sync import run_directories, say_repeat

log = logging.getLogger(__name__)

BEAT_SECONDS = 10.0
UNOBSERVED_FOLDER = "unobserved"
# How long the end of a run waits for a disk that does not take its last points.
DISK_SECONDS = 10.0


class RunHandle:
    """What the body of a run sees of its record."""

    def __init__(
        self, run: Run, directory: Path, spool: Spool | None, mirror: Mirror | None
    ) -> None:
        self._run, self._spool, self._mirror = run, spool, mirror
        self._has_result = False
        self.uid = directory.name
        """The run's name for good, also that of its folder."""
        self.directory = directory
        """The run's folder; checkpoints belong here."""
        self.info: dict[str, Any] = run.info
        """Facts about the run, stored at each beat: plain values by name."""

    @property
    def run_id(self) -> int | str:
        """The run's number in the database; its uid as long as it has none."""
        number = None if self._mirror is None else self._mirror.run_id
        return self.uid if number is None else number

    def log_scalar(self, name: str, value: Any, step: int) -> None:
        """Record one point of a metric."""
        self._run.log_scalar(name, plain_scalar(value), int(step))

    def flush(self) -> int | None:
        """Write what was recorded so far to disk now, not at the next beat.

        Returns:
            How far the record has come, for :class:`~.record.Position`; None if the disk did not take it all.
        """
        # Sacred has no public call for a beat out of turn.
        self._run._emit_heartbeat()
        return 0 if self._spool is None else self._spool.recorded()

    def add_artifact(self, path: Path, name: str | None = None) -> None:
        """Store a copy of a file with the run, in place of an earlier one of that name."""
        self._run.add_artifact(str(path), name or Path(path).name)

    def set_result(self, result: Any) -> None:
        """Record the outcome in place of what the body returns; runs sort by a single number."""
        self._has_result = True
        self._run.result = plain(result)

    def final_result(self, returned: Any) -> Any:
        """What goes on record as the outcome, given what the body returned."""
        return self._run.result if self._has_result else plain(returned)


class _Experiment(Experiment):  # type: ignore[misc]
    """Sacred's experiment with sources and git state of this package.

    Sacred's own search opens the repository once per source file: minutes, in a large one.
    """

    def _create_run(self, *arguments: Any, **options: Any) -> Run:
        run = super()._create_run(*arguments, **options)
        beat, turn = run._emit_heartbeat, threading.Lock()

        # Sacred's thread may hold points that it has taken but not yet handed on; who asks for a beat to
        # have all on disk must wait for it.
        def one_at_a_time() -> None:
            with turn:
                beat()

        run._emit_heartbeat = one_at_a_time
        return run

    def get_experiment_info(self) -> dict[str, Any]:
        package = __name__.split(".")[0]
        root = Path(__file__).resolve().parents[1]
        git = git_state(root)
        found = versions(__version__)
        return {
            "name": self.path,
            "base_dir": str(root),
            "sources": [list(source) for source in imported_sources(package, root)],
            "dependencies": [
                f"{k}=={v}" for k, v in found.items() if k not in ("python", "phalanx")
            ],
            "repositories": [] if git is None else [git],
            "mainfile": "main.py",
        }


def run_experiment(
    main: Callable[[RunHandle], Any],
    *,
    name: str,
    config: Mapping[str, Any],
    results_dir: Path,
    sacred_options: Sequence[str] = (),
    mongo_url: str | None = None,
    mongo_db: str = DEFAULT_DATABASE,
    claim: Claim | None = None,
    since: Position | None = None,
    sinks: Mapping[str, Sink] = MappingProxyType({}),
    sink_project: str = "phalanx",
) -> Any:
    """Run ``main`` as one recorded run and return what it returns.

    Neither the start nor the course nor the end of the run depends on the database: see
    :class:`~.mirror.Mirror`.

    Args:
        main: the body of the run.
        name: name of the experiment.
        config: the composed, nested config.
        results_dir: runs are recorded in ``<results_dir>/runs/<uid>``.
        sacred_options: command line options of Sacred's, e.g. ``["-c", "a comment"]``.
        mongo_url: the user's MongoDB; ``none`` for no database at all.
        mongo_db: name of the database.
        claim: the folder to record in, that of an earlier run to go on with under its number, or one whose
            name is settled; released at the end.
        since: the checkpoint it continues from; points recorded after it are dropped.
        sinks: what gets its points besides, by name.
        sink_project: what they file it under.

    Raises:
        ConfigError: an option or address is wrong.
        TrackingError: nothing can be written, or the disk did not take all of the run in the end.
        Exception: whatever ``main`` raises, after it is on record.
    """
    with contextlib.ExitStack() as ending:
        if claim is not None:
            ending.callback(claim.release)
        experiment = _build(name, plain(config))
        options = _parse_options(experiment, list(sacred_options))
        target = choose_target(
            mongo_url=mongo_url,
            results_dir=results_dir,
            database=mongo_db,
            sacred_address=options.pop("--mongo_db", None),
        )
        resumed = claim is not None and claim.resumed
        unobserved = bool(options.get("--unobserved"))
        if claim is None or unobserved:
            folder = UNOBSERVED_FOLDER if unobserved else RUNS_FOLDER
            claim = claim_new(results_dir.absolute() / folder)
            ending.callback(claim.release)
        directory = claim.directory
        digest = config_digest(config)
        meta = {
            "uid": claim.uid,
            "config_digest": digest,
            "options": {k: redact(v) if isinstance(v, str) else v for k, v in options.items()},
        }
        output = Output(whole_output(directory) if resumed else "")
        unwanted = target is None and NO_DATABASE in (mongo_url, os.environ.get(URL_VARIABLE))
        spool = None if unobserved else Spool(directory, output, deliver=not unwanted)
        mirror = None if spool is None or target is None else Mirror(target, spool)
        experiment.observers += [observer for observer in (spool, mirror) if observer is not None]
        if spool is not None:
            about = About(
                uid=claim.uid,
                name=name,
                task=task_name(config),
                project=sink_project,
                folder=directory,
                config=plain(config),
                resumed=resumed,
            )
            experiment.observers += [Feed(n, sink, about, spool) for n, sink in sinks.items()]
        if spool is not None and resumed:
            spool.take_up(since or Position(0))
        elif spool is not None:
            _warn_of_repeats(results_dir, digest, apart_from=claim.uid)
        if spool is not None and target is None and not unwanted:
            _say_spool_only(directory)
        returned: list[Any] = []

        def train(_run: Run) -> Any:
            handle = RunHandle(_run, directory, spool, mirror)
            try:
                returned.append(main(handle))
            finally:
                handle.flush()  # Sacred waits only two seconds for the last beat
            return handle.final_result(returned[0])

        experiment.main(train)
        experiment.captured_out_filter = output.sacred_filter
        info = _resumed_info(directory, config) if resumed else _fresh_info(config)
        try:
            _run(experiment, output, info, meta, options)
        except BaseException:
            if spool is not None and (lost := _lost(spool, mirror, patience=0.0)):
                log.error("%s", lost)
            raise
        else:
            lost = None if spool is None else _lost(spool, mirror, patience=DISK_SECONDS)
        finally:
            if mirror is not None:  # whatever is on its way to the database belongs to the run
                mirror.then(ending.pop_all().close)
        if lost is not None:
            raise TrackingError(lost)
        return returned[0] if returned else None


def _run(
    experiment: _Experiment,
    output: Output,
    info: dict[str, Any],
    meta: dict[str, Any],
    options: dict[str, Any],
) -> None:
    own_capture = options.get("--capture") is None
    before, SETTINGS.CAPTURE_MODE = SETTINGS.CAPTURE_MODE, "no"
    try:
        with output.capture() if own_capture else contextlib.nullcontext():
            experiment.run("train", info=info, meta_info=meta, options=options)
    except Exception:
        if options.get("--pdb"):
            import pdb

            pdb.post_mortem()
        raise
    finally:
        SETTINGS.CAPTURE_MODE = before


def _lost(spool: Spool, mirror: Mirror | None, *, patience: float) -> str | None:
    """What is lost of a run because its disk did not take it to the end; None if nothing is."""
    if spool.close(patience):
        return None
    lacks = f"the folder {spool.directory} lacks {spool.missing()}, as it cannot be written ({spool.trouble})"
    if mirror is not None and mirror.took_end:
        log.warning(
            "%s. The database has all of it as run %s; do not delete it there.",
            lacks,
            mirror.run_id,
        )
        return None
    return (
        f"{lacks}. No database has that either: it is lost. Make room, then go on from the last checkpoint "
        f"(resume={spool.directory.name}), which makes again what came after it."
    )


def _build(name: str, config: dict[str, Any]) -> _Experiment:
    discovery = SETTINGS.DISCOVER_SOURCES, SETTINGS.DISCOVER_DEPENDENCIES
    SETTINGS.DISCOVER_SOURCES = SETTINGS.DISCOVER_DEPENDENCIES = "none"
    try:
        experiment = _Experiment(name, interactive=True, save_git_info=False)
    finally:
        SETTINGS.DISCOVER_SOURCES, SETTINGS.DISCOVER_DEPENDENCIES = discovery
    # Without a logger of its own Sacred configures the root logger, that is everybody's.
    experiment.logger = logging.getLogger(f"{__name__.split('.')[0]}.sacred")
    experiment.logger.setLevel(logging.WARNING)
    experiment.add_config(config)
    return experiment


def _parse_options(experiment: _Experiment, words: list[str]) -> dict[str, Any]:
    """Sacred's options by long name, parsed by Sacred's own grammar."""
    from docopt import DocoptExit, docopt

    _, usage, grammar = experiment.get_usage("phalanx")
    try:
        parsed = dict(docopt(grammar, words, default_help=False))
    except DocoptExit:
        shown = " ".join("***" if {"@", ":"} & set(word) else word for word in words)
        raise ConfigError(
            f"Sacred does not understand {shown!r}; `phalanx --help` lists the options"
        ) from None
    if parsed.pop("--help", False):
        print(usage)
        raise SystemExit(0)
    options = {key: value for key, value in parsed.items() if key.startswith("--")}
    if options.get("--id") is not None:
        options["--id"] = _whole_number("--id", options["--id"])
    beat = options.get("--beat-interval")
    if beat is None:
        options["--beat-interval"] = BEAT_SECONDS
    elif not _is_positive(beat):
        raise ConfigError(f"--beat-interval {beat!r}: expected a number of seconds above 0")
    return options


def _whole_number(option: str, text: str) -> int:
    if not text.isdigit():
        raise ConfigError(f"{option} {text!r}: run ids in the database are whole numbers")
    return int(text)


def _is_positive(text: str) -> bool:
    try:
        return 0 < float(text) < float("inf")
    except ValueError:
        return False


def _fresh_info(config: Mapping[str, Any]) -> dict[str, Any]:
    info: dict[str, Any] = {"versions": versions(__version__), "task": task_name(config)}
    git = git_state(Path(__file__).resolve().parents[1])
    if git is not None:
        info["git"] = git
    return info


def _resumed_info(directory: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    recorded = SpooledRun.read(directory)
    return {**({} if recorded is None else recorded.info), **_fresh_info(config)}


def _warn_of_repeats(results_dir: Path, digest: str, *, apart_from: str) -> None:
    for directory in run_directories(results_dir):
        recorded = SpooledRun.read(directory) if directory.name != apart_from else None
        if recorded is not None and recorded.run["meta"].get("config_digest") == digest:
            number = read_mark(directory).get("run_id")
            say_repeat(directory.name if number is None else f"{number}", recorded.run["status"])


def _say_spool_only(directory: Path) -> None:
    log.warning(
        "no database: this run is recorded in %s only. Set %s, or %s; "
        "`phalanx sync` then delivers it.",
        directory,
        URL_VARIABLE,
        INSTALL_HINT,
    )
