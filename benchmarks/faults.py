"""Break runs in every way that a machine does, and count what their records lost.

    python benchmarks/faults.py                          # the full count, some 25 minutes
    python benchmarks/faults.py --kills 6 --rounds 1     # a small one

- kills: runs and their resumes die by SIGKILL at random moments, of which some are sought out: within a
  resume, while a checkpoint is written, while the end waits for a database that does not answer. Each is
  resumed until it is complete.
- races: three processes resume the same killed run at once.
- servers: four folders start an embedded database at once.
- disks: a small disk is filled in the middle of a run; it is freed later, or not before a refused resume.
  Needs the right to mount a tmpfs.

Points lost, doubled or changed are counted against a run of the same seed that nothing happened to. A run
takes a second on the matrix game; processes are forked from this one, which has everything imported.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from phalanx import cli, session  # noqa: F401 - what a run needs is imported before the first fork
from phalanx.tracking import experiment, server
from phalanx.tracking.record import read_metrics

NEW = ("--config=qmix", "--env-config=matrix", "with", "game=two_step")
WORDS = (
    "t_max=1200",
    *(f"{name}_interval=100" for name in ("test", "log", "save_model")),
    *("test_nepisode=4", "batch_size=4", "batch_size_run=3", "buffer_size=40"),
    "env_steps_per_update=16",
)
SECONDS = 2.5  # about what a run takes, and so the range of moments to die at
HANGS = 120.0
Points = dict[str, list[tuple[float, float]]]


@dataclass
class Tally:
    """What was done and what it cost."""

    done: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    doubled: int = 0
    changed: int = 0
    wrong: list[str] = field(default_factory=list)

    def compare(self, expected: Points, found: Points, what: str) -> None:
        """Count the points of a run against those of one that nothing happened to."""
        self.done["runs compared"] += 1
        self.done["points compared"] += sum(map(len, expected.values()))
        for name in expected.keys() | found.keys():
            wanted, there = expected.get(name, []), found.get(name, [])
            steps = Counter(step for step, _ in there)
            self.lost += len({step for step, _ in wanted} - steps.keys())
            surplus = sum(steps.values()) - len(steps)
            surplus += len(steps.keys() - {step for step, _ in wanted})
            self.doubled += surplus
            differing = sum(dict(there).get(step, value) != value for step, value in wanted)
            self.changed += differing
            if there != wanted:
                self.wrong.append(f"{what}: {name}")

    def check(self, holds: bool, what: str) -> None:
        """Note what is not as it should be."""
        if not holds:
            self.wrong.append(what)

    def __str__(self) -> str:
        counts = ", ".join(f"{number} {name}" for name, number in sorted(self.done.items()))
        text = f"{counts}: {self.lost} lost, {self.doubled} duplicated, {self.changed} changed"
        return "\n  ".join([text, *(f"WRONG {what}" for what in self.wrong[:20])])


class Process:
    """A command line in a process of its own, forked from this one."""

    def __init__(self, folder: Path, *words: str, end_wait: float | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # Not beside its folder, whose disk may be full.
        self._log = Path(tempfile.gettempdir()) / f"faults.{os.getpid()}.{time.monotonic_ns()}.log"
        self._status: int | None = None
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            status = 70
            try:
                os.chdir(folder)
                out = os.open(self._log, os.O_WRONLY | os.O_CREAT)
                os.dup2(out, 1)
                os.dup2(out, 2)
                if end_wait is not None:
                    experiment.Mirror = functools.partial(  # type: ignore[misc, assignment]
                        experiment.Mirror, start_wait=0.05, end_wait=end_wait
                    )
                experiment.DISK_SECONDS = 0.5
                status = cli.run(words)
                sys.stdout.flush()
            finally:
                os._exit(status)

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status

    def kill(self) -> bool:
        """End it by SIGKILL; False if it had ended by itself."""
        if self.status is not None:
            return False
        os.kill(self.pid, signal.SIGKILL)
        self.wait()
        return self._status == -signal.SIGKILL

    def wait(self) -> int:
        """Its exit status, once it has one."""
        end = time.monotonic() + HANGS
        while self.status is None:
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGABRT)
                end += HANGS
            time.sleep(0.005)
        assert self._status is not None
        return self._status

    def said(self) -> str:
        """What it printed."""
        return self._log.read_text(errors="replace")

    def __del__(self) -> None:
        self._log.unlink(missing_ok=True)


def points(run: Path) -> Points:
    """All points of a run by metric, in their order on disk."""
    return {
        name: list(zip(metric.steps, metric.values, strict=True))
        for name, metric in read_metrics(run).items()
    }


def only_run(folder: Path) -> Path | None:
    """The one run recorded below a folder."""
    runs = [path.parent for path in folder.glob("results/runs/*/run.json")]
    assert len(runs) <= 1
    return runs[0] if runs else None


def status_of(run: Path) -> str:
    """What its record says of a run."""
    return str(json.loads((run / "run.json").read_text())["status"])


def new(seed: int, *more: str) -> tuple[str, ...]:
    """The command line of a new run."""
    return (*NEW, *WORDS, f"seed={seed}", *(more or ("mongo_url=none",)))


def reference(folder: Path, seed: int) -> Points:
    """The points of a run that nothing happens to."""
    process = Process(folder, *new(seed))
    assert process.wait() == 0, process.said()
    run = only_run(folder)
    assert run is not None
    return points(run)


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """Address of a database that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(500)
        yield f"mongodb://127.0.0.1:{listener.getsockname()[1]}"


