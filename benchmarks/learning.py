"""Learning curves: train every (algorithm, task, seed) of a suite and keep curve, config and plot.

    python benchmarks/learning.py train --suite 3m --jobs 2
    python benchmarks/learning.py plot --suite 3m

Results go to results/benchmarks/learning/<suite>/: one CSV per run, one JSON per algorithm and task with the
composed config, curves.png and table.md. A run that has its CSV is not repeated.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "results" / "benchmarks" / "learning"
RUNS = ROOT / "results" / "learning"
COLUMNS = ("test_return_mean", "test_ep_length_mean")


@dataclass(frozen=True)
class Task:
    """What is learnt, as words of the command line, and what of it is judged."""

    env_config: str
    words: tuple[str, ...]
    metric: str
    measure: str

    @property
    def columns(self) -> tuple[str, ...]:
        """Metrics that are kept, the judged one first."""
        return tuple(dict.fromkeys((self.metric, *COLUMNS)))

    @property
    def won(self) -> bool:
        """Whether a share between 0 and 1 is judged."""
        return self.metric.endswith("_won_mean")


RETURN = ("test_return_mean", "test return")
TASKS = {
    "simple_spread": Task("mpe", ("key=simple_spread_v3",), *RETURN),
    "HalfCheetah_6x1": Task("mamujoco", ("scenario=HalfCheetah", "agent_conf=6x1"), *RETURN),
}
"""Tasks by the name they have in suites; any other name is a map of the battle engine."""


@dataclass(frozen=True)
class Case:
    """One training run of a suite."""

    algorithm: str
    task_name: str  # one of TASKS, or a map of the battle engine
    seed: int
    t_max: int
    words: tuple[str, ...] = ()
    label: str = ""

    @property
    def task(self) -> Task:
        """What is learnt."""
        battles = ("map_name=" + self.task_name, "engine=embedded")
        return TASKS.get(self.task_name) or Task(
            "sc2", battles, "test_battle_won_mean", "test win rate"
        )

    @property
    def name(self) -> str:
        """Name of the line in the plot: the algorithm and what sets it apart in its suite."""
        return f"{self.algorithm}_{self.label}" if self.label else self.algorithm

    @property
    def stem(self) -> str:
        """File name without ending."""
        return f"{self.name}-{self.task_name}-seed{self.seed}"


PYMARL = ("optim=rmsprop", "lr=0.0005")  # PyMARL's optimiser; the shipped configs use Adam at 0.001


def pace(steps: int) -> str:
    """Environment steps per gradient update, as a word of the command line."""
    return f"env_steps_per_update={steps}"


def passes_of_three(algorithm: str) -> tuple[str, ...]:
    """Five passes over each batch in three minibatches; HAPPO's critic makes its own passes."""
    words = ("ppo_epoch=5", "num_mini_batch=3")
    return (*words, "critic_epoch=5") if algorithm == "happo" else words


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
    # Which loss weights of VDFD: all runs alike but for the words that name them.
    "vdfd_weights": [
        Case("vdfd", "5m_vs_6m", 0, 100_000, words, label)
        for label, words in {
            "shipped": (),
            "kl_0.01": ("weight_ac_kl=0.01", "weight_af_kl=0.01"),
            "kl_1": ("weight_ac_kl=1.0", "weight_af_kl=1.0"),
            "rec_0.1": ("weight_ac_rec=0.1", "weight_af_rec=0.1", "weight_st_rec=0.1"),
            "rec_10": ("weight_ac_rec=10.0", "weight_af_rec=10.0", "weight_st_rec=10.0"),
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
}

BESIDE = {"policy_gradient": ("qmix", ("3m", "8m_2s3z"))}
"""Suites whose plot and table also show an algorithm of other suites, to compare with."""


def shown(suite: str, folder: Path) -> list[tuple[Case, Path]]:
    """Runs of the suite, and of what stands beside it, with their curves' files; those that exist."""
    cases = [(case, folder) for case in SUITES[suite]]
    algorithm, others = BESIDE.get(suite, ("", ()))
    for other in others:
        cases += [(c, folder.parent / other) for c in SUITES[other] if c.algorithm == algorithm]
    files = [(case, place / f"{case.stem}.csv") for case, place in cases]
    return [(case, file) for case, file in files if file.exists()]


def train(case: Case, folder: Path) -> str:
    """Run one case through the command line; returns a line on how it went."""
    curve = folder / f"{case.stem}.csv"
    if curve.exists():
        return f"{case.stem}: done already"
    results = RUNS / folder.name / case.stem
    command = [
        *(sys.executable, str(ROOT / "src" / "main.py")),
        *(f"--config={case.algorithm}", f"--env-config={case.task.env_config}", "with"),
        *(*case.task.words, f"seed={case.seed}", f"t_max={case.t_max}"),
        *(f"local_results_path={results}", "mongo_url=none"),
        *case.words,
        *("save_buffer=False", "save_model_interval=1000000000"),
    ]
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
    config_file = folder / f"{case.name}-{case.task_name}.json"
    config_file.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
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


def plot(suite: str, folder: Path) -> None:
    """Draw mean and range over seeds per task, and write the table."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    runs: dict[str, dict[str, list[list[tuple[int, float]]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    minutes: dict[tuple[str, str], list[float]] = defaultdict(list)
    tasks: dict[str, Task] = {}
    for case, file in shown(suite, folder):
        with file.open() as source:
            rows = list(csv.DictReader(source))
        points = [(int(r["t_env"]), float(r[case.task.metric])) for r in rows]
        tasks[case.task_name] = case.task
        runs[case.task_name][case.name].append(points)
        minutes[case.task_name, case.name].append(float(rows[-1]["run_minutes"]))
    figure, axes = plt.subplots(
        1, len(runs), figsize=(4.6 * len(runs), 3.9), squeeze=False, layout="constrained"
    )
    names = list(dict.fromkeys(name for algorithms in runs.values() for name in algorithms))
    drawn = {}
    won = all(task.won for task in tasks.values())
    what, digits = ("win rate", 2) if won else ("return", 1)
    columns = ["map" if won else "task", "algorithm", "seeds", "steps"]
    columns += [f"best test {what} by seed", "last"]
    columns += ["steps to 0.9"] if won else []
    columns += ["min per run"]
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    for axis, (task_name, algorithms) in zip(axes[0], runs.items(), strict=True):
        task = tasks[task_name]
        for algorithm, curves in algorithms.items():
            length = min(len(c) for c in curves)
            steps = [t for t, _ in curves[0][:length]]
            values = [[c[i][1] for c in curves] for i in range(length)]
            color = f"C{names.index(algorithm)}"
            (drawn[algorithm],) = axis.plot(steps, [sum(v) / len(v) for v in values], color=color)
            low, high = [min(v) for v in values], [max(v) for v in values]
            axis.fill_between(steps, low, high, alpha=0.2, color=color)
            cells = [task_name, algorithm, str(len(curves)), f"{steps[-1] // 1000}k"]
            cells += [", ".join(f"{max(v for _, v in c):.{digits}f}" for c in curves)]
            cells += [", ".join(f"{c[-1][1]:.{digits}f}" for c in curves)]
            if won:
                reached = [next((t for t, v in c if v >= 0.9), None) for c in curves]
                cells += [", ".join("-" if r is None else f"{r // 1000}k" for r in reached)]
            cells += [", ".join(f"{m:.0f}" for m in minutes[task_name, algorithm])]
            lines.append(f"| {' | '.join(cells)} |")
        axis.set(title=task_name, xlabel="environment steps")
        if task.won:
            axis.set_ylim(-0.02, 1.02)
            axis.axhline(0.9, color="0.8", linewidth=0.8, zorder=0)
    axes[0][0].set_ylabel(f"{next(iter(tasks.values())).measure} (mean, range over seeds)")
    if won:
        figure.suptitle(
            "Embedded battle engine (a simulator of its own, not StarCraft II)", fontsize=9
        )
    figure.legend(
        drawn.values(), drawn, loc="outside lower center", ncols=len(drawn), frameon=False
    )
    figure.savefig(folder / "curves.png", dpi=110)
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
