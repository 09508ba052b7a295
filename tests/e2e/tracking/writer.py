"""A run in a process of its own: logs numbered points at a fixed rate.

Usage: writer.py RESULTS POINTS [--retry S] [--wait S] [--patience S] [--seed N] [--resume UID STEP]
[--full FROM TO] [SACRED OPTIONS]. Ends when its input is closed, and not before POINTS are logged. From point
FROM to point TO no file can grow, as on a full disk; FROM -2: before anything is recorded.
Prints ``point N`` for every point, with the time, past Sacred's capture.
"""

import argparse
import contextlib
import functools
import logging
import resource
import select
import signal
import sys
import time
from pathlib import Path

from phalanx.errors import PhalanxError
from phalanx.tracking import experiment, target
from phalanx.tracking.claim import claim_run
from phalanx.tracking.output import unwrapped
from phalanx.tracking.record import Position

RATE = 100


def main() -> None:
    # A background job, and what it starts, has SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=Path)
    parser.add_argument("points", type=int)
    parser.add_argument("--retry", type=float, default=0.5)
    parser.add_argument("--wait", type=float, default=5.0)
    parser.add_argument("--patience", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume", nargs=2)
    parser.add_argument("--full", nargs=2, type=int, default=(-1, -1))
    given, sacred_options = parser.parse_known_args()
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    # The same as in earnest, but for how long is waited: what answers at all may take its time.
    target.Target.connect = functools.partialmethod(target.Target.connect, timeout=given.wait)
    patience = {"start_wait": given.patience, "end_wait": given.patience}
    experiment.Mirror = functools.partial(experiment.Mirror, retry=given.retry, **patience)
    experiment.DISK_SECONDS = 0.5
    uid, step = given.resume or (None, None)
    if given.full[0] == -2:
        _limit_files(0)
    first = 0 if step is None else int(step) + 1

    def body(handle):
        print("run", handle.run_id, handle.uid, flush=True)
        step = first
        while step < first + given.points or not select.select([sys.stdin], [], [], 0)[0]:
            if step == given.full[0]:
                _limit_files(0)
            elif step == given.full[1]:
                handle.flush()  # not to be left to the beats, which are as slow as the machine
                _limit_files(resource.RLIM_INFINITY)
                handle.flush()
            handle.log_scalar("loss", step / 2, step)
            handle.log_scalar("return_mean", float(step), step)
            unwrapped(sys.stdout).write(f"point {step} {time.time():.3f}\n")
            unwrapped(sys.stdout).flush()
            step += 1
            time.sleep(1 / RATE)
        handle.info["engine"] = "embedded"
        handle.info["summary"] = {"points": step}
        note = handle.directory / "note.txt"
        with contextlib.suppress(OSError):  # the disk is full
            note.write_text(f"{step} points")
            handle.add_artifact(note)
        handle.set_result(step)

    experiment.run_experiment(
        body,
        name="qmix",
        config={"seed": given.seed, "name": "qmix", "env": "sc2", "env_args": {"map_name": "3m"}},
        results_dir=given.results,
        sacred_options=["-b", "0.25", *sacred_options],
        claim=None if uid is None else claim_run(given.results / "runs" / uid),
        since=None if step is None else Position(int(step)),
    )


def _limit_files(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


if __name__ == "__main__":
    try:
        main()
    except PhalanxError as error:
        raise SystemExit(f"error: {error}") from None
