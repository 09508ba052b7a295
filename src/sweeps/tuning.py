"""A sweep whose rows come from Optuna, asked for one trial at a time and told what came of it.

A trial is its settings with every tuning seed; its score is the median over them. When all trials have been
told, the best settings are run with test seeds, which are no tuning seeds. Optuna keeps its study in a file
in the sweep's directory, so there is no server here either; every look at it is under a lock.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from pydantic import Field

from ..config.routing import Faults, checked
from ..config.sources import Entry
from ..errors import ConfigError, PhalanxError, TrackingError, did_you_mean
from ..locks import FileLock
from ..registry import PartConfig, require
from ..tracking.plots import DEFAULT_METRICS, curve_of
from ..tracking.queries import find_run
from ..tracking.record import SpooledRun
from .claims import DONE, FINAL, PRUNED, Claims, Standing
from .plan import Plan, Settings
from .rows import Candidate, Row, composed_seeds, words_of
from .scores import LAST_TESTS
from .table import Table, write_table

JOURNAL = "tune.journal"
_PATIENCE = 120.0
"""Seconds to wait for others to be done with the study."""


class Tune(PartConfig):
    """The section ``tune`` of a sweep's file."""

    space: dict[str, Any] = Field(
        description="key: a list of choices, or {low, high} with log or step"
    )
    trials: int = Field(ge=1, description="settings to try")
    test_seeds: int | list[int] = Field(5, description="how many, or which, for the best settings")
    metric: str = Field("", description="default: test win rate, else test return")
    direction: Literal["maximize", "minimize"] = Field("maximize", description="of the metric")
    sampler: Literal["tpe", "random"] = Field("tpe", description="how settings are chosen")
    pruner: Literal["median", "halving", "none"] = Field(
        "median", description="which trials are ended early"
    )
    startup_trials: int = Field(5, ge=0, description="trials before anything is learnt or pruned")
    warmup_tests: int = Field(2, ge=0, description="tests of a run before it may be pruned")
    seed: int = Field(0, ge=0, description="of the choice of settings")


class PrunedError(KeyboardInterrupt):
    """A run's trial has no prospect; its record says PRUNED."""

    STATUS = PRUNED.upper()  # what Sacred puts on record


def tune_of(plan: Plan) -> Tune:
    """The section, checked.

    Raises:
        ConfigError: something in it is wrong, or does not go with the rest of the plan.
    """
    faults = Faults()
    given = dict(plan.tune or {})
    keys = list(Tune.model_fields)
    for key in given.keys() - set(keys):
        faults.append(
            f"{plan.origin}: unknown key tune.{key}.{did_you_mean(key, keys)} It has: {', '.join(keys)}."
        )
    values = {
        f"tune.{key}": Entry(f"tune.{key}", value, plan.origin) for key, value in given.items()
    }
    tune: Tune = checked(Tune, "tune.", values, faults)
    faults.raise_if_any()
    if not tune.space:
        raise ConfigError(f"{plan.origin}: tune.space is empty: it has the keys to look for")
    if len(list(plan.combinations())) > 1:
        raise ConfigError(
            f"{plan.origin}: `tune` looks for one best setting, so there can be no `grid` or `list` beside it"
        )
    both = set(test_seeds(plan, tune)) & set(plan.seeds)
    if both:
        raise ConfigError(
            f"{plan.origin}: test_seeds has the tuning seeds {sorted(both)}: what was tuned on cannot test"
        )
    for key, spec in tune.space.items():
        _distribution(key, spec, plan.origin)
    return tune


def test_seeds(plan: Plan, tune: Tune) -> list[int]:
    """Seeds for the best settings: as listed, or so many above the tuning seeds."""
    if isinstance(tune.test_seeds, list):
        return tune.test_seeds
    first = max(plan.seeds) + 1
    return list(range(first, first + tune.test_seeds))


def corners(plan: Plan, tune: Tune) -> list[Candidate]:
    """Settings at the ends of the space, composed to see that they can be.

    Raises:
        ConfigError: one cannot.
    """
    ends = {
        key: spec if isinstance(spec, list) else [spec["low"], spec["high"]]
        for key, spec in tune.space.items()
    }
    found: list[Candidate] = []
    for i in range(max(map(len, ends.values()))):
        settings = _base(plan) | {k: values[min(i, len(values) - 1)] for k, values in ends.items()}
        try:
            found += composed_seeds(plan, settings, plan.seeds[:1], i)
        except PhalanxError as error:
            shown = " ".join(words_of(settings, plan.tuned))
            raise ConfigError(
                f"{plan.origin}: in `tune`, {shown} cannot be run: {error}"
            ) from error
    return found


