"""The numbers of a report: scores of algorithms on tasks over seeds, as Agarwal et al. (2021) sum them up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..tracking.grouping import Group
from ..tracking.plots import curve_of
from ..tracking.record import Metric
from ..tracking.stats import (
    Array,
    area_under,
    bootstrap_interval,
    interquartile_mean,
    performance_profile,
    pooled_iqm,
    probability_of_improvement,
    steps_to_reach,
    stratified_interval,
)

LAST_TESTS = 5
"""A run's final score is the mean of so many last tests."""
LEVELS = (0.5, 0.8, 0.95)
"""Shares of the best at which sample efficiency is told."""
PROFILE_LEVELS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Cell:
    """One algorithm on one task.

    Attributes:
        curves: of each seed.
        low: the least value of any algorithm on this task; scores are told as shares of low to high.
        high: the greatest.
    """

    curves: Sequence[Metric]
    low: float
    high: float

    @property
    def final(self) -> Array:
        """Final score of each seed, (seeds,), as it was measured."""
        return np.array([np.mean(curve.values[-LAST_TESTS:]) for curve in self.curves])

    @property
    def scores(self) -> Array:
        """Final score of each seed, (seeds,), as a share."""
        return self.share(self.final)

    @property
    def areas(self) -> Array:
        """Mean share over training of each seed, (seeds,)."""
        return np.array([area_under(np.array(c.steps), self._shares(c)) for c in self.curves])

    def steps_to(self, level: float) -> Array:
        """Steps until a test reached a share, (seeds,); infinite where none did."""
        return np.array(
            [steps_to_reach(np.array(c.steps), self._shares(c), level) for c in self.curves]
        )

    def share(self, values: Array) -> Array:
        """Values between the least and the greatest of the task as shares; all 1 where these are one."""
        if self.high == self.low:
            return np.ones_like(values)
        return (values - self.low) / (self.high - self.low)

    def _shares(self, curve: Metric) -> Array:
        return self.share(np.array(curve.values))

    def estimate(self, values: Array) -> Estimate:
        """Interquartile mean over seeds."""
        low, high = bootstrap_interval(values[:, None])
        return Estimate(float(interquartile_mean(values)), float(low[0]), float(high[0]))


@dataclass(frozen=True)
class Scores:
    """Every algorithm on every task.

    Attributes:
        metric: what is compared.
        algorithms: names, in the order of their first run.
        tasks: likewise.
        cells: by algorithm and task, where there are runs.
    """

    metric: str
    algorithms: list[str]
    tasks: list[str]
    cells: dict[tuple[str, str], Cell]

    def strata(self, algorithm: str, tasks: Sequence[str]) -> list[Array]:
        """Scores of an algorithm's seeds on tasks, (seeds,) each."""
        return [self.cells[algorithm, task].scores for task in tasks]

    def tasks_of(self, *algorithms: str) -> list[str]:
        """Tasks that all of these were run on."""
        return [t for t in self.tasks if all((a, t) in self.cells for a in algorithms)]

    def overall(self, algorithm: str) -> Estimate:
        """Interquartile mean of the scores over all seeds and tasks of an algorithm."""
        strata = self.strata(algorithm, self.tasks_of(algorithm))
        low, high = stratified_interval(pooled_iqm, strata)
        return Estimate(float(pooled_iqm(strata)), float(low), float(high))

    def overall_area(self, algorithm: str) -> Estimate:
        """The same of the mean over training."""
        strata = [self.cells[algorithm, task].areas for task in self.tasks_of(algorithm)]
        low, high = stratified_interval(pooled_iqm, strata)
        return Estimate(float(pooled_iqm(strata)), float(low), float(high))

    def improvement(self, better: str, worse: str) -> Estimate | None:
        """Probability that a run of the first scores more than one of the second, over tasks of both."""
        tasks = self.tasks_of(better, worse)
        if not tasks:
            return None
        first, second = self.strata(better, tasks), self.strata(worse, tasks)
        low, high = stratified_interval(
            lambda drawn: probability_of_improvement(drawn[: len(tasks)], drawn[len(tasks) :]),
            [*first, *second],
        )
        return Estimate(float(probability_of_improvement(first, second)), float(low), float(high))

    def profile(self, algorithm: str) -> tuple[Array, Array, Array]:
        """Share of runs above each of PROFILE_LEVELS, and its interval, (L,) each."""
        strata = self.strata(algorithm, self.tasks_of(algorithm))
        low, high = stratified_interval(
            lambda drawn: performance_profile(drawn, PROFILE_LEVELS), strata
        )
        return performance_profile(strata, PROFILE_LEVELS), low, high


def scores_of(groups: Sequence[Group], metric: str, *, bounded: bool) -> Scores:
    """The scores of groups of runs that all have the metric.

    Args:
        groups: of seeds.
        metric: what to compare.
        bounded: it is a share itself, as a win rate is, and stays as it is.
    """
    algorithms = list(dict.fromkeys(group.name for group in groups))
    tasks = list(dict.fromkeys(group.task for group in groups))
    curves = {
        (group.name, group.task): [curve_of(run, metric) for run in group.runs] for group in groups
    }
    cells = {}
    for (algorithm, task), members in curves.items():
        values = [v for (_, t), cs in curves.items() if t == task for c in cs for v in c.values]
        low, high = (0.0, 1.0) if bounded else (min(values), max(values))
        cells[algorithm, task] = Cell(members, low, high)
    return Scores(metric, algorithms, tasks, cells)
