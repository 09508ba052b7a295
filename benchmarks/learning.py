"""Learning curves: train every (algorithm, task, seed) of a suite and keep curve, config and plot.

    python benchmarks/learning.py train --suite 3m --jobs 2
    python benchmarks/learning.py plot --suite 3m

Results go to results/benchmarks/learning/<suite>/: one CSV per run, one JSON per algorithm and task with
the composed config, curves.png and table.md. A run that has its CSV is not repeated; one that was cut
off goes on from its last checkpoint.

What is reported of a run is fixed before any is made: the mean of its last five tests, and the area
under its curve of tests (the mean height over its steps). Over seeds: interquartile mean and its
bootstrap interval.

The suites ``offline`` and ``online`` learn from what `benchmarks/tiers.py` records.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from phalanx.tracking.record import Metric
from phalanx.tracking.stats import bootstrap_interval, interquartile_mean, on_common_steps

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "results" / "benchmarks" / "learning"
RUNS = ROOT / "results" / "learning"
DATASETS = ROOT / "results" / "datasets"
WHAT_THEY_HOLD = ROOT / "results" / "benchmarks" / "datasets.json"
COLUMNS = ("test_return_mean", "test_ep_length_mean")


@dataclass(frozen=True)
class Task:
    """What is learnt, as words of the command line, and what of it is judged.

    Attributes:
        tier: name of the dataset that is learnt from; none where the algorithm plays.
    """

    env_config: str
    words: tuple[str, ...]
    metric: str
    measure: str
    tier: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """Metrics that are kept, the judged one first."""
        return tuple(dict.fromkeys((self.metric, *COLUMNS)))

    @property
    def won(self) -> bool:
        """Whether a share between 0 and 1 is judged."""
        return self.metric.endswith("_won_mean")

    @property
    def unit(self) -> str:
        """What the clock of its runs counts."""
        return "updates" if self.tier else "environment steps"

    @cached_property
    def played(self) -> dict[str, float]:
        """What those who made the dataset came to, by metric; nothing where there is none."""
        if not self.tier:
            return {}
        found = json.loads(WHAT_THEY_HOLD.read_text(encoding="utf-8"))[self.tier]
        won, length = found["outcomes"]["battle_won"], found["lengths"]["mean"]
        return dict(
            zip((self.metric, *COLUMNS), (won, found["returns"]["mean"], length), strict=True)
        )


RETURN = ("test_return_mean", "test return")
TASKS = {
    "simple_spread": Task("mpe", ("key=simple_spread_v3",), *RETURN),
    "HalfCheetah_6x1": Task("mamujoco", ("scenario=HalfCheetah", "agent_conf=6x1"), *RETURN),
}
"""Tasks by the name they have in suites; any other name is a map of the battle engine, or a dataset recorded
there (``3m/medium``)."""


@dataclass(frozen=True)
class Case:
    """One training run of a suite."""

    algorithm: str
    task_name: str  # one of TASKS, a map of the battle engine, or a dataset
    seed: int
    t_max: int
    words: tuple[str, ...] = ()
    label: str = ""

    @property
    def task(self) -> Task:
        """What is learnt."""
        battle_map, _, level = self.task_name.partition("/")
        words, tier = ("map_name=" + battle_map, "engine=embedded"), ""
        if level:
            words, tier = (*words, f"dataset={DATASETS / self.task_name}"), self.task_name
        return TASKS.get(self.task_name) or Task(
            "sc2", words, "test_battle_won_mean", "test win rate", tier
        )

    @property
    def name(self) -> str:
        """Name of the line in the plot: the algorithm and what sets it apart in its suite."""
        return f"{self.algorithm}_{self.label}" if self.label else self.algorithm

    @property
    def stem(self) -> str:
        """File name without ending."""
        return f"{self.of_all_seeds}-seed{self.seed}"

    @property
    def of_all_seeds(self) -> str:
        """The same without the seed."""
        return f"{self.name}-{self.task_name.replace('/', '_')}"


PYMARL = ("optim=rmsprop", "lr=0.0005")  # PyMARL's optimiser; the shipped configs use Adam at 0.001


VDFD_MAPS = ("3s_vs_3z", "8m_vs_9m")
"""Where VDFD is compared, the first also with its ablations: chosen by the suite ``scout``."""


def pace(steps: int) -> str:
    """Environment steps per gradient update, as a word of the command line."""
    return f"env_steps_per_update={steps}"


def passes_of_three(algorithm: str) -> tuple[str, ...]:
    """Five passes over each batch in three minibatches; HAPPO's critic makes its own passes."""
    words = ("ppo_epoch=5", "num_mini_batch=3")
    return (*words, "critic_epoch=5") if algorithm == "happo" else words