def advance(table: Table) -> tuple[Table, bool]:
    """Tell Optuna of trials that have ended, and add the rows of the next one, or of the test.

    Called when no row is free.

    Returns:
        The table, and whether there are more rows to come than it has.
    """
    plan, tune = table.plan, tune_of(table.plan)
    with _study(table, tune) as study:
        _settle(table, study, tune)
        space = {key: _distribution(key, spec, plan.origin) for key, spec in tune.space.items()}
        open_trials = [trial for trial in study.trials if not trial.state.is_finished()]
        # A process may have died between asking for a trial and writing its rows.
        rowless = [trial for trial in open_trials if len(_rows_of(table, trial)) < len(plan.seeds)]
        if not rowless and len(study.trials) < tune.trials:
            rowless = open_trials = [study.ask(space)]
        for trial in rowless:
            settings = _base(plan) | trial.params
            table = _with_rows(table, composed_seeds(plan, settings, plan.seeds, trial.number))
        if not open_trials:
            table = _with_test(table, study, tune)
        return table, bool(open_trials)


def _base(plan: Plan) -> Settings:
    (settings,) = plan.combinations()
    return settings


def _with_test(table: Table, study: Any, tune: Tune) -> Table:
    plan = table.plan
    if all(trial.state.name != "COMPLETE" for trial in study.trials):
        return table  # every one failed
    settings = _base(plan) | study.best_trial.params
    seeds = test_seeds(plan, tune)
    return _with_rows(table, composed_seeds(plan, settings, seeds, tune.trials))


def _with_rows(table: Table, found: list[Candidate]) -> Table:
    written, _ = write_table(table.directory, table.plan, found)
    return written


def _settle(table: Table, study: Any, tune: Tune) -> None:
    """Tell the trials whose rows have all ended."""
    optuna = _optuna()
    standings = Claims(table.directory, table.stale_after).standings()
    for trial in study.trials:
        if trial.state.is_finished():
            continue
        rows = _rows_of(table, trial)
        ends = [standings.get(row.number, Standing()).end for row in rows]
        if len(rows) < len(table.plan.seeds) or not all(end in FINAL for end in ends):
            continue
        curves = {row.number: _curve(table, row, tune.metric) for row in rows}
        running = optuna.trial.Trial(study, trial._trial_id)
        for step, value in _medians(curves.values()).items():
            running.report(value, step)
        finals = [
            float(np.mean(list(curves[row.number].values())[-LAST_TESTS:]))
            for row, end in zip(rows, ends, strict=True)
            if end == DONE and curves[row.number]
        ]
        if PRUNED in ends:
            study.tell(trial.number, state=optuna.trial.TrialState.PRUNED)
        elif len(finals) * 2 > len(rows):
            study.tell(trial.number, float(np.median(finals)))
        else:
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)


def watcher(table: Table, row: Row) -> Callable[[int, Mapping[str, float]], None] | None:
    """What is told of each test of a row's run, and ends it where its trial has no prospect."""
    if table.plan.tune is None or is_test(table, row):
        return None
    tune, interval = tune_of(table.plan), _interval(table, row)
    own = _curve(table, row, tune.metric)  # of before, where the run goes on

    def watch(t_env: int, metrics: Mapping[str, float]) -> None:
        name = _chosen(tune.metric, [f"test_{key}" for key in metrics])
        if name is None:
            return
        own[_number(t_env, interval)] = metrics[name.removeprefix("test_")]
        if len(own) <= tune.warmup_tests:
            return
        with _study(table, tune) as study:
            if _hopeless(table, study, tune, row, own):
                raise PrunedError

    return None if tune.pruner == "none" else watch


def _hopeless(table: Table, study: Any, tune: Tune, row: Row, own: Mapping[int, float]) -> bool:
    """Whether a trial is to be given up, by the median over those of its seeds that have come so far."""
    open_trials = [trial for trial in study.trials if not trial.state.is_finished()]
    trial = next((t for t in open_trials if row in _rows_of(table, t)), None)
    if trial is None:
        return False
    rows = _rows_of(table, trial)
    standings = Claims(table.directory, table.stale_after).standings()
    if any(standings.get(other.number, Standing()).end == PRUNED for other in rows):
        return True
    curves = [own if other == row else _curve(table, other, tune.metric) for other in rows]
    so_far = copy.deepcopy(trial)
    so_far.intermediate_values = {n: v for n, v in _medians(curves).items() if n <= max(own)}
    return bool(study.pruner.prune(study, so_far))


def prune_others(table: Table, row: Row) -> None:
    """End the rows of a pruned row's trial that nobody has begun."""
    claims = Claims(table.directory, table.stale_after)
    standings = claims.standings()
    for other in table.rows:
        standing = standings.get(other.number, Standing())
        if other.group == row.group and standing.free:
            hold = claims.take(other.number, standing, 0)
            if hold is not None:
                with hold:
                    hold.end(PRUNED)


