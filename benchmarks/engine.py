"""Speed of the battle engine: env steps per second by map, batch and threads.

An env step is one step (8 game loops, observations, state and masks included) of one battle. Agents
take random available actions; drawing them is not timed. CPU seconds are those of this process, so the
figures for one thread hold on a busy machine too.

    python benchmarks/engine.py
    taskset -c 1 python benchmarks/engine.py --maps 3m MMM2 --battles 1 64 --threads 1
"""

from __future__ import annotations

import argparse
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from phalanx.envs.battle import VecBattle

MAPS = ["3m", "8m", "2s3z", "3s5z", "MMM2", "1c3s5z", "27m_vs_30m"]


@dataclass(frozen=True)
class Measurement:
    """Speed of one setting."""

    map_name: str
    battles: int
    threads: int
    per_cpu_second: float
    per_wall_second: float


def measure(map_name: str, battles: int, threads: int, seconds: float) -> Measurement:
    """Step battles for about so many wall seconds of engine time, after one episode to warm up."""
    battle = VecBattle(map_name, battles, threads=threads)
    rng = np.random.default_rng(0)
    steps, cpu, wall, warm_up = 0, 0.0, 0.0, 20
    while wall < seconds:
        weights = rng.random(battle.avail_actions.shape, dtype=np.float32)
        actions = (weights * battle.avail_actions).argmax(-1)
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        battle.step(actions)
        cpu_end, wall_end = time.process_time(), time.perf_counter()
        if warm_up:
            warm_up -= 1
            continue
        steps += battles
        cpu += cpu_end - cpu_start
        wall += wall_end - wall_start
    battle.close()
    return Measurement(map_name, battles, threads, steps / cpu, steps / wall)


def processor() -> str:
    """Name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--maps", nargs="+", default=MAPS)
    parser.add_argument("--battles", nargs="+", type=int, default=[1, 8, 64])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=2.0, help="per setting")
    args = parser.parse_args()
    print(f"{processor()}, Python {platform.python_version()}; random available actions\n")
    print("| map | battles | threads | env steps / CPU s | env steps / s |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for map_name in args.maps:
        for battles in args.battles:
            for threads in args.threads:
                if threads > battles:
                    continue
                m = measure(map_name, battles, threads, args.seconds)
                print(
                    f"| {m.map_name} | {m.battles} | {m.threads} "
                    f"| {m.per_cpu_second:,.0f} | {m.per_wall_second:,.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
