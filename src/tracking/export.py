"""Recorded runs in the formats of other tools."""

from __future__ import annotations

import csv
import json
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from ..errors import TrackingError
from .grouping import group_by_config
from .plots import run_label
from .queries import RunRecord

log = logging.getLogger(__name__)

CSV_COLUMNS = ("run", "uid", "name", "env", "task", "seed", "metric", "step", "value", "time")


def tidy_rows(
    runs: Sequence[RunRecord], metrics: Sequence[str] | None = None
) -> Iterator[tuple[Any, ...]]:
    """One row per point under :data:`CSV_COLUMNS`; ``time`` is UTC in ISO 8601.

    Args:
        runs: whose points.
        metrics: names; None for all.
    """
    for run in runs:
        about = (run.run_id, run.uid, run.name, run.config.get("env"), run.task)
        for name, metric in sorted(run.metrics(metrics).items()):
            points = zip(metric.steps, metric.values, metric.timestamps, strict=True)
            for step, value, time in points:
                yield (*about, run.config.get("seed"), name, step, value, time.isoformat())


def write_csv(runs: Sequence[RunRecord], out: IO[str], metrics: Sequence[str] | None) -> int:
    """Write every point as one row of a CSV file with a header; returns how many runs have any."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    written = 0
    for run in runs:
        rows = list(tidy_rows([run], metrics))
        writer.writerows(rows)
        written += bool(rows)
        if not rows:
            log.warning("%s has no points to export, left out", run_label(run))
    return written


@dataclass
class MarlEval:
    """Runs by environment, task, algorithm, seed and evaluation, as ``marl-eval`` reads them.

    The layout is that of Gorsane et al. (2022).
    Evaluations are the points of the ``test_`` metrics, whose prefix is left out. Each list holds one
    value, the mean over the test's episodes; one that is not finite is null. ``absolute_metrics`` is the best
    of them: it stands in for a longer evaluation of the best policy, which Phalanx does not make by itself.
    Task and algorithm are named so that no two experiments share a name. Of two runs of one experiment with
    the same seed the later one is taken, with a warning.

    Attributes:
        tree: as ``marl-eval`` reads it.
        written: how many runs are in it.
    """

    tree: dict[str, dict[str, dict[str, dict[str, Any]]]]
    written: int


def marl_eval(runs: Sequence[RunRecord], metrics: Sequence[str] | None = None) -> MarlEval:
    """See :class:`MarlEval`."""
    found = MarlEval({}, 0)
    for group in group_by_config(runs):
        for run in group.runs:
            evaluations = _evaluations(run, metrics)
            if evaluations is None:
                log.warning("%s has no test metrics to export, left out", run_label(run))
                continue
            tasks = found.tree.setdefault(str(run.config.get("env", "")), {})
            seeds = tasks.setdefault(group.task, {}).setdefault(group.name, {})
            seed = f"seed_{run.config.get('seed')}"
            if seed in seeds:
                log.warning(
                    "%s of %s, %s is there twice; taking %s",
                    seed,
                    group.name,
                    group.task,
                    run_label(run),
                )
            else:
                found.written += 1
            seeds[seed] = evaluations
    return found


def _evaluations(run: RunRecord, metrics: Sequence[str] | None) -> dict[str, Any] | None:
    """The tests of one run, numbered; None if it has none."""
    steps: dict[float, dict[str, Any]] = {}
    best: dict[str, list[float]] = {}
    for name, metric in sorted(run.metrics(metrics).items()):
        if not name.startswith("test_"):
            continue
        short = name.removeprefix("test_")
        for step, value in zip(metric.steps, metric.values, strict=True):
            finite = math.isfinite(value)
            row = steps.setdefault(step, {"step_count": int(step)})
            row[short] = [value if finite else None]
            if finite:
                best[short] = [max([value, *best.get(short, [])])]
    if not steps:
        return None
    ordered = [steps[step] for step in sorted(steps)]
    return {f"step_{i}": row for i, row in enumerate(ordered, 1)} | {"absolute_metrics": best}


def write_marl_eval(runs: Sequence[RunRecord], out: IO[str], metrics: Sequence[str] | None) -> int:
    """Write :func:`marl_eval` as JSON; returns how many runs are in it.

    Raises:
        TrackingError: none is.
    """
    found = marl_eval(runs, metrics)
    if not found.written:
        asked = "" if metrics is None else f" among {', '.join(metrics)}"
        raise TrackingError(
            f"none of {len(runs)} runs has points of a test metric{asked}; marl-eval takes those of the "
            "test_ metrics, e.g. --metric test_return_mean"
        )
    json.dump(found.tree, out, indent=1, allow_nan=False)
    out.write("\n")
    return found.written


FORMATS = {"csv": write_csv, "marl-eval": write_marl_eval}
