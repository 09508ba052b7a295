"""The report of a sweep: one page that needs nothing beside it, and its numbers as CSV and for marl-eval."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..errors import TrackingError
from ..tracking.export import write_csv, write_marl_eval
from ..tracking.grouping import Group, differing, group_by_config
from ..tracking.plots import choose_metric, colour_of, draw_curves, new_figure, run_label
from ..tracking.queries import RunRecord, find_run
from ..tracking.record import utc_now
from ..tracking.stats import Array
from .claims import DONE
from .page import Page, svg
from .scores import LAST_TESTS, LEVELS, PROFILE_LEVELS, Estimate, Scores, scores_of
from .status import in_a_line, states
from .table import Table
from .tuning import is_test, trials

BOUNDED = ("test_battle_won_mean",)
"""Metrics that are shares themselves."""
SUMMARY_COLUMNS = (
    *("task", "algorithm", "seeds", "final_iqm", "final_low", "final_high"),
    *("score_iqm", "score_low", "score_high", "area_iqm", "area_low", "area_high"),
    *(f"{what}_{level}" for level in LEVELS for what in ("steps_to", "seeds_that_reached")),
)


def write_report(table: Table, out: Path, metric: str | None = None) -> list[Path]:
    """Write ``report.html``, ``summary.csv``, ``points.csv`` and ``marl_eval.json``; returns their paths.

    Only rows that are done count: a curve that is still growing would cut its group's short.

    Raises:
        TrackingError: no row is done, none has the metric, or the files cannot be written.
        MissingDependencyError: matplotlib is not installed.
    """
    now = states(table)
    tuned = table.plan.tune is not None
    done = [
        find_run(table.results, str(table.run_folder(state.row)))
        for state in now
        if state.phase == DONE and (not tuned or is_test(table, state.row))
    ]
    if not done:
        what = "the best settings are not tested" if tuned else "no row is done"
        raise TrackingError(f"{table.name}: {what} yet, so there is nothing to report")
    chosen, runs = choose_metric(done, metric)
    groups = group_by_config(runs)
    scores = scores_of(groups, chosen, bounded=chosen in BOUNDED)
    facts = [
        in_a_line(table, now),
        f"{chosen}, {len(runs)} runs, {utc_now():%Y-%m-%d %H:%M} UTC, Phalanx {__version__}",
    ]
    texts = {
        "report.html": page_of(table.name, facts, groups, scores, trials(table) if tuned else []),
        "summary.csv": _text(lambda file: summary(file, scores)),
        "points.csv": _text(lambda file: write_csv(runs, file, None)),
        "marl_eval.json": _text(lambda file: write_marl_eval(runs, file, None)),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (out / name).write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise TrackingError(
            f"{out} cannot be written ({error}); name another folder with --out"
        ) from error
    return [out / name for name in texts]


def _text(write: Callable[[io.StringIO], object]) -> str:
    file = io.StringIO(newline="")
    write(file)
    return file.getvalue()


def summary(file: io.StringIO, scores: Scores) -> None:
    """One row per algorithm and task under :data:`SUMMARY_COLUMNS`.

    Steps that most seeds never reached are empty.
    """
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(SUMMARY_COLUMNS)
    for (algorithm, task), cell in scores.cells.items():
        row: list[object] = [task, algorithm, len(cell.curves)]
        for values in (cell.final, cell.scores, cell.areas):
            estimate = cell.estimate(values)
            row += [f"{number:.6g}" for number in (estimate.value, estimate.low, estimate.high)]
        for level in LEVELS:
            steps = cell.steps_to(level)
            middle = float(np.median(steps))
            row += [f"{middle:.0f}" if np.isfinite(middle) else "", int(np.isfinite(steps).sum())]
        writer.writerow(row)


def page_of(
    name: str,
    facts: Sequence[str],
    groups: Sequence[Group],
    scores: Scores,
    tried: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The page as HTML.

    Args:
        name: of the sweep.
        facts: lines below it.
        groups: of seeds.
        scores: of the groups.
        tried: settings that were tried before these, see :func:`.tuning.trials`.
    """
    page = Page(name, facts)
    several = len(scores.tasks) > 1
    page.section("Overall", _overall_note(scores))
    page.table(
        ["algorithm", "tasks", "score, IQM", "over training, IQM"],
        [
            [a, str(len(scores.tasks_of(a))), str(scores.overall(a)), str(scores.overall_area(a))]
            for a in scores.algorithms
        ],
        marked=_best(scores),
    )
    page.section("Curves", "The interquartile mean over seeds and its 95 % bootstrap interval.")
    page.figures(
        [(_curves(groups, task, scores), f"{scores.metric} on {task}") for task in scores.tasks]
    )
    page.section("Final", _final_note(scores))
    page.table(["algorithm", *scores.tasks], _by_task(scores, lambda c: str(c.estimate(c.final))))
    page.section(
        "Sample efficiency",
        "Environment steps until a test first reached this share of the best, the median over seeds, and how "
        "many seeds reached it at all; a dash where half of them or more never did.",
    )
    for task in scores.tasks:
        page.table(
            [f"algorithm on {task}", *(f"{level:.0%}" for level in LEVELS)],
            [
                [a, *(_steps(scores.cells[a, task].steps_to(level)) for level in LEVELS)]
                for a in scores.algorithms
                if (a, task) in scores.cells
            ],
        )
    if len(scores.algorithms) > 1:
        page.section(
            "Probability of improvement",
            "How likely a run of the row scores more than one of the column, averaged over the tasks of "
            "both; ties count half. An interval that holds 0.5 tells neither from the other.",
        )
        page.table(["", *scores.algorithms], _improvements(scores))
    page.section(
        "Performance profiles",
        "The share of runs"
        + (" over all tasks" if several else "")
        + " that score more than a level; a curve above another at every level is better in every quantile.",
    )
    page.figures([(_profiles(scores), "Performance profiles")])
    if tried:
        page.section(
            "Tuning",
            "Settings that were tried, the best first; the score is the median over the tuning seeds. All "
            "other sections are about the best settings with seeds that were not tuned on.",
        )
        page.table(list(tried[0]), [[_shown(value) for value in trial.values()] for trial in tried])
    page.section(
        "What differs", "Keys of the config that are not the same in all algorithms and tasks."
    )
    keys = differing(groups)
    page.table(
        ["algorithm", "task", *(key.rpartition(".")[2] for key in keys)],
        [
            [group.name, group.task, *(str(values[i]) for values in keys.values())]
            for i, group in enumerate(groups)
        ],
    )
    page.section("Runs", "")
    page.table(
        ["run", "algorithm", "task", "seed", "steps", "last"],
        [_run(group, run, scores.metric) for group in groups for run in group.runs],
    )
    return page.html()


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _overall_note(scores: Scores) -> str:
    score = (
        "The score of a run is its final value."
        if scores.metric in BOUNDED
        else "The score of a run is its final value as a share of the way from the least to the greatest "
        "value any run has shown on the task: 0 and 1 are this sweep's own, not those of the game."
    )
    return (
        f"{score} IQM is the interquartile mean over all seeds and tasks, with the 95 % interval of a "
        "bootstrap that draws seeds within each task. Over training: the mean height of the curve."
    )


