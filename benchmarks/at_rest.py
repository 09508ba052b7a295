"""CPU time of the same training run before and after a change: what a revision costs when nothing goes wrong.

    git worktree add /tmp/before REVISION
    python benchmarks/at_rest.py /tmp/before . [--maps 3m MMM2] [--steps 12000] [--pairs 6]

Runs `src/main.py --config=qmix --env-config=sc2` of both trees with this Python, in turns (before, after,
after, before ...), recording on disk included, each in a folder of its own. What is compared is the user time
of the process, start included, which holds roughly on a busy machine; a first run of each tree, which may
compile kernels, is not counted. Prints a table in Markdown: median times, the median of the pairs' ratios
with their quartiles, and the ratio of the least times, which noise of other processes moves least.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path


def run(tree: Path, map_name: str, steps: int, words: list[str]) -> float:
    """User seconds of one run of ``steps`` environment steps."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            str(tree / "src" / "main.py"),
            "--config=qmix",
            "--env-config=sc2",
            "with",
        ]
        command += [f"map_name={map_name}", "engine=embedded", f"t_max={steps}", "seed=1"]
        command += ["mongo_url=none", "torch_threads=1", "device=cpu", *words]
        child = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert child.stdout is not None
        said = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise SystemExit(f"{' '.join(command)}\n{said}")
        return usage.ru_utime


def compared(before: Path, after: Path, map_name: str, given: argparse.Namespace) -> str:
    """A row of the table."""
    times: dict[Path, list[float]] = {before: [], after: []}
    for tree in times:
        run(tree, map_name, 1, given.words)
    for pair in range(given.pairs):
        for tree in (before, after) if pair % 2 == 0 else (after, before):
            times[tree].append(run(tree, map_name, given.steps, given.words))
            print(f"{map_name} {tree}: {times[tree][-1]:.2f} s", file=sys.stderr, flush=True)
    ratios = [new / old for old, new in zip(times[before], times[after], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    least = min(times[after]) / min(times[before])
    old, new = (statistics.median(times[tree]) for tree in (before, after))
    return (
        f"| {map_name} | {given.steps:,} | {given.pairs} | {old:.1f} s | {new:.1f} s "
        f"| {middle:.3f} ({low:.3f} to {high:.3f}) | {least:.3f} |"
    )


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("before", type=Path, help="source tree")
    parser.add_argument("after", type=Path, help="source tree")
    parser.add_argument("--maps", nargs="+", default=["3m", "MMM2"])
    parser.add_argument("--steps", type=int, default=12000, help="of each run")
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("words", nargs="*", help="further KEY=VALUE of both")
    given = parser.parse_args()
    print("| map | steps | pairs | before | after | after / before (quartiles) | least / least |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for map_name in given.maps:
        row = compared(given.before.resolve(), given.after.resolve(), map_name, given)
        print(row, flush=True)


if __name__ == "__main__":
    main()