def trials(table: Table) -> list[dict[str, Any]]:
    """Number, state, score and settings of every trial, the best first."""
    tune = tune_of(table.plan)
    with _study(table, tune) as study:
        sign = -1 if tune.direction == "maximize" else 1
        rows = [
            {
                "trial": t.number,
                "state": t.state.name.lower(),
                "score": t.value,
                **t.params,
            }
            for t in study.trials
        ]
    return sorted(
        rows,
        key=lambda r: (r["state"] != "complete", sign * (r["score"] or 0.0)),
    )


def is_test(table: Table, row: Row) -> bool:
    """Whether a row tests the best settings."""
    return row.seed not in table.plan.seeds


# --- the study ---


@contextmanager
def _study(table: Table, tune: Tune) -> Iterator[Any]:
    """The study, with everybody else kept out."""
    optuna = _optuna()
    lock = FileLock(table.directory / "tune.lock")
    if not lock.acquire(_PATIENCE):
        raise TrackingError(
            f"another process has been busy with {table.directory / JOURNAL} for too long"
        )
    with lock:
        backend = optuna.storages.journal.JournalFileBackend(str(table.directory / JOURNAL))
        study = optuna.create_study(
            storage=optuna.storages.JournalStorage(backend),
            study_name=table.name,
            direction=tune.direction,
            pruner=_pruner(optuna, tune),
            load_if_exists=True,
        )
        # Each process has a sampler of its own: with one seed they would all ask for the same.
        study.sampler = _sampler(optuna, tune, len(study.trials))
        yield study


def _optuna() -> Any:
    optuna = require("optuna", "tune", "`tune`")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _sampler(optuna: Any, tune: Tune, asked: int) -> Any:
    seed = int(np.random.SeedSequence([tune.seed, asked]).generate_state(1)[0])
    if tune.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=tune.startup_trials, constant_liar=True
    )


def _pruner(optuna: Any, tune: Tune) -> Any:
    if tune.pruner == "none":
        return optuna.pruners.NopPruner()
    if tune.pruner == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=max(tune.warmup_tests, 1))
    return optuna.pruners.MedianPruner(
        n_startup_trials=tune.startup_trials, n_warmup_steps=tune.warmup_tests
    )


def _distribution(key: str, spec: Any, origin: str) -> Any:
    """A key's range as Optuna has it.

    Raises:
        ConfigError: it is no range.
    """
    optuna = _optuna()
    expected = (
        f"{origin}: tune.space.{key}={spec!r}: expected a list of choices, or {{low: .., high: ..}}"
    )
    if isinstance(spec, list) and spec:
        if not all(isinstance(choice, bool | int | float | str | None) for choice in spec):
            raise ConfigError(f"{expected}; choices are numbers or words")
        return optuna.distributions.CategoricalDistribution(spec)
    if not isinstance(spec, dict) or not {"low", "high"} <= set(spec) <= {
        "low",
        "high",
        "log",
        "step",
    }:
        raise ConfigError(f"{expected} with log: true or step: ..")
    whole = all(type(spec[end]) is int for end in ("low", "high"))
    kind = "IntDistribution" if whole else "FloatDistribution"
    try:
        return getattr(optuna.distributions, kind)(**spec)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{expected}; {error}") from error


def _rows_of(table: Table, trial: Any) -> list[Row]:
    """Rows of a trial; two trials with the same settings share them."""
    return [row for row in table.rows if row.params == trial.params and not is_test(table, row)]


# --- curves ---


def _chosen(metric: str, there: Iterable[str]) -> str | None:
    known = set(there)
    return next((m for m in ([metric] if metric else DEFAULT_METRICS) if m in known), None)


def _interval(table: Table, row: Row) -> int:
    return int(table.config(row)["test_interval"])


def _number(t_env: float, interval: int) -> int:
    """Number of a test: seeds test at slightly different steps."""
    return round(t_env / interval)


def _curve(table: Table, row: Row, metric: str) -> dict[int, float]:
    """Value of each test of a row's run, as far as it is on disk."""
    folder = table.run_folder(row)
    if SpooledRun.read(folder) is None:
        return {}
    run = find_run(table.results, str(folder))
    name = _chosen(metric, run.metrics())
    if name is None:
        return {}
    try:
        found = curve_of(run, name)
    except TrackingError:  # not one finite point
        return {}
    interval = _interval(table, row)
    return {
        _number(step, interval): value
        for step, value in zip(found.steps, found.values, strict=True)
    }


def _medians(curves: Iterable[Mapping[int, float]]) -> dict[int, float]:
    """Median over the seeds that have a test, by its number.

    >>> _medians([{0: 1.0, 1: 4.0}, {0: 3.0}])
    {0: 2.0, 1: 4.0}
    """
    known = [curve for curve in curves if curve]
    numbers = sorted({number for curve in known for number in curve})
    return {
        number: float(np.median([curve[number] for curve in known if number in curve]))
        for number in numbers
    }
