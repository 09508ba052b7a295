"""Runs that are killed with SIGKILL at random moments, forked from one process that has all imported.

Usage: killed.py RESULTS LOGS URL RUNS SEED
Each run logs points until it dies, flushing every seventh; its log in LOGS says what it had flushed.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

from phalanx.tracking.experiment import run_experiment

AT_ONCE = 10


def run(number: int, results: Path, logs: Path, url: str) -> None:
    """Log points for ever."""
    said = os.open(logs / f"{number}.log", os.O_WRONLY)

    def body(handle):
        os.write(said, f"uid {handle.uid}\n".encode())
        step = 0
        while True:
            handle.log_scalar("loss", step / 2, step)
            handle.log_scalar("return_mean", float(step), step)
            if step % 7 == 6:
                handle.flush()
                os.write(said, f"flushed {step}\n".encode())
            step += 1
            time.sleep(0.001)

    run_experiment(body, name="qmix", config={"seed": number}, results_dir=results, mongo_url=url)


def main() -> None:
    results, logs, url = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    runs, moments = int(sys.argv[4]), random.Random(int(sys.argv[5]))
    for first in range(0, runs, AT_ONCE):
        pids = {}
        for number in range(first, min(first + AT_ONCE, runs)):
            (logs / f"{number}.log").touch()
            pids[number] = os.fork()
            if pids[number] == 0:
                run(number, results, logs, url)
        for number, pid in pids.items():
            # One of each lot dies while it starts, the others while they log.
            while number != first and not (logs / f"{number}.log").stat().st_size:
                time.sleep(0.01)
            time.sleep(moments.uniform(0, 0.2))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