def wait_for(process: Process, holds: Callable[[], bool]) -> bool:
    """Whether something came to hold while the process was alive."""
    while process.status is None:
        with contextlib.suppress(OSError, ValueError):
            if holds():
                return True
        time.sleep(0.001)
    return False


def kills(folder: Path, count: int, drawn: random.Random, tally: Tally) -> None:
    """Kill runs and resumes until there were ``count`` kills."""
    seeds = range(3)
    expected = [reference(folder / f"reference{seed}", seed) for seed in seeds]
    number = 0
    with black_hole() as nowhere:
        while tally.done["kills"] < count:
            number += 1
            seed = number % len(seeds)
            run = _one_chain(folder / f"chain{number}", seed, nowhere, drawn, tally)
            tally.compare(expected[seed], points(run), f"kills, chain {number}")
            tally.check(status_of(run) == "COMPLETED", f"kills, chain {number}: {status_of(run)}")
            # A finished run that is resumed stays as it is.
            again = Process(folder / f"chain{number}", "with", f"resume={run.name}")
            tally.check(again.wait() == 0, again.said()[-300:])
            tally.check(
                points(run) == expected[seed], f"chain {number} changed by a resume at its end"
            )


def _one_chain(folder: Path, seed: int, nowhere: str, drawn: random.Random, tally: Tally) -> Path:
    attempt = 0
    while True:
        run = only_run(folder)
        resumed = run is not None and any((run / "checkpoints").glob("latest*/meta.json"))
        if (
            run is not None and not resumed
        ):  # it died before its first checkpoint: there is nothing to resume
            subprocess.run(["rm", "-rf", str(folder / "results")], check=True)
        attempt += 1
        last = attempt > 6
        aim = (
            "none"
            if last
            else drawn.choice(["any", "any", "start", "checkpoint", "checkpoint", "end"])
        )
        url = f"mongo_url={nowhere if aim == 'end' else 'none'}"
        words = ("with", f"resume={run.name}", url) if resumed and run else new(seed, url)
        process = Process(folder, *words, end_wait=3.0 if aim == "end" else None)
        if aim == "any":
            time.sleep(drawn.uniform(0, SECONDS))
        elif aim == "start":
            wait_for(process, lambda: only_run(folder) is not None)
            time.sleep(drawn.uniform(0, 0.25))
        elif aim == "checkpoint":
            for _ in range(drawn.randint(1, 4)):
                wait_for(
                    process, lambda: any(folder.glob("results/runs/*/checkpoints/.latest.writing"))
                )
                time.sleep(drawn.uniform(0, 0.006))
        elif aim == "end":
            # The status on disk is of the earlier life until the run goes on.
            time.sleep(0.5)
            ended = wait_for(
                process,
                lambda: (now := only_run(folder)) is not None and status_of(now) == "COMPLETED",
            )
            time.sleep(drawn.uniform(0, 0.3))
            tally.done["kills in the end wait"] += ended and process.status is None
        if aim == "none":
            tally.check(process.wait() == 0, f"{words}: {process.said()[-400:]}")
        writing = any(folder.glob("results/runs/*/checkpoints/.latest.writing"))
        if process.kill():
            tally.done["kills"] += 1
            tally.done["kills of a resume"] += resumed
            tally.done["kills in writing a checkpoint"] += writing
        run = only_run(folder)
        if run is not None and status_of(run) == "COMPLETED" and process.status == 0:
            return run


def races(folder: Path, rounds: int, drawn: random.Random, tally: Tally) -> None:
    """Resume one killed run three times at once."""
    expected = reference(folder / "reference", 0)
    for number in range(rounds):
        place = folder / f"round{number}"
        process = Process(place, *new(0))
        wait_for(process, lambda at=place: any(at.glob("results/runs/*/checkpoints/latest")))  # type: ignore[misc]
        time.sleep(drawn.uniform(0, 0.7))
        process.kill()
        run = only_run(place)
        assert run is not None
        three = [Process(place, "with", f"resume={run.name}", "mongo_url=none") for _ in range(3)]
        statuses = [one.wait() for one in three]
        said = [one.said() for one in three]
        # One that comes when the winner is done finds a complete run, and says so.
        accepted = sum("continuing from" in text for text in said)
        tally.check(accepted == 1, f"race {number}: {accepted} accepted")
        for status, text in zip(statuses, said, strict=True):
            true = status == 0 or "cannot be resumed: process" in text
            tally.check(true and "Traceback" not in text, f"race {number}: {text[-300:]}")
        tally.done["rounds of three resumes"] += 1
        tally.done["resumes refused"] += sum(status != 0 for status in statuses)
        tally.compare(expected, points(run), f"race {number}")


