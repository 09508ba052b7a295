"""Speed of whole training runs: environment steps per second, and where the time goes.

    python benchmarks/training.py [--algorithms mappo mat] [--maps 3m 8m MMM] [--threads 1 2] [--steps 32000]

Each run is what `src/main.py` trains, tests included, without the recording; building it is not timed. Prints
a table in Markdown. CPU seconds are those of this process: for one thread they hold roughly on a busy machine
too; what two threads of torch gain shows in environment steps per second on an idle one only.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import torch

from phalanx.build import build
from phalanx.config import compose
from phalanx.training import Trainer

ACTIVITIES = ("env", "act", "learn", "test")


class Stopwatch:
    """Stands in for the recording: keeps the shares of time that the only report brings."""

    def __init__(self) -> None:
        self.split: Mapping[str, float] = {}

    def log_many(self, metrics: Mapping[str, float], t_env: int, prefix: str = "") -> None:
        """Drop them."""

    def update(self, t_env: int, n_updates: int) -> None:
        """Show nothing."""

    def report(self, t_env: int, split: Mapping[str, float]) -> None:
        """Keep the shares."""
        self.split = dict(split)

    def flush(self) -> int:
        """Nothing waits."""
        return 0


def measure(algorithm: str, map_name: str, threads: int, steps: int, words: list[str]) -> str:
    """A row of the table."""
    composed = compose(
        algorithm,
        "sc2",
        (
            *(f"map_name={map_name}", "engine=embedded", "seed=0", f"torch_threads={threads}"),
            *(f"t_max={steps}", f"log_interval={steps}", "save_model=False", "device=cpu"),
            *words,
        ),
    )
    parts, watch = build(composed), Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(composed, parts, watch, Path(folder))
        wall, cpu = time.perf_counter(), time.process_time()
        trainer.run()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    shares = " | ".join(f"{watch.split[name]:.0%}" for name in ACTIVITIES)
    per_cpu, per_second = trainer.t_env / cpu, trainer.t_env / wall
    return (
        f"| {map_name} | {algorithm} | {threads} | {per_cpu:,.0f} | {per_second:,.0f} | {shares} |"
    )


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--algorithms", nargs="+", default=["mappo", "mat"])
    parser.add_argument("--maps", nargs="+", default=["3m", "8m", "MMM"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1], help="of torch")
    parser.add_argument("--steps", type=int, default=32_000, help="environment steps of a run")
    parser.add_argument("words", nargs="*", help="config changes such as ppo_epoch=5")
    arguments = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}\n")
    print(
        "| map | algorithm | threads | env steps / CPU s | env steps / s | env | act | learn | test |"
    )
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    # Kernels may have to be compiled first.
    measure(arguments.algorithms[0], arguments.maps[0], 1, 1, arguments.words)
    for map_name in arguments.maps:
        for algorithm in arguments.algorithms:
            for threads in arguments.threads:
                row = measure(algorithm, map_name, threads, arguments.steps, arguments.words)
                print(row, flush=True)


if __name__ == "__main__":
    main()
