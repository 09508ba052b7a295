"""Recorded runs as pandas tables, for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError, MissingDependencyError
from . import queries
from .export import CSV_COLUMNS, tidy_rows
from .filters import columns, flat, parse_filter, select
from .queries import RunRecord
from .target import DEFAULT_DATABASE, reading_target


def runs(
    *filters: str,
    results: str | Path = "results",
    mongo_url: str | None = None,
    mongo_db: str = DEFAULT_DATABASE,
) -> Any:
    """One row per run as a :class:`pandas.DataFrame`, oldest first.

    Its index is the run's uid. Columns are those of ``phalanx runs``, then ``config.KEY`` and
    ``last.METRIC``, ``min.METRIC`` and ``max.METRIC``.

    Args:
        *filters: conditions such as ``"map_name=MMM2"`` or ``"last.test_return_mean>=10"``.
        results: the results folder.
        mongo_url: where to read; None for what runs in that folder record into, ``none`` for the
            folder alone.
        mongo_db: name of the database.

    Raises:
        MissingDependencyError: pandas is not installed.
        ConfigError: a filter is malformed.
        TrackingError: no run has a filter's key.
    """
    pandas = _pandas()
    rows = {}
    for run in _chosen(filters, results, mongo_url, mongo_db):
        summary = run.info.get("summary", {})
        numbers = {kind: summary.get(kind, {}) for kind in ("last", "min", "max")}
        rows[run.uid] = columns(run) | flat(run.config, "config.") | flat(numbers)
    table = pandas.DataFrame.from_dict(rows, orient="index")
    return table.drop(columns="uid", errors="ignore").rename_axis("uid")


def points(
    *filters: str,
    metrics: Sequence[str] | None = None,
    results: str | Path = "results",
    mongo_url: str | None = None,
    mongo_db: str = DEFAULT_DATABASE,
) -> Any:
    """One row per recorded point: run, name, task, seed, metric, step, value, time (UTC).

    Args:
        *filters: as for :func:`runs`.
        metrics: names of metrics; None for all.
        results: the results folder.
        mongo_url: as for :func:`runs`.
        mongo_db: name of the database.

    Raises:
        MissingDependencyError: pandas is not installed.
        ConfigError: a filter is malformed.
        TrackingError: no run has a filter's key.
    """
    pandas = _pandas()
    chosen = _chosen(filters, results, mongo_url, mongo_db)
    table = pandas.DataFrame(tidy_rows(chosen, metrics), columns=list(CSV_COLUMNS))
    return table.assign(time=pandas.to_datetime(table["time"], format="ISO8601"))


def _chosen(
    filters: Sequence[str], results: str | Path, mongo_url: str | None, mongo_db: str
) -> list[RunRecord]:
    conditions = []
    for word in filters:
        condition = parse_filter(word)
        if condition is None:
            raise ConfigError(f"filter {word!r}: expected KEY=VALUE, or another of != < <= > >= ~")
        conditions.append(condition)
    folder = Path(results)
    target = reading_target(mongo_url=mongo_url, results_dir=folder, database=mongo_db)
    return select(queries.runs(folder, target), conditions)


def _pandas() -> Any:
    try:
        import pandas
    except ImportError:
        raise MissingDependencyError(
            "tables need pandas; install it: pip install -e '.[pandas]'"
        ) from None
    return pandas
