"""Does asking for more give more? What decision transformers come to, over what they are asked for.

    python benchmarks/learning.py train --suite offline --only madt
    python benchmarks/asking.py --suite offline --only madt-3m_training

Plays the last checkpoint of each run, greedily and with actions drawn from the policy, and says how far the
policy is swayed: the total variation between its chances of actions when the least and the most is asked for
from the beginning of recorded episodes on. Results go to results/benchmarks/learning/<suite>/asked.csv, .md
and .png; runs that are in it are not played again.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from learning import OUT, RUNS, SUITES, Case
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from phalanx.build import build
from phalanx.config import Composed
from phalanx.data.chunks import Chunks
from phalanx.evaluation import evaluate_checkpoint
from phalanx.session import open_run

ASKED = (0.0, 5.0, 10.0, 15.0, 20.0)


class Row(NamedTuple):
    """What one run came to when it was asked for ``asked``."""

    dataset: str
    algorithm: str
    seed: int
    acting: str  # greedy | drawn
    asked: float
    episodes: int
    returned: float  # mean
    error: float  # standard error of that
    won: float
    swayed: float  # total variation, 0 to 1

    @property
    def of(self) -> tuple[str, str, int]:
        """The run."""
        return self.dataset, self.algorithm, self.seed


def swayed(composed: Composed, state: dict[str, torch.Tensor]) -> float:
    """Mean total variation between what is done when the least and when the most is asked for."""
    parts = build(composed)
    parts.env.close()
    policy = parts.policy
    policy.load_state_dict(state)
    batch = parts.buffer.sample()
    cutting = policy.cut(batch, batch.max_t)
    start = policy.start_of(batch)
    chances = []
    for asked in (ASKED[0], ASKED[-1]):
        start["return_to_go"] = torch.full_like(start["return_to_go"], asked)
        chunks = Chunks.of(batch, cutting, {name: x[:, None] for name, x in start.items()})
        with torch.no_grad():
            outputs = policy.evaluate(chunks).outputs
        chances.append(outputs.masked_fill(~chunks.avail_actions, -torch.inf).softmax(dim=-1))
    apart = 0.5 * (chances[0] - chances[1]).abs().sum(dim=-1)
    return float(apart[chunks.alive & cutting.filled[..., None]].mean())


def play(case: Case, run: Path, episodes: int) -> list[Row]:
    """All rows of a run."""
    rows = []
    told = [f"target_returns=[{','.join(map(str, ASKED))}]", "batch_size_run=50"]
    opened, composed = open_run(run, told)
    apart = swayed(composed, opened.state["policy"])
    for acting in ("greedy", "drawn"):
        _, composed = open_run(run, [*told, f"test_greedy={acting == 'greedy'}"])
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "episodes.csv"
            evaluate_checkpoint(opened.folder, composed, episodes, out)
            with out.open(encoding="utf-8") as source:
                played = list(csv.DictReader(source))
        for asked in ASKED:
            of = [x for x in played if float(x["condition"]) == asked]
            returns = np.array([float(x["return"]) for x in of])
            won = float(np.mean([float(x["battle_won"]) for x in of]))
            error = float(returns.std(ddof=1) / len(returns) ** 0.5)
            run_of = (case.task_name, case.name, case.seed)
            rows.append(
                Row(*run_of, acting, asked, len(of), float(returns.mean()), error, won, apart)
            )
    return rows


def read(file: Path) -> list[Row]:
    """Rows that are there."""
    if not file.exists():
        return []
    with file.open(encoding="utf-8") as source:
        kinds = (str, str, int, str, float, int, float, float, float, float)
        return [
            Row(*(kind(x) for kind, x in zip(kinds, row.values(), strict=True)))
            for row in csv.DictReader(source)
        ]


def write(file: Path, rows: list[Row]) -> None:
    """All rows."""
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(Row._fields)
        for row in rows:
            writer.writerow([round(x, 4) if isinstance(x, float) else x for x in row])


def table(rows: list[Row]) -> str:
    """One line per run and way of acting."""
    heads = ["dataset", "algorithm", "seed", "acting", *(f"asked {x:g}" for x in ASKED), "swayed"]
    lines = [
        f"| {' | '.join(heads)} |",
        "| --- | --- | ---: | --- |" + " ---: |" * (len(ASKED) + 1),
    ]
    grouped: dict[tuple[str, str, int, str], list[Row]] = defaultdict(list)
    for row in rows:
        grouped[(*row.of, row.acting)].append(row)
    for (*of, acting), found in sorted(grouped.items()):
        cells = [f"{x.returned:.1f} +- {x.error:.1f}, {x.won:.2f}" for x in found]
        told = [*map(str, of), acting, *cells, f"{found[0].swayed:.3f}"]
        lines.append(f"| {' | '.join(told)} |")
    return "\n".join(lines) + "\n"


def draw(rows: list[Row], cases: dict[str, Case], out: Path) -> None:
    """A panel per dataset and algorithm."""
    panels = list(dict.fromkeys((x.dataset, x.algorithm) for x in rows))
    figure = Figure(figsize=(3.4 * len(panels), 3.2), layout="constrained", dpi=90)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (dataset, algorithm) in zip(axes, panels, strict=True):
        axis.plot(ASKED, ASKED, color="0.8", lw=1)
        played = cases[dataset].task.played["test_return_mean"]
        axis.axhline(played, color="black", ls=":", lw=1, label="the data")
        for acting, colour in (("greedy", "C1"), ("drawn", "C0")):
            found = [x for x in rows if x[:2] == (dataset, algorithm) and x.acting == acting]
            for seed in sorted({x.seed for x in found}):
                own = [x for x in found if x.seed == seed]
                axis.errorbar(
                    [x.asked for x in own],
                    [x.returned for x in own],
                    [2 * x.error for x in own],
                    color=colour,
                    marker="os^v"[seed % 4],
                    lw=1,
                    label=f"{acting}, seed {seed}",
                )
        axis.set(title=f"{algorithm} on {dataset}", xlabel="return asked for", ylabel="return")
        axis.legend(frameon=False, fontsize=7)
    FigureCanvasAgg(figure)
    figure.savefig(out)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--suite", choices=sorted(SUITES), default="offline")
    parser.add_argument("--only", default="madt", help="only cases whose name contains this")
    parser.add_argument("--episodes", type=int, default=200, help="of each return asked for")
    given = parser.parse_args()
    folder = OUT / given.suite
    rows = read(folder / "asked.csv")
    cases = {case.task_name: case for case in SUITES[given.suite]}
    known = {row.of for row in rows}
    for case in SUITES[given.suite]:
        made = (RUNS / given.suite / case.stem).glob("runs/*/config.json")
        runs = [file.parent for file in made]
        missing = (case.task_name, case.name, case.seed) not in known
        if given.only in case.stem and runs and missing:
            rows = sorted([*rows, *play(case, runs[0], given.episodes)])
            write(folder / "asked.csv", rows)
    (folder / "asked.md").write_text(table(rows), encoding="utf-8")
    draw(rows, cases, folder / "asked.png")
    print(table(rows))


if __name__ == "__main__":
    main()
