"""What sharing environments out to Ray actors gains or costs: environment steps per second of training runs.

    python benchmarks/actors.py                                  # the whole table, about a quarter of an hour
    python benchmarks/actors.py --only sleeping --seconds 5

Every run learns as shipped, with eight environments (or as many as --envs says), one thread of torch, no
tests and no recording. What is timed begins when it has learnt for the first time. Prints a Markdown table:
steps per second of `runner=vector`, and those of `runner=ray` as multiples of them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import ray

from phalanx.build import build
from phalanx.config import compose
from phalanx.training import Trainer

SLEEPING = f"plugins=[{Path(__file__).with_name('sleeping.py')}]"
TASKS = {
    "battle engine, 3m": ("qmix", "sc2", ("map_name=3m", "engine=embedded")),
    "battle engine, MMM2": ("qmix", "sc2", ("map_name=MMM2", "engine=embedded")),
    "lbf, 8x8-2p-1f-coop": ("qmix", "lbf", ()),
    "rware, tiny-2ag": ("qmix", "rware", ()),
    "mamujoco, HalfCheetah 6x1": ("mappo", "mamujoco", ("episode_length=50", "ppo_epoch=1")),
    "sleeping 5 ms, one copy after another": ("qmix", "sleeping", (SLEEPING,)),
    "sleeping 5 ms, a process per copy": ("qmix", "sleeping", (SLEEPING, "processes=True")),
}


class Enough(Exception):  # noqa: N818 (nothing is wrong)
    """The time is over."""


class Stopwatch:
    """Stands in for the recording: times steps from the first update on, and ends the run."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._begun: tuple[float, int] | None = None
        self.rate = 0.0

    def log_many(self, metrics: Mapping[str, float], t_env: int, prefix: str = "") -> None:
        """Drop them."""

    def report(self, t_env: int, split: Mapping[str, float]) -> None:
        """Drop it."""

    def flush(self) -> int:
        """Nothing waits."""
        return 0

    def update(self, t_env: int, n_updates: int) -> None:
        """Look at the clock."""
        now = time.perf_counter()
        if self._begun is None:
            self._begun = (now, t_env) if n_updates else None
            return
        taken = now - self._begun[0]
        if taken >= self._seconds:
            self.rate = (t_env - self._begun[1]) / taken
            raise Enough


def rate(config: str, env: str, words: tuple[str, ...], seconds: float) -> float:
    """Environment steps per second."""
    quiet = ("t_max=1000000000", "test_interval=1000000000", "test_nepisode=1", "save_model=False")
    composed = compose(config, env, (*words, *quiet, "seed=0", "device=cpu", "torch_threads=1"))
    watch = Stopwatch(seconds)
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(Enough):
        Trainer(composed, build(composed), watch, Path(folder)).run()
    return watch.rate


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", help="tasks with this in their name")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each run (default: 8)")
    parser.add_argument("--envs", type=int, default=8, help="environments of a run (default: 8)")
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 2, 4])
    given = parser.parse_args()
    ray.init(
        address="local",
        num_cpus=max(given.actors),
        object_store_memory=256 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
    )
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores\n")
    ways = [(collect, n) for collect in ("index", "arrival") for n in given.actors]
    heads = [f"{collect}, {n}" for collect, n in ways]
    print(f"| environment | vector, steps/s | {' | '.join(heads)} |")
    print(f"| --- | ---: |{' ---: |' * len(ways)}")
    for name, (config, env, task) in TASKS.items():
        if given.only not in name:
            continue
        words = (*task, f"batch_size_run={given.envs}")
        base = rate(config, env, (*words, "runner=vector"), given.seconds)
        cells = []
        for collect, n in ways:
            if collect == "arrival" and config == "mappo":
                cells.append("-")
                continue
            more = ("runner=ray", f"actors={n}", f"collect={collect}")
            cells.append(f"{rate(config, env, (*words, *more), given.seconds) / base:.2f}")
        print(f"| {name} | {base:.0f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
