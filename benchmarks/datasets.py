"""What recorded datasets hold, side by side.

    python benchmarks/datasets.py results/datasets            # all below this folder
    python benchmarks/datasets.py --report                    # only write table and picture anew

Every dataset's summary goes to ``datasets.json`` and replaces the one of the same name, its path below the
folder. ``datasets.md`` and ``datasets.png`` are made of all summaries there are. How the tiers come about is
in the README of the results.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from phalanx.data.dataset import Dataset
from phalanx.data.dataset.summary import policy_in_words, summary

FOLDER = Path(__file__).resolve().parents[1] / "results" / "benchmarks"
BINS = np.arange(-0.5, 21)  # SMAC's returns
COLUMNS = (
    "dataset",
    "who acted",
    "episodes",
    "steps",
    "return",
    "from",
    "to",
    "length",
    "won",
    "distinct",
)


def cells(name: str, found: dict[str, Any]) -> list[str]:
    """A row of the table."""
    returns, lengths = found["returns"], found["lengths"]
    rule = found["tier"]
    asked = "" if not rule else f"; {rule['asked']} of the {rule['there']:,} with such a return"
    return [
        name,
        "; ".join(map(policy_in_words, found["policies"])) + asked,
        f"{found['episodes']:,}",
        f"{found['steps']:,}",
        f"{returns['mean']:.2f} +- {returns['std']:.2f}",
        f"{returns['min']:.2f}",
        f"{returns['max']:.2f}",
        f"{lengths['mean']:.1f}",
        f"{found['outcomes']['battle_won']:.3f}",
        f"{found['distinct_state_actions']:.3f}",
    ]


def place(named: tuple[str, dict[str, Any]]) -> tuple[str, float]:
    """By map, then from bad to good."""
    name, found = named
    return name.split("/")[0], found["returns"]["mean"]


def table(all_found: dict[str, dict[str, Any]]) -> str:
    """The page."""
    lines = [
        "# Datasets recorded on the embedded engine",
        "",
        "Made by `benchmarks/datasets.py`; the data are not kept here. These are episodes of this engine's "
        "battles and of the policies named: they are no published dataset, and figures that are learnt from "
        "them compare with nothing else. *distinct* is the share of steps whose pair of state and joint "
        "action had not occurred before in the set.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "| --- | --- | " + " | ".join(["---:"] * (len(COLUMNS) - 2)) + " |",
    ]
    lines += [f"| {' | '.join(cells(name, found))} |" for name, found in all_found.items()]
    return "\n".join([*lines, "", "![returns](datasets.png)", ""])


def draw(all_found: dict[str, dict[str, Any]], out: Path) -> None:
    """Histograms of returns, a row per map."""
    maps: dict[str, list[str]] = {}
    for name in all_found:
        maps.setdefault(name.split("/")[0], []).append(name)
    columns = max(map(len, maps.values()))
    figure = Figure(figsize=(2.2 * columns, 1.7 * len(maps)), layout="constrained", dpi=80)
    axes = figure.subplots(len(maps), columns, squeeze=False)
    for row, names in zip(axes, maps.values(), strict=True):
        for cell in row[len(names) :]:
            cell.set_axis_off()
        for cell, name in zip(row, names, strict=False):
            cell.stairs(all_found[name]["by_one"], BINS, fill=True, color="#4477aa")
            cell.axvline(all_found[name]["returns"]["mean"], color="#cc6677")
            cell.set_title(name, fontsize=8)
            cell.tick_params(labelsize=6)
    FigureCanvasAgg(figure)
    figure.savefig(out, format="png")


def main() -> None:
    """Read the words of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="with datasets below it")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    given = parser.parse_args()
    if (given.folder is None) != given.report:
        parser.error("give a folder, or --report")
    kept = FOLDER / "datasets.json"
    found = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    if given.folder is not None:
        for file in sorted(given.folder.glob("**/dataset.json")):
            name = file.parent.relative_to(given.folder).as_posix()
            data = Dataset.open(file.parent)
            counts = np.histogram(data.returns, BINS)[0].tolist()
            found[name] = summary(data) | {"by_one": counts}
    found = dict(sorted(found.items(), key=place))
    kept.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (FOLDER / "datasets.md").write_text(table(found), encoding="utf-8")
    draw(found, FOLDER / "datasets.png")


if __name__ == "__main__":
    main()