LEARNT_FROM = tuple(
    f"{m}/{t}" for m in ("3m", "3s_vs_3z") for t in ("training", "medium", "expert")
)
"""Datasets of the suite ``offline``."""

SUITES: dict[str, list[Case]] = {
    # VDFD's updates are dear: it gets half as many for the same environment steps, and more of these.
    "3m": [
        *(Case("vdfd", "3m", s, 200_000, (pace(32),)) for s in (0, 1, 2)),
        *(Case(a, "3m", s, 100_000, (pace(16),)) for s in (0, 1, 2) for a in ("qmix", "vdn")),
    ],
    # Equal pace for both, so that steps and updates compare at once.
    "8m_2s3z": [
        Case(a, m, 0, 300_000, (pace(32),)) for a in ("qmix", "vdfd") for m in ("8m", "2s3z")
    ],
    # Which maps tell algorithms apart: neither solved nor hopeless at the end.
    "scout": [
        Case("qmix", m, 9, 100_000, (pace(32),))
        for m in ("3s_vs_3z", "5m_vs_6m", "MMM", "3s5z", "8m_vs_9m", "3s_vs_4z")
    ],
    # VDFD's paper: its comparison, its ablations, controls of what its context does, and its loss weights.
    # COMA learns on-policy, once from every eight episodes; all others once per 32 steps.
    "vdfd": [
        Case(a, m, s, 300_000, () if a == "coma" else (pace(32),))
        for s in (0, 1, 2)
        for m in VDFD_MAPS
        for a in ("qmix", "vdfd", "vdn", "qtran", "iql", "coma")
    ],
    "vdfd_ablations": [
        Case(a, VDFD_MAPS[0], s, 200_000, (pace(32),))
        for s in (0, 1)
        for a in ("vdfd_no_ac", "vdfd_no_af", "vdfd_no_st", "vdf_sv", "vdf_post")
    ],
    "vdfd_controls": [
        Case(a, VDFD_MAPS[0], s, 200_000, (pace(32),))
        for s in (0, 1)
        for a in ("vdfd_random_context", "vdfd_constant_context", "qmix_wide")
    ],
    "vdfd_MMM2": [Case(a, "MMM2", 0, 300_000, (pace(32),)) for a in ("qmix", "vdfd")],
    "vdfd_weights": [
        Case("vdfd", "3m", 10, 80_000, (pace(32), *words), label)
        for label, words in {
            "kl_0.01": ("weight_ac_kl=0.01", "weight_af_kl=0.01"),
            "kl_1": ("weight_ac_kl=1.0", "weight_af_kl=1.0"),
            "rec_0.1": ("weight_ac_rec=0.1", "weight_af_rec=0.1", "weight_st_rec=0.1"),
            "rec_10": ("weight_ac_rec=10.0", "weight_af_rec=10.0", "weight_st_rec=10.0"),
            "shipped": (),
        }.items()
    ],
    # The same learners with PyMARL's optimiser, one update per 32 steps; VDFD a quarter and half of that.
    "pymarl_optimiser": [
        Case("vdfd", "8m", 0, 300_000, (*PYMARL, pace(128))),
        Case("vdfd", "2s3z", 0, 300_000, (*PYMARL, pace(64))),
        *(Case("qmix", m, 0, 300_000, (*PYMARL, pace(32))) for m in ("8m", "2s3z")),
        Case("qmix", "3m", 0, 200_000, (*PYMARL, pace(32))),
    ],
    # The policy-gradient family with the shipped configs but 5 passes of 3 minibatches over each batch, for
    # all alike: as many gradient steps as the papers' 15 passes, for two fifths of their time. And with the
    # papers' own passes where these cost least.
    "policy_gradient": [
        *(
            Case(a, m, s, 1_000_000, (*passes_of_three(a), "test_interval=20000"))
            for maps in (("3m", "8m"), ("2s3z",), ("MMM",))
            for s in (0, 1)
            for m in maps
            for a in ("mappo", "mat", "mat_dec", "happo", "ippo")
        ),
        # MMM for as long as the papers' tables have it, where MAPPO had only begun to win after 1M steps.
        Case(
            "mappo", "MMM", 1, 2_000_000, (*passes_of_three("mappo"), "test_interval=20000"), "2M"
        ),
        # MAT with the gradient's norm where its authors have it on these maps.
        *(
            Case("mat", m, s, 1_000_000, words, "grad_norm_10")
            for words in ((*passes_of_three("mat"), "test_interval=20000", "max_grad_norm=10.0"),)
            for s in (0, 1)
            for m in ("3m", "8m", "2s3z", "MMM")
        ),
        *(
            Case(a, m, 0, 1_000_000, ("test_interval=20000",), "published_passes")
            for m in ("3m", "8m")
            for a in ("mappo", "mat")
        ),
    ],
    # Short, with the shipped configs: particles that cover landmarks, and a robot of six agents.
    "particles_and_robots": [
        Case(a, task, s, t_max, ("test_interval=25000", f"test_nepisode={episodes}"))
        for s in (0, 1)
        for task, t_max, episodes in (
            ("simple_spread", 250_000, 128),
            ("HalfCheetah_6x1", 300_000, 8),
        )
        for a in ("mappo", "mat")
    ],
    # What the shipped offline configs make of good and bad play, with 600 updates (they ship with 20,000) and
    # 16 episodes in each, for all alike. Where all returns are alike the best tenth is like the rest.
    "offline": [
        Case(a, data, s, 600, (*words, "batch_size=16", "test_interval=60"), label)
        for s in (0, 1)
        for data in LEARNT_FROM
        for a, label, words in (
            ("madt", "", ("target_returns=[20.0]",)),
            ("bc", "", ()),
            ("bc", "top_tenth", ("top_share=0.1",)),
            ("omiga", "", ()),
            ("iql", "cql", ("runner=offline", "buffer=dataset", "cql_alpha=1.0")),
        )
        if not (label == "top_tenth" and data.endswith("/expert"))
    ],
    # The same number of steps played; before them the one has learnt from 500 episodes of middling play.
    "online": [
        Case(a, "3m", s, 32_000, (*words, "test_interval=6400"))
        for s in (0, 1)
        for a, words in (
            ("mappo", passes_of_three("mappo")),
            ("madt_online", (f"dataset={DATASETS}/3m/medium", "offline.t_max=600")),
        )
    ],
}

