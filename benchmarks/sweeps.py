"""Kill the workers of a sweep and the processes of its rows, and count what that cost.

    python benchmarks/sweeps.py                          # 24 rows, 6 kills, 100 rows for 4 claimers
    python benchmarks/sweeps.py --rows 4 --kills 2       # a small one
    python benchmarks/sweeps.py --only ray               # one of the parts below

- kills: two workers share a sweep; at random moments one of them, or the process of a row, dies by SIGKILL,
  and a dead worker is replaced. Every row is then compared, point by point, with the same run made alone.
- claims: four processes claim 100 rows at once.
- local, slurm, ray: the same sweep through the local pool, submitit's local executor, and a Ray cluster on
  this machine whose tasks are killed likewise.

Processes are forked from this one, which has everything imported.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from faults import Process, Tally, only_run, points, status_of

from phalanx.sweeps.claims import DONE, Claims, Standing
from phalanx.sweeps.plan import read_plan
from phalanx.sweeps.rows import candidates
from phalanx.sweeps.status import states
from phalanx.sweeps.table import Table, sweep_folder, write_table
from phalanx.sweeps.worker import warm_up

SWEEP = """\
name: killed
config: [qmix, vdn]
env_config: matrix
with:
  game: two_step
  t_max: 1200
  test_interval: 100
  log_interval: 100
  save_model_interval: 100
  test_nepisode: 4
  batch_size: 4
  batch_size_run: 3
  buffer_size: 40
  env_steps_per_update: 16
  mongo_url: none
grid: {lr: [0.001, 0.0005]}
seeds: %d
"""

LAUNCHERS = [
    ["local", "workers=2", "devices=cpu"],
    ["slurm", "cluster=local", "wait=True", "workers=2"],
    ["ray", "workers=2"],
]
MODULES = {"slurm": "submitit", "ray": "ray"}


def make(folder: Path, rows: int) -> Table:
    """A sweep of so many rows, a multiple of four."""
    folder.mkdir(parents=True)
    (folder / "sweep.yaml").write_text(SWEEP % (rows // 4))
    plan = read_plan(folder / "sweep.yaml")
    table, _ = write_table(sweep_folder(folder / "results", plan.name), plan, candidates(plan))
    return table


def kills(folder: Path, rows: int, count: int, drawn: random.Random, tally: Tally) -> None:
    """Two workers, ``count`` kills, half of them of workers and half of the processes of rows."""
    table = make(folder, rows)
    workers = [Process(folder, "work", str(table.directory)) for _ in range(2)]

    def kill_worker() -> bool:
        slot = drawn.randrange(len(workers))
        killed = workers[slot].kill()
        if killed:
            workers[slot] = Process(folder, "work", str(table.directory))
        return killed

    def over() -> bool:
        return all(worker.status is not None for worker in workers)

    shoot(table, count, drawn, tally, "workers", kill_worker, over)
    for worker in workers:
        tally.check(worker.wait() == 0, f"worker: {worker.said()[-300:]}")
    compare(folder, table, tally)


def shoot(
    table: Table,
    count: int,
    drawn: random.Random,
    tally: Tally,
    kind: str,
    kill_other: Callable[[], bool],
    over: Callable[[], bool],
) -> None:
    """Kill the process of a row or something else at random moments, so many times."""
    claims = Claims(table.directory, table.stale_after)
    while tally.done["kills"] < count and not over():
        time.sleep(drawn.uniform(0.3, 2.0))
        owners = [s.owner["pid"] for s in claims.standings().values() if s.alive and s.owner]
        if owners and drawn.random() < 0.5:
            with contextlib.suppress(ProcessLookupError):
                os.kill(drawn.choice(owners), signal.SIGKILL)
                tally.done["kills"] += 1
                tally.done["kills of rows"] += 1
        elif owners and kill_other():
            tally.done["kills"] += 1
            tally.done[f"kills of {kind}"] += 1


def launched(
    folder: Path, words: list[str], rows: int, count: int, drawn: random.Random, tally: Tally
) -> None:
    """A sweep by a launcher; of Ray's tasks and their rows so many are killed."""
    table = make(folder, rows)
    name, *keys = words
    program = Process(
        folder, "sweep", "start", str(table.directory), "--launcher", name, "with", *keys
    )
    if name == "ray":

        def kill_task() -> bool:
            tasks = [pid for pid in descendants(program.pid) if b"ray::work" in command_line(pid)]
            if tasks:
                os.kill(drawn.choice(tasks), signal.SIGKILL)
            return bool(tasks)

        shoot(table, count, drawn, tally, "tasks", kill_task, lambda: program.status is not None)
    while program.status is None:
        time.sleep(0.1)
    tally.check(program.status == 0, program.said()[-300:])
    compare(folder, table, tally)