def servers(folder: Path, rounds: int, drawn: random.Random, tally: Tally) -> None:
    """Start the embedded database of four new folders at once."""
    for number in range(rounds):
        folders = [folder / f"round{number}" / name for name in "abcd"]
        started = [Process(place, "db", "start") for place in folders]
        tally.check([one.wait() for one in started] == [0] * 4, started[0].said()[-300:])
        running = [server.status(place / "results" / "db") for place in folders]
        pids = {one.pid for one in running if one is not None}
        for place, one in zip(folders, running, strict=True):
            data = str(place / "results" / "db" / "data").encode()
            own = one is not None and data in Path(f"/proc/{one.pid}/cmdline").read_bytes().split(
                b"\0"
            )
            tally.done["folders with a server of their own"] += own
            tally.check(own, f"servers, round {number}: {place.name} names a foreign one")
        tally.check(len(pids) == 4, f"servers, round {number}: {len(pids)} servers")
        stopped = drawn.choice(folders)
        Process(stopped, "db", "stop").wait()
        left = sum(server.status(place / "results" / "db") is not None for place in folders)
        tally.check(left == 3, f"servers, round {number}: {left} of 3 run after one was stopped")
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        tally.done["rounds of four starts"] += 1


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of 12 MB."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> None:
    """Leave no byte free."""
    with contextlib.suppress(OSError), (disk / "filler").open("ab", buffering=0) as filler:
        while True:
            filler.write(b"x" * 65536)
    with contextlib.suppress(OSError), (disk / "filler").open("ab", buffering=0) as filler:
        while True:
            filler.write(b"x")


def disks(folder: Path, rounds: int, drawn: random.Random, tally: Tally) -> None:
    """Fill the disk of a run; free it in time, or only after the run has ended and a resume was refused."""
    expected = reference(folder / "reference", 0)
    for number in range(rounds):
        in_time = number % 3 != 2
        with small_disk(folder / f"round{number}") as disk:
            process = Process(disk / "at", *new(0))
            wait_for(process, lambda at=disk: any(at.glob("at/results/runs/*/checkpoints/latest")))  # type: ignore[misc]
            time.sleep(drawn.uniform(0, 0.5))
            fill(disk)
            if in_time:
                time.sleep(drawn.uniform(0.05, 0.5))
                (disk / "filler").unlink()
                tally.check(process.wait() == 0, f"disk {number}: {process.said()[-300:]}")
                tally.done["disks freed in time"] += 1
            else:
                status, said = process.wait(), process.said()
                told = status == 1 and "lacks" in said and "nothing is missing" not in said.lower()
                tally.check(told or status == 0, f"disk {number}: status {status}, {said[-300:]}")
                tally.done["runs failed in words"] += told
                run = only_run(disk / "at")
                assert run is not None
                before = points(run)
                refused = Process(disk / "at", "with", f"resume={run.name}", "mongo_url=none")
                tally.check(
                    refused.wait() == 1 and "cannot be resumed" in refused.said(),
                    f"disk {number}: resume on a full disk: {refused.said()[-300:]}",
                )
                tally.check(
                    points(run) == before, f"disk {number}: a refused resume changed points"
                )
                (disk / "filler").unlink()
                again = Process(disk / "at", "with", f"resume={run.name}", "mongo_url=none")
                tally.check(again.wait() == 0, f"disk {number}: {again.said()[-300:]}")
                tally.done["disks freed late"] += 1
            run = only_run(disk / "at")
            assert run is not None
            tally.compare(expected, points(run), f"disk {number}")


FAULTS: dict[str, Callable[[Path, int, random.Random, Tally], None]] = {
    "kills": kills,
    "races": races,
    "servers": servers,
    "disks": disks,
}


def main() -> int:
    """Print a line for each kind of fault; the status is 1 if anything was lost, doubled or untrue."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=120, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=20, help="of each other fault (default: 20)")
    parser.add_argument("--only", choices=sorted(FAULTS), action="append", help="default: all")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args()
    failed = False
    for name, fault in FAULTS.items():
        if name not in (given.only or FAULTS):
            continue
        if name == "disks" and (not sys.platform.startswith("linux") or os.geteuid() != 0):
            print("disks: left out, a tmpfs cannot be mounted here", flush=True)
            continue
        if name == "servers" and server.executable() is None:
            print(f"servers: left out, {server.INSTALL_HINT}", flush=True)
            continue
        tally, began = Tally(), time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            count = given.kills if name == "kills" else given.rounds
            fault(Path(folder), count, random.Random(given.seed), tally)
        print(f"{name}: {tally} ({time.monotonic() - began:.0f} s)", flush=True)
        failed |= bool(tally.wrong)
    return int(failed)


if __name__ == "__main__":
    os.environ.pop("PHALANX_MONGO_URL", None)
    raise SystemExit(main())
