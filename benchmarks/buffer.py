"""Memory of the replay, and time to insert and sample, at the size of a SMAC map.

    python benchmarks/buffer.py [--map MMM2] [--episodes 5000]

Prints a markdown table. "reserved" is what the replay may take at most, checked against free memory;
"resident" is what the system has really handed out after filling it with episodes of random length.
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

import numpy as np

from phalanx.data.memory import gib
from phalanx.data.replay import EpisodeReplay
from phalanx.data.store import EpisodeStore
from phalanx.envs.battle import VecBattle


def resident() -> int:
    """Bytes of this process in memory (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def main() -> None:
    """Measure one map."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--map", default="MMM2")
    parser.add_argument("--episodes", type=int, default=5000)
    parser.add_argument("--mean-length", type=int, default=60, help="of the random episode lengths")
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    spec = VecBattle(arguments.map, 1).spec
    rng = np.random.default_rng(0)
    nothing: frozenset[str] = frozenset()
    print("| map | type | episodes | reserved | resident | insert | sample 32 |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for dtype in ("float16", "float32"):
        config = EpisodeReplay.Config(buffer_size=arguments.episodes, obs_dtype=dtype)
        before = resident()
        replay = EpisodeReplay(config, spec, seed=0, optional_fields=nothing)
        source = EpisodeStore(1, spec)
        for name, array in source.arrays.items():
            if array.dtype == np.float32 and name != "reward":
                array[:] = rng.normal(size=array.shape)
        inserting = 0.0
        for length in rng.geometric(1 / arguments.mean_length, arguments.episodes):
            source.lengths[0] = min(int(length), spec.episode_limit)
            start = time.perf_counter()
            replay.insert(source, np.array([0]))
            inserting += time.perf_counter() - start
        taken = resident() - before
        start = time.perf_counter()
        for _ in range(20):
            replay.sample(32)
        sampling = (time.perf_counter() - start) / 20
        print(
            f"| {arguments.map} | {dtype} | {arguments.episodes} | {gib(replay.nbytes)} | {gib(taken)} "
            f"| {1000 * inserting / arguments.episodes:.2f} ms | {1000 * sampling:.1f} ms |"
        )
        del replay


if __name__ == "__main__":
    main()
