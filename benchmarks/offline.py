"""What reading a dataset costs beside learning from it, and how much memory that takes.

    phalanx dataset record --bot nearest --transitions 450000 --out DIR with map_name=MMM2     # 2 GB
    python benchmarks/offline.py DIR
    python benchmarks/offline.py DIR --cold                 # reads from the disk

Updates of ``bc`` (a learner that does little per batch), batches of 64 episodes or windows. The loader's time
is what the run waits for a batch, in brackets the CPU time of the process meanwhile. A thread reads the next
batch while the learner works, so most of reading is in the learner's CPU time. Memory is what the process has
of its own, and with the mapped pages of the files, which the system takes back when it needs them.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import NamedTuple

from phalanx.build import build
from phalanx.config import compose
from phalanx.data.dataset import Dataset

VARIANTS = {
    "windows of 20 steps, feed-forward": ("chunk_length=20", "recurrent=false"),
    "windows of 20 steps, recurrent": ("chunk_length=20", "recurrent=true"),
    "whole episodes, feed-forward": ("chunk_length=0", "recurrent=false"),
    "whole episodes, recurrent": ("chunk_length=0", "recurrent=true"),
}
MIB = 2**20


def drop(folder: Path) -> None:
    """Ask the system to forget the pages of a dataset's files."""
    for file in folder.glob("shard_*/*.npy"):
        with file.open("rb") as content:
            os.posix_fadvise(content.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def memory() -> tuple[int, int]:
    """MiB of this process: its own, and with the mapped files."""
    with open("/proc/self/status", encoding="ascii") as status:
        told = dict(line.split(":") for line in status)
    own, mapped = (int(told[name].split()[0]) * 1024 // MIB for name in ("RssAnon", "VmRSS"))
    return own, mapped


class Times(NamedTuple):
    """Milliseconds per update, wall and CPU."""

    wall: float
    cpu: float

    @classmethod
    def since(cls, then: Times, updates: int) -> Times:
        """Between two moments."""
        now = cls.now()
        return cls((now.wall - then.wall) / updates, (now.cpu - then.cpu) / updates)

    @classmethod
    def now(cls) -> Times:
        """This moment."""
        return cls(1e3 * time.perf_counter(), 1e3 * time.process_time())

    def __add__(self, other: Times) -> Times:  # type: ignore[override]
        return Times(self.wall + other.wall, self.cpu + other.cpu)


def measure(
    folder: Path, words: tuple[str, ...], updates: int
) -> tuple[Times, Times, int, int, int]:
    """Times of loader and learner; MiB before, and the most of its own and with the files."""
    env = Dataset.open(folder).description.environment["options"]["map_name"]
    fixed = ("engine=embedded", "batch_size_run=1", "test_nepisode=1")
    parts = build(compose("bc", "sc2", (f"map_name={env}", f"dataset={folder}", *fixed, *words)))
    before, _ = memory()
    load = learn = Times(0, 0)
    own = whole = 0
    for update in range(updates + 2):
        start = Times.now()
        (batch,) = parts.buffer.batches(update)
        loaded = Times.since(start, updates)
        start = Times.now()
        parts.learner.learn(batch, update)
        if update >= 2:  # the first ones allocate
            load, learn = load + loaded, learn + Times.since(start, updates)
        own, whole = (max(pair) for pair in zip((own, whole), memory(), strict=True))
    parts.env.close()
    return load, learn, before, own, whole


def share(load: float, learn: float) -> str:
    """Of both together."""
    return f"{100 * load / (load + learn):.1f} %"


def main() -> None:
    """Read the words of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--updates", type=int, default=30)
    parser.add_argument("--cold", action="store_true")
    given = parser.parse_args()
    data = Dataset.open(given.folder)
    print(f"{data.nbytes / 1e9:.2f} GB, {len(data):,} episodes with {data.steps:,} steps\n")
    print(
        "| updates of bc | loader | learner | loader's share | memory before | own | with mapped pages |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, words in VARIANTS.items():
        if given.cold:
            drop(given.folder)
        load, learn, before, own, whole = measure(given.folder, words, given.updates)
        print(
            f"| {name} | {load.wall:.1f} ms ({load.cpu:.1f}) | {learn.wall:.0f} ms ({learn.cpu:.0f}) | "
            f"{share(load.wall, learn.wall)} ({share(load.cpu, learn.cpu)}) | "
            f"{before} MiB | {own} MiB | {whole} MiB |",
            flush=True,
        )


if __name__ == "__main__":
    main()
