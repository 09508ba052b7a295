"""Recorded runs in the formats of other tools."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterator, Sequence
from typing import IO, Any

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


def write_csv(runs: Sequence[RunRecord], out: IO[str], metrics: Sequence[str] | None) -> None:
    """Write every point as one row of a CSV file with a header."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    writer.writerows(tidy_rows(runs, metrics))


def marl_eval(
    runs: Sequence[RunRecord], metrics: Sequence[str] | None = None
) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
    """Runs by environment, task, algorithm, seed and evaluation, as ``marl-eval`` reads them.

    The layout is that of Gorsane et al. (2022).
    Evaluations are the points of the ``test_`` metrics, whose prefix is left out. Each list holds one
    value, the mean over the test's episodes. ``absolute_metrics`` is the best of them: it stands in
    for a longer evaluation of the best policy, which Phalanx does not make by itself. Of two runs
    with the same algorithm, task and seed the later one is taken.
    """
    out: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
    for run in runs:
        steps: dict[float, dict[str, Any]] = {}
        best: dict[str, list[float]] = {}
        for name, metric in sorted(run.metrics(metrics).items()):
            if not name.startswith("test_"):
                continue
            short = name.removeprefix("test_")
            for step, value in zip(metric.steps, metric.values, strict=True):
                steps.setdefault(step, {"step_count": int(step)})[short] = [value]
                best[short] = [max([value, *best.get(short, [])])]
        if not steps:
            log.warning("%s has no test metrics to export, left out", run.uid)
            continue
        by_task = out.setdefault(str(run.config.get("env", "")), {})
        seeds = by_task.setdefault(run.task, {}).setdefault(run.name, {})
        seed = f"seed_{run.config.get('seed')}"
        if seed in seeds:
            log.warning("%s %s %s is there twice; taking run %s", run.name, run.task, seed, run.uid)
        ordered = [steps[step] for step in sorted(steps)]
        seeds[seed] = {f"step_{i}": row for i, row in enumerate(ordered, 1)}
        seeds[seed]["absolute_metrics"] = best
    return out


def write_marl_eval(runs: Sequence[RunRecord], out: IO[str], metrics: Sequence[str] | None) -> None:
    """Write :func:`marl_eval` as JSON."""
    json.dump(marl_eval(runs, metrics), out, indent=1)
    out.write("\n")


FORMATS = {"csv": write_csv, "marl-eval": write_marl_eval}