BESIDE: dict[str, tuple[tuple[str, str], ...]] = {
    "policy_gradient": (("qmix", "3m"), ("qmix", "8m_2s3z")),
    "vdfd_ablations": (("vdfd", "vdfd"),),
    "vdfd_controls": (("qmix", "vdfd"), ("vdfd", "vdfd")),
}
"""Suites that also show an algorithm (first) of another suite (second), on the tasks they share and for
as many steps as the suite's own runs."""

COLOURS = {
    "qmix": "C0",
    "vdfd": "C1",
    "vdn": "C2",
    "qtran": "C3",
    "iql": "C4",
    "coma": "C5",
    "mat_dec": "C6",
    "mat": "C1",
    "mappo": "C2",
    "happo": "C3",
    "ippo": "C4",
    "vdfd_no_ac": "C0",
    "vdfd_no_af": "C2",
    "vdfd_no_st": "C3",
    "vdf_sv": "C4",
    "vdf_post": "C5",
    "vdfd_random_context": "C6",
    "vdfd_constant_context": "C8",
    "qmix_wide": "C9",
    "bc": "C0",
    "madt": "C1",
    "madt_online": "C1",
    "madvae_offline": "C2",
    "mads4": "C3",
    "omiga": "C5",
}
"""An algorithm has its colour in every figure; those that share one never meet in a panel."""
DASHES = ("--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
"""Of labelled variants, which have the colour of the algorithm that they vary."""
LINES = 6
"""Most lines in a panel."""


@dataclass(frozen=True)
class Curve:
    """The tests of one run.

    Attributes:
        values: what is judged.
        returns: beside it.
    """

    steps: tuple[float, ...]
    values: tuple[float, ...]
    returns: tuple[float, ...]
    minutes: float

    @property
    def last_five(self) -> float:
        """Mean of the last five tests."""
        return float(np.mean(self.values[-5:]))

    @property
    def last_five_returns(self) -> float:
        """Mean return in the last five tests."""
        return float(np.mean(self.returns[-5:]))

    @property
    def area(self) -> float:
        """Mean height over its steps, with straight lines between tests."""
        width = self.steps[-1] - self.steps[0]
        return float(np.trapezoid(self.values, self.steps) / width) if width else self.values[0]

    def until(self, step: float) -> Curve:
        """The tests up to a step, of the same run."""
        n = sum(t <= step for t in self.steps)
        return Curve(self.steps[:n], self.values[:n], self.returns[:n], self.minutes)

    def reached(self, value: float) -> float | None:
        """Steps of the first test that is as good as ``value``."""
        return next((t for t, v in zip(self.steps, self.values, strict=True) if v >= value), None)

    @classmethod
    def read(cls, file: Path, metric: str) -> Curve:
        """From a CSV of :func:`write_curve`."""
        with file.open() as source:
            rows = list(csv.DictReader(source))
        steps, values, returns = (
            tuple(float(row[name]) for row in rows) for name in ("t_env", metric, COLUMNS[0])
        )
        return cls(steps, values, returns, float(rows[-1]["run_minutes"]))


def shown(suite: str, folder: Path) -> dict[tuple[str, str], list[tuple[Case, Curve]]]:
    """Runs that exist of the suite, and of what stands beside it, by task and name of the line."""
    cases = [(case, folder) for case in SUITES[suite]]
    steps = dict[str, int]()
    for case, _ in cases:
        steps[case.task_name] = max(case.t_max, steps.get(case.task_name, 0))
    for algorithm, other in BESIDE.get(suite, ()):
        cases += [
            (case, folder.parent / other)
            for case in SUITES[other]
            if case.algorithm == algorithm and case.task_name in steps
        ]
    found = defaultdict[tuple[str, str], list[tuple[Case, Curve]]](list)
    for case, place in cases:
        file = place / f"{case.stem}.csv"
        if file.exists():
            curve = Curve.read(file, case.task.metric)
            if place != folder:
                curve = curve.until(steps[case.task_name])
            found[case.task_name, case.name].append((case, curve))
    order = list(dict.fromkeys(task_name for task_name, _ in found))
    return dict(sorted(found.items(), key=lambda item: order.index(item[0][0])))


def train(case: Case, folder: Path) -> str:
    """Run one case through the command line; returns a line on how it went."""
    curve = folder / f"{case.stem}.csv"
    if curve.exists():
        return f"{case.stem}: done already"
    results = RUNS / folder.name / case.stem
    command = [sys.executable, str(ROOT / "src" / "main.py")]
    saved = [file.parent.parent.parent.name for file in results.glob("runs/*/checkpoints/latest/*")]
    if saved:
        command += ["with", f"resume={saved[0]}"]
    else:
        shutil.rmtree(results, ignore_errors=True)  # what stopped before its first checkpoint
        command += [f"--config={case.algorithm}", f"--env-config={case.task.env_config}", "with"]
        command += [*case.task.words, f"seed={case.seed}", f"t_max={case.t_max}", *case.words]
        command += ["save_buffer=True", "save_model_interval=100000"]
    command += [f"local_results_path={results}", "mongo_url=none"]
    start = time.perf_counter()
    log = results.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as out:
        status = subprocess.call(command, stdout=out, stderr=subprocess.STDOUT, cwd=ROOT)
    minutes = (time.perf_counter() - start) / 60
    if status:
        return f"{case.stem}: failed with status {status}, see {log}"
    (run,) = (file.parent for file in results.glob("runs/*/config.json"))
    write_curve(run, curve, case.task.columns, minutes)
    config = json.loads((run / "config.json").read_text())
    for key in ("seed", "local_results_path", "mongo_url"):  # of one run and machine
        del config[key]
    text = json.dumps(config, indent=1, sort_keys=True).replace(f"{ROOT}/", "")
    (folder / f"{case.of_all_seeds}.json").write_text(text + "\n")
    return f"{case.stem}: {minutes:.1f} min"


def write_curve(run: Path, file: Path, columns: tuple[str, ...], minutes: float) -> None:
    """Test metrics of a run's folder as CSV; the wall time stands in the last column of every row."""
    points: dict[int, dict[str, float]] = defaultdict(dict)
    for line in (run / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["name"] in columns:
            for step, value in zip(row["steps"], row["values"], strict=True):
                points[step][row["name"]] = value
    beside = file.with_suffix(".tmp")
    with beside.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["t_env", *columns, "run_minutes"])
        for step, values in sorted(points.items()):
            writer.writerow([step, *(round(values[c], 4) for c in columns), round(minutes, 2)])
    beside.rename(file)


def over_seeds(values: list[float], digits: int) -> str:
    """Interquartile mean of one number per seed, with its bootstrap interval where there are several."""
    numbers = np.array(values)[:, None]
    middle = f"{interquartile_mean(numbers)[0]:.{digits}f}"
    if len(values) == 1:
        return middle
    low, high = bootstrap_interval(numbers)
    return f"{middle} ({low[0]:.{digits}f} to {high[0]:.{digits}f})"


def thousands(steps: float) -> str:
    """A number of steps as tables have it."""
    return f"{steps / 1e3:.0f}k" if steps >= 1e4 else f"{steps:.0f}"


def table(runs: dict[tuple[str, str], list[tuple[Case, Curve]]]) -> list[str]:
    """Lines of Markdown: one row per task and line of the plot."""
    won = all(case.task.won for cases in runs.values() for case, _ in cases)
    digits = 2 if won else 1
    recorded = all(case.task.tier for cases in runs.values() for case, _ in cases)
    task = "dataset" if recorded else "map" if won else "task"
    columns = [task, "algorithm", "seeds", "updates" if recorded else "steps"]
    if recorded:
        columns += ["return of the data", "return, last five", "by seed", "win rate of the data"]
    columns += ["last five tests", "by seed", "area", *(["steps to 0.9"] if won else [])]
    lines = [f"| {' | '.join([*columns, 'min per run'])} |", f"|{' --- |' * (len(columns) + 1)}"]
    for (task_name, name), cases in runs.items():
        curves = [curve for _, curve in cases]
        cells = [
            task_name,
            name,
            str(len(curves)),
            thousands(min(c.steps[-1] for c in curves)),
        ]
        if recorded:
            played, returns = cases[0][0].task.played, [c.last_five_returns for c in curves]
            cells += [f"{played[COLUMNS[0]]:.1f}", over_seeds(returns, 1)]
            cells += [", ".join(f"{x:.1f}" for x in returns)]
            cells += [f"{played[cases[0][0].task.metric]:.2f}"]
        cells += [over_seeds([c.last_five for c in curves], digits)]
        cells += [", ".join(f"{c.last_five:.{digits}f}" for c in curves)]
        cells += [over_seeds([c.area for c in curves], digits)]
        if won:
            reached = [c.reached(0.9) for c in curves]
            cells += [", ".join("-" if r is None else thousands(r) for r in reached)]
        cells += [", ".join(f"{c.minutes:.0f}" for c in curves)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def panels(runs: dict[tuple[str, str], list[tuple[Case, Curve]]]) -> list[tuple[str, list[str]]]:
    """Task and lines of each panel.

    Algorithms first, then labelled variants beside what they vary, where one panel is too small for all.
    """
    found = []
    for task_name in dict.fromkeys(task_name for task_name, _ in runs):
        cases = {name: c[0][0] for (task, name), c in runs.items() if task == task_name}
        plain = [name for name, case in cases.items() if not case.label]
        variants = [name for name, case in cases.items() if case.label]
        varied = {cases[name].algorithm for name in variants}
        groups = [plain, [*(n for n in plain if n in varied), *variants] if variants else []]
        if len(cases) <= LINES:
            groups = [[*plain, *variants]]
        for names in filter(None, groups):
            found += [(task_name, names[i : i + LINES]) for i in range(0, len(names), LINES)]
    return found


def plot(suite: str, folder: Path) -> None:
    """Draw interquartile mean and bootstrap interval over seeds per task, and write the table."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    runs = shown(suite, folder)
    if not runs:
        print(f"suite {suite}: no run is complete yet")
        return
    drawn = panels(runs)
    across = min(len(drawn), 4)
    down = math.ceil(len(drawn) / across)
    figure, axes = plt.subplots(
        down, across, figsize=(4.6 * across, 4.2 * down), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(drawn) :]:
        axis.axis("off")
    for axis, (task_name, names) in zip(axes.flat, drawn, strict=False):
        dashes = iter(DASHES)
        for name in names:
            case = runs[task_name, name][0][0]
            curves = [Metric(list(c.steps), list(c.values)) for _, c in runs[task_name, name]]
            steps, values = on_common_steps(curves)
            colour, dash = COLOURS[case.algorithm], next(dashes) if case.label else "-"
            axis.plot(steps, interquartile_mean(values), color=colour, ls=dash, label=name)
            if len(values) > 1:
                axis.fill_between(steps, *bootstrap_interval(values), alpha=0.15, color=colour)
        task = runs[task_name, names[0]][0][0].task
        axis.set(title=task_name, xlabel=task.unit, ylabel=task.measure)
        if task.tier:
            axis.axhline(task.played[task.metric], color="black", ls=":", lw=1, label="the data")
        axis.legend(frameon=False, fontsize=8)
        if task.won:
            axis.set_ylim(-0.02, 1.02)
            axis.axhline(0.9, color="0.8", linewidth=0.8, zorder=0)
    if all(case.task.won for cases in runs.values() for case, _ in cases):
        figure.suptitle(
            "Embedded battle engine (a simulator of its own, not StarCraft II);"
            " interquartile mean and 95 % bootstrap interval over seeds",
            fontsize=9,
        )
    figure.savefig(folder / "curves.png", dpi=110)
    lines = table(runs)
    (folder / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("train", "plot"))
    parser.add_argument("--suite", choices=sorted(SUITES), default="3m")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    arguments = parser.parse_args()
    folder = OUT / arguments.suite
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.what == "train":
        os.environ["OMP_NUM_THREADS"] = "1"
        cases = [c for c in SUITES[arguments.suite] if arguments.only in c.stem]
        with ThreadPoolExecutor(arguments.jobs) as pool:
            for line in pool.map(lambda case: train(case, folder), cases):
                print(line, flush=True)
    plot(arguments.suite, folder)


if __name__ == "__main__":
    main()