def descendants(pid: int) -> list[int]:
    """Process ids below one, by the system's table."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def command_line(pid: int) -> bytes:
    """What a process was started as, or calls itself."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def compare(folder: Path, table: Table, tally: Tally) -> None:
    """Count the rows that are complete, and their points against those of runs alone."""
    runs = list((table.results / "runs").glob("*/run.json"))
    tally.check(len(runs) == len(table.rows), f"{len(runs)} runs for {len(table.rows)} rows")
    for state in states(table):
        run = table.run_folder(state.row)
        complete = state.phase == DONE and status_of(run) == "COMPLETED"
        tally.done["rows complete"] += complete
        tally.check(complete, f"row {state.row.number}: {state.phase} {state.sentence}")
        alone = folder / "alone" / str(state.row.number)
        process = Process(alone, *state.row.command)
        assert process.wait() == 0, process.said()
        reference = only_run(alone)
        assert reference is not None
        tally.compare(points(reference), points(run), f"row {state.row.number}")


def claims(folder: Path, rows: int, tally: Tally) -> None:
    """Four processes take what they can."""
    (folder / "claims").mkdir(parents=True)
    gate = folder / "gate"
    pids = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            try:
                own = Claims(folder, 120.0)
                while not gate.exists():
                    time.sleep(0.001)
                for row in range(rows):
                    hold = own.take(row, Standing(), 0)
                    if hold is not None:
                        hold.end("done", by=os.getpid())
            finally:
                os._exit(0)
        pids.append(pid)
    gate.touch()
    for pid in pids:
        os.waitpid(pid, 0)
    found = Claims(folder, 120.0).standings()
    files = list((folder / "claims").glob("*.end"))
    tally.done["rows claimed"] += len(found)
    tally.done["rows claimed twice"] += len(files) - len(found)
    tally.done["claimers that got any"] += len({(s.said or {})["by"] for s in found.values()})
    tally.check(len(found) == rows == len(files), f"{len(found)} rows, {len(files)} ends")


def main() -> int:
    """Print a line for each; the status is 1 if anything was lost, doubled or changed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=24, help="a multiple of 4 (default: 24)")
    parser.add_argument("--kills", type=int, default=6, help="default: 6")
    parser.add_argument("--claims", type=int, default=100, help="rows to claim (default: 100)")
    parser.add_argument("--only", action="append", help="default: all")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args()
    warm_up()
    failed = False
    with tempfile.TemporaryDirectory() as folder:

        def report(kind: str, fault: Callable[[Tally], None]) -> None:
            nonlocal failed
            if kind in (given.only or [kind]):
                tally, began = Tally(), time.monotonic()
                fault(tally)
                print(f"{kind}: {tally} ({time.monotonic() - began:.0f} s)", flush=True)
                failed |= bool(tally.wrong)

        at, drawn = Path(folder), random.Random(given.seed)
        report("kills", lambda t: kills(at / "k", given.rows, given.kills, drawn, t))
        report("claims", lambda t: claims(at / "c", given.claims, t))
        for words in LAUNCHERS:
            if words[0] in MODULES and find_spec(MODULES[words[0]]) is None:
                print(f"{words[0]}: left out, {MODULES[words[0]]} is not installed")
                continue

            def launch(tally: Tally, words: list[str] = words) -> None:
                launched(at / words[0], words, given.rows, given.kills, drawn, tally)

            report(words[0], launch)
    return int(failed)


if __name__ == "__main__":
    os.environ.pop("PHALANX_MONGO_URL", None)
    raise SystemExit(main())
