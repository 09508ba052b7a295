"""Speed of the battle engine: env steps per second by map, batch and threads.

An env step is one step (8 game loops, observations, state and masks included) of one battle. Agents
take random available actions; drawing them is not timed. CPU seconds are those of this process, so the
figures for one thread hold roughly on a busy machine too; what two threads gain shows in env steps per
second on an idle machine only.

    python benchmarks/engine.py
    python benchmarks/engine.py --maps 3m MMM2 --battles 64 --threads 1 2
    python benchmarks/engine.py --start
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from phalanx.envs.battle import VecBattle, map_names

WARM_UP = 20  # steps
FIRST_STEP = """
import numpy as np
from phalanx.envs.battle import VecBattle
battle = VecBattle("MMM2", 64)
battle.step(battle.avail_actions.argmax(-1))
"""


@dataclass(frozen=True)
class Measurement:
    """Speed of one setting."""

    map_name: str
    battles: int
    threads: int
    per_cpu_second: float
    per_wall_second: float


def measure(map_name: str, battles: int, threads: int, seconds: float) -> Measurement:
    """Step battles for about so many CPU seconds of engine time, after some steps to warm up."""
    battle = VecBattle(map_name, battles, threads=threads)
    rng = np.random.default_rng(0)
    steps, cpu, wall, warm_up = 0, 0.0, 0.0, WARM_UP
    while cpu < seconds:
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


def start() -> float:
    """Seconds from starting Python to the end of the first step, kernels compiled by an earlier run."""
    seconds = []
    for _ in range(4):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", FIRST_STEP], check=True)
        seconds.append(time.perf_counter() - begin)
    return min(seconds[1:])  # the first run may have had to compile


def processor() -> str:
    """Name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main() -> None:
    """Print a Markdown table, or how long a start takes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--maps", nargs="+", default=map_names())
    parser.add_argument("--battles", nargs="+", type=int, default=[64, 1])
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--seconds", type=float, default=2.0, help="CPU seconds per setting")
    parser.add_argument("--start", action="store_true", help="only measure the start")
    args = parser.parse_args()
    if args.start:
        print(f"start of Python to end of the first step: {start():.2f} s")
        return
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
