"""CPU time of the same training run before and after a change: what a revision costs when nothing goes wrong.

    git worktree add /tmp/before REVISION
    python benchmarks/at_rest.py /tmp/before . [--maps 3m MMM2] [--steps 12000] [--pairs 6]

Runs `src/main.py --config=qmix --env-config=sc2` of both trees with this Python, recording on disk included,
each in a folder of its own. Both are alive at once and take turns of half a second, one stopped while the
other runs, so that what slows the machine for a while slows both alike. What is compared is the user time of
the processes, start included; a first run of each tree, which may compile kernels, is not counted. Prints a
table in Markdown: median times, the median of the pairs' ratios with their quartiles, and the ratio of the
sums.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TURN = 0.5  # seconds: far longer than what a switch costs, far shorter than what slows a machine


def start(
    tree: Path, folder: str, map_name: str, steps: int, words: list[str]
) -> subprocess.Popen[bytes]:
    """A run of ``steps`` environment steps, stopped before it does anything."""
    command = [sys.executable, str(tree / "src" / "main.py"), "--config=qmix", "--env-config=sc2"]
    command += ["with", f"map_name={map_name}", "engine=embedded", f"t_max={steps}", "seed=1"]
    command += ["mongo_url=none", "torch_threads=1", "device=cpu", *words]
    with open(f"{folder}/said", "wb") as said:
        return subprocess.Popen(
            ["sh", "-c", 'kill -STOP $$; exec "$@"', "sh", *command],
            cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=said,
            stderr=subprocess.STDOUT,
        )


def in_turns(trees: list[Path], map_name: str, steps: int, words: list[str]) -> list[float]:
    """User seconds of one run of each tree, in the order of ``trees``."""
    with contextlib.ExitStack() as stack:
        folders = [stack.enter_context(tempfile.TemporaryDirectory()) for _ in trees]
        children = [
            start(tree, folder, map_name, steps, words)
            for tree, folder in zip(trees, folders, strict=True)
        ]
        took: dict[int, float] = {}
        while len(took) < len(children):
            for i, child in enumerate(children):
                if i in took:
                    continue
                os.kill(child.pid, signal.SIGCONT)
                time.sleep(TURN)
                os.kill(child.pid, signal.SIGSTOP)
                pid, status, usage = os.wait4(child.pid, os.WNOHANG)
                if pid:
                    child.returncode = os.waitstatus_to_exitcode(status)
                    took[i] = usage.ru_utime
                    if child.returncode:
                        raise SystemExit(Path(folders[i], "said").read_text())
        return [took[i] for i in range(len(children))]


def compared(before: Path, after: Path, map_name: str, given: argparse.Namespace) -> str:
    """A row of the table."""
    times: dict[Path, list[float]] = {before: [], after: []}
    for tree in times:
        in_turns([tree], map_name, 1, given.words)
    for pair in range(given.pairs):
        trees = [before, after] if pair % 2 == 0 else [after, before]
        for tree, took in zip(
            trees, in_turns(trees, map_name, given.steps, given.words), strict=True
        ):
            times[tree].append(took)
            print(f"{map_name} {tree}: {took:.2f} s", file=sys.stderr, flush=True)
    ratios = [new / old for old, new in zip(times[before], times[after], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    total = sum(times[after]) / sum(times[before])
    old, new = (statistics.median(times[tree]) for tree in (before, after))
    return (
        f"| {map_name} | {given.steps:,} | {given.pairs} | {old:.1f} s | {new:.1f} s "
        f"| {middle:.3f} ({low:.3f} to {high:.3f}) | {total:.3f} |"
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
    print("| map | steps | pairs | before | after | after / before (quartiles) | sum / sum |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for map_name in given.maps:
        row = compared(given.before.resolve(), given.after.resolve(), map_name, given)
        print(row, flush=True)


if __name__ == "__main__":
    main()
