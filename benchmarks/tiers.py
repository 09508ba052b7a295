"""Datasets of several levels of play, to learn from: a teacher is trained, and its checkpoints play.

    python benchmarks/tiers.py 3m 3s_vs_3z
    python benchmarks/datasets.py results/datasets            # what they hold

A map's sets lie in results/datasets/<map>/:

- ``training``: every episode that the teacher, MAPPO, was trained with;
- ``random``, ``medium``, ``expert``: 500 episodes each of a checkpoint halfway with epsilon 1, of the same
  one with epsilon 0.05, and of the best one, greedy;
- ``by_return/...``: 500 episodes at most of ``training`` by what they came to.

Checkpoints are chosen by the tests that were played when they were made: win rate, and return where that is
alike. Best is the last of the best ones, halfway the first of those that are nearest to half the best one's
win rate, or return where nothing was won.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATASETS = ROOT / "results" / "datasets"
TEACHERS = ROOT / "results" / "teachers"
EPISODES = "500"
BY_RETURN = "poor:0-10,middling:10-15,good:15-"


@dataclass(frozen=True)
class Teacher:
    """How many steps a map's teacher is trained for, and how many there are between its checkpoints."""

    t_max: int
    every: int


MAPS = {
    "3m": Teacher(120_000, 5_000),
    "8m": Teacher(600_000, 20_000),
    "3s_vs_3z": Teacher(300_000, 20_000),
    "5m_vs_6m": Teacher(400_000, 20_000),
}


def phalanx(*words: str) -> None:
    """The command line; ends this script where it fails."""
    subprocess.run([sys.executable, str(ROOT / "src" / "main.py"), *words], cwd=ROOT, check=True)


def train(battle_map: str) -> Path:
    """The folder of the teacher's run, trained if it is not there."""
    teacher, results = MAPS[battle_map], TEACHERS / battle_map
    if not list(results.glob("runs/*/checkpoints/latest")):
        phalanx(
            *("--config=mappo", "--env-config=sc2", "with", f"map_name={battle_map}"),
            *("engine=embedded", "seed=0", f"t_max={teacher.t_max}"),
            *("ppo_epoch=5", "num_mini_batch=3"),  # as in the suite policy_gradient of learning.py
            *(f"test_interval={teacher.every}", f"save_model_interval={teacher.every}"),
            *("keep_models=True", f"record={DATASETS / battle_map / 'training'}"),
            *(f"local_results_path={results}", "mongo_url=none"),
        )
    (run,) = (file.parent for file in results.glob("runs/*/config.json"))
    return run


def levels(run: Path) -> tuple[int, int]:
    """Steps of the checkpoints halfway and best."""
    tests: dict[int, dict[str, float]] = defaultdict(dict)
    for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        for step, value in zip(row["steps"], row["values"], strict=True):
            tests[step][row["name"]] = value
    kept = [int(folder.name[5:]) for folder in (run / "checkpoints").glob("step_*")]
    scores = {
        step: (tests[step]["test_battle_won_mean"], tests[step]["test_return_mean"])
        for step in sorted(kept)
        if "test_return_mean" in tests[step]
    }
    best = max(scores, key=lambda step: (*scores[step], step))
    judged = 0 if scores[best][0] else 1
    half = scores[best][judged] / 2
    return min(scores, key=lambda step: abs(scores[step][judged] - half)), best


def record(battle_map: str) -> None:
    """All sets of a map that are not there."""
    run, folder = train(battle_map), DATASETS / battle_map
    halfway, best = levels(run)
    for tier, step, epsilon in (
        ("random", halfway, 1.0),
        ("medium", halfway, 0.05),
        ("expert", best, 0.0),
    ):
        if not (folder / tier).exists():
            phalanx(
                *("dataset", "record", str(run), "--step", str(step), "--epsilon", str(epsilon)),
                *("--episodes", EPISODES, "--seed", "1", "--out", str(folder / tier)),
                *("with", "batch_size_run=50"),
            )
    if not (folder / "by_return").exists():
        phalanx(
            *("dataset", "split", str(folder / "training"), "--tiers", BY_RETURN),
            *("--episodes", EPISODES, "--out", str(folder / "by_return")),
        )


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("maps", nargs="+", choices=sorted(MAPS))
    os.environ["OMP_NUM_THREADS"] = "1"
    for battle_map in parser.parse_args().maps:
        record(battle_map)


if __name__ == "__main__":
    main()