def _final_note(scores: Scores) -> str:
    seeds = sorted({len(cell.curves) for cell in scores.cells.values()})
    few = (
        " Of three seeds and fewer the interquartile mean is the mean, and an interval is a rough guess."
        if seeds[0] < 4
        else ""
    )
    told = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return (
        f"{scores.metric}, the mean of the last {LAST_TESTS} tests of a run; interquartile mean over "
        f"{told} seeds and its 95 % interval.{few}"
    )


def _best(scores: Scores) -> list[int]:
    """Numbers of the algorithms with the highest score; none where they were not run on the same tasks."""
    if any(scores.tasks_of(a) != scores.tasks for a in scores.algorithms):
        return []
    overall = [scores.overall(a).value for a in scores.algorithms]
    best = [i for i, value in enumerate(overall) if value == max(overall)]
    return best if len(best) < len(overall) else []


def _by_task(scores: Scores, text: Callable[..., str]) -> list[list[str]]:
    return [
        [
            a,
            *(text(scores.cells[a, t]) if (a, t) in scores.cells else "" for t in scores.tasks),
        ]
        for a in scores.algorithms
    ]


def _steps(steps: Array) -> str:
    middle, reached = float(np.median(steps)), int(np.isfinite(steps).sum())
    return f"{f'{middle:,.0f}' if np.isfinite(middle) else '–'} ({reached}/{len(steps)})"


def _improvements(scores: Scores) -> list[list[str]]:
    def cell(better: str, worse: str) -> str:
        found: Estimate | None = scores.improvement(better, worse) if better != worse else None
        return "" if found is None else str(found)

    return [[a, *(cell(a, b) for b in scores.algorithms)] for a in scores.algorithms]


def _curves(groups: Sequence[Group], task: str, scores: Scores) -> str:
    figure, axes = new_figure(6.4, 4.0)
    draw_curves(
        axes,
        {group.name: list(group.runs) for group in groups if group.task == task},
        scores.metric,
        colours=scores.algorithms,
    )
    axes.set_title(task)
    return svg(figure)


def _profiles(scores: Scores) -> str:
    figure, axes = new_figure(6.4, 4.0)
    for number, algorithm in enumerate(scores.algorithms):
        share, low, high = scores.profile(algorithm)
        colour = colour_of(number)
        axes.fill_between(PROFILE_LEVELS, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.plot(PROFILE_LEVELS, share, color=colour, label=algorithm, drawstyle="steps-post")
    axes.set_xlabel("score")
    axes.set_ylabel("share of runs above it")
    axes.set_ylim(-0.02, 1.02)
    axes.grid(alpha=0.3)
    axes.legend()
    return svg(figure)


def _run(group: Group, run: RunRecord, metric: str) -> list[str]:
    last = run.latest.get(metric)
    return [
        run_label(run),
        group.name,
        group.task,
        str(run.config.get("seed")),
        f"{run.steps:,}",
        "" if last is None else f"{last:.3f}",
    ]
