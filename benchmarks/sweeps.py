"""Kill the workers of a sweep and the processes of its rows, and count what that cost.

    python benchmarks/sweeps.py                          # 24 rows, 6 kills, 100 rows for 4 claimers
    python benchmarks/sweeps.py --rows 4 --kills 2       # a small one

- kills: two workers share a sweep; at random moments one of them, or the process of a row, dies by SIGKILL,
  and a dead worker is replaced. Every row is then compared, point by point, with the same run made alone.
- claims: four processes claim 100 rows at once.

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
from pathlib import Path

from faults import Process, Tally, only_run, points, status_of

from phalanx.sweeps.claims import Claims, Standing
from phalanx.sweeps.cli import start as start_launcher
from phalanx.sweeps.plan import read_plan
from phalanx.sweeps.rows import candidates
from phalanx.sweeps.status import DONE, states
from phalanx.sweeps.table import Table, open_table, sweep_folder, write_table
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


def make(folder: Path, rows: int) -> Table:
    """A sweep of so many rows, a multiple of four."""
    folder.mkdir(parents=True)
    (folder / "sweep.yaml").write_text(SWEEP % (rows // 4))
    plan = read_plan(folder / "sweep.yaml")
    table, _ = write_table(sweep_folder(folder / "results", plan.name), plan, candidates(plan))
    return table


def kills(folder: Path, rows: int, count: int, drawn: random.Random, tally: Tally) -> None:
    """Two workers, ``count`` kills."""
    table = make(folder, rows)
    workers = [Process(folder, "work", str(table.directory)) for _ in range(2)]
    claims = Claims(table.directory, table.stale_after)
    while tally.done["kills"] < count:
        time.sleep(drawn.uniform(0.3, 2.0))
        # Half of the shots are for a worker, half for the process of a row.
        owners = [s.owner["pid"] for s in claims.standings().values() if s.alive and s.owner]
        if not owners and all(worker.status is not None for worker in workers):
            break  # it was over before the last kill
        slot = drawn.randrange(len(workers))
        if owners and drawn.random() < 0.5:
            with contextlib.suppress(ProcessLookupError):
                os.kill(drawn.choice(owners), signal.SIGKILL)
                tally.done["kills"] += 1
                tally.done["kills of rows"] += 1
        elif workers[slot].kill():
            tally.done["kills"] += 1
            tally.done["kills of workers"] += 1
            workers[slot] = Process(folder, "work", str(table.directory))
    for worker in workers:
        tally.check(worker.wait() == 0, f"worker: {worker.said()[-300:]}")
    compare(folder, table, tally)


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
    parser.add_argument("--launcher", action="append", default=[], help="also start it with these")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args()
    warm_up()
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        tally, began = Tally(), time.monotonic()
        kills(Path(folder) / "kills", given.rows, given.kills, random.Random(given.seed), tally)
        print(f"kills: {tally} ({time.monotonic() - began:.0f} s)", flush=True)
        failed |= bool(tally.wrong)
        tally = Tally()
        claims(Path(folder) / "claimed", given.claims, tally)
        print(f"claims: {tally}", flush=True)
        failed |= bool(tally.wrong)
        for name in given.launcher:
            tally, began = Tally(), time.monotonic()
            table = make(Path(folder) / name, given.rows)
            words = ["workers=2"]
            tally.check(start_launcher(table, name, words) == 0, "its exit status")
            compare(Path(folder) / name, open_table(table.directory), tally)
            print(f"launcher {name}: {tally} ({time.monotonic() - began:.0f} s)", flush=True)
            failed |= bool(tally.wrong)
    return int(failed)


if __name__ == "__main__":
    os.environ.pop("PHALANX_MONGO_URL", None)
    raise SystemExit(main())
