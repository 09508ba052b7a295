"""What recording costs a run, and how fast many recorded runs are to look at.

    python benchmarks/tracking.py cost     # a short 3m training run, recorded in the embedded database
    python benchmarks/tracking.py scale    # 200 runs x 20 metrics x 2,000 points: runs, plot, Omniboard

Other programs on the machine inflate wall times; CPU times beside them say by how much.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import math
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from phalanx.build import build
from phalanx.config import compose
from phalanx.tracking import server, sync
from phalanx.tracking.board import Board
from phalanx.tracking.experiment import BEAT_SECONDS, RunHandle, run_experiment
from phalanx.tracking.files import write_json
from phalanx.tracking.logger import Logger
from phalanx.tracking.record import Metric, SpooledRun, point_summary
from phalanx.tracking.target import Target
from phalanx.training import Trainer

RUNS, METRICS, POINTS = 200, 20, 2000
NAMES = ["test_battle_won_mean", "test_return_mean", *(f"metric_{i}" for i in range(METRICS - 2))]


class Stopwatch:
    """The tracker of a trainer, timed: seconds the training thread spent in it."""

    def __init__(self, handle: RunHandle) -> None:
        self._handle, self._logger = handle, Logger(handle.log_scalar)
        self.seconds = self.longest = 0.0

    def _timed(self, call: Callable[..., None], *arguments: Any) -> None:
        start = time.perf_counter()
        call(*arguments)
        spent = time.perf_counter() - start
        self.seconds += spent
        self.longest = max(self.longest, spent)

    def log_many(self, metrics: Any, t_env: int, prefix: str = "") -> None:
        self._timed(self._logger.log_many, metrics, t_env, prefix)

    def flush(self) -> int | None:
        return self._timed(self._handle.flush)

    def update(self, t_env: int, n_updates: int) -> None:
        pass

    def report(self, t_env: int, split: Any) -> None:
        pass


def cost(steps: int) -> None:
    """Share of a 3m run's time that goes into its record."""
    folder = Path(tempfile.mkdtemp())
    words = ("map_name=3m", f"t_max={steps}", "log_interval=2000", "test_interval=5000")
    composed = compose("qmix", "sc2", words)
    parts = build(composed)
    measured: dict[str, float] = {}

    def body(handle: RunHandle) -> None:
        tracker = Stopwatch(handle)
        trainer = Trainer(composed, parts, tracker, handle.directory)
        wall, process, thread = time.perf_counter(), time.process_time(), time.thread_time()
        measured["before the first step"] = wall - begun
        trainer.run()
        measured["wall"] = time.perf_counter() - wall
        measured["cpu"] = time.process_time() - process
        # One torch thread: what other threads compute is the record.
        measured["other threads"] = measured["cpu"] - (time.thread_time() - thread)
        measured["blocked"], measured["longest"] = tracker.seconds, tracker.longest
        measured["end"] = time.perf_counter()

    begun = time.perf_counter()
    try:
        run_experiment(body, name="qmix", config=composed.nested(), results_dir=folder)
        after = time.perf_counter() - measured["end"]
    finally:
        server.stop(folder / "db")
        shutil.rmtree(folder)
    wall, cpu = measured["wall"], measured["cpu"]
    print(f"qmix on 3m, {steps:,} steps: {wall:.1f} s wall, {cpu:.1f} s CPU")
    print(
        f"training thread held up by recording: {measured['blocked'] / wall:.2%} of the wall time"
    )
    print(f"longest single hold-up: {1000 * measured['longest']:.1f} ms")
    beats = wall / BEAT_SECONDS
    print(
        f"CPU time of the recording threads: {1000 * measured['other threads'] / beats:.0f} ms a beat, "
        f"which is {measured['other threads'] / wall:.2%} of the wall time"
    )
    print(
        f"once per run: {measured['before the first step']:.1f} s before its first step (the "
        f"database server's start included), {after:.1f} s at its end"
    )


def _template(folder: Path) -> dict[str, Any]:
    """The folder of one real run."""
    config = compose("qmix", "sc2", ("map_name=3m",)).nested()
    run_experiment(lambda _: None, name="qmix", config=config, results_dir=folder, mongo_url="none")
    (directory,) = (folder / "runs").glob("2*")
    return {
        name: json.loads((directory / f"{name}.json").read_text())
        for name in ("run", "config", "info")
    }


def _fill(results: Path) -> Target:
    """Record the runs on disk and in an embedded database."""
    template = _template(results / "template")
    start = dt.datetime(2026, 1, 1)
    steps = [1000 * i for i in range(POINTS)]
    times = [start + dt.timedelta(seconds=i) for i in range(POINTS)]
    target = Target("phalanx", server_dir=results / "db")
    (results / "runs" / "_sources").mkdir(parents=True)
    with target.connected() as db:
        for number in range(RUNS):
            values = [1 - math.exp(-i * (1 + number) / 10_000) for i in range(POINTS)]
            metrics = {name: Metric(steps, values, times) for name in NAMES}
            point = {"step": steps[-1], "value": values[-1], "min": values[0], "max": values[-1]}
            uid = f"20260101-{number:06d}-benchmark"
            run = json.loads(json.dumps(template["run"])) | {"status": "COMPLETED"}
            run["meta"]["uid"] = uid
            run["experiment"]["sources"] = []
            config = template["config"] | {"seed": number}
            info = template["info"] | {"summary": point_summary(dict.fromkeys(NAMES, point))}
            directory = results / "runs" / uid
            directory.mkdir()
            for name, content in (("config", config), ("info", info), ("run", run)):
                write_json(directory / f"{name}.json", content)
            row = {"steps": steps, "values": values, "timestamps": [t.isoformat() for t in times]}
            lines = "".join(json.dumps({"name": name, **row}) + "\n" for name in NAMES)
            (directory / "metrics.jsonl").write_text(lines)
            entry = sync.replay(db, SpooledRun(directory, run, config, info), metrics)
            sync.write_mark(directory, entry["_id"], target.label, complete=True)
    return target


def _timed(what: str, words: Sequence[str]) -> None:
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "phalanx.main", *words], check=True, capture_output=True)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{what}: {wall:.2f} s wall, {cpu:.2f} s CPU")


def _browse(url: str) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for visit in ("first", "second"):
            page = browser.new_page(viewport={"width": 1800, "height": 900})
            start = time.perf_counter()
            page.goto(url)
            page.locator("[test-attr='cell-row_expander-0']").wait_for()
            table = time.perf_counter() - start
            start = time.perf_counter()
            page.locator("[test-attr='cell-row_expander-0']").click()
            page.locator(".js-plotly-plot .scatterlayer .trace").first.wait_for()
            plot = time.perf_counter() - start
            print(f"Omniboard, {visit} visit: table {table:.2f} s, plot of a run {plot:.2f} s wall")
        browser.close()


def scale() -> None:
    """Times to look at many runs."""
    results = Path(tempfile.mkdtemp())
    try:
        target = _fill(results)
        server.stop(results / "db")  # what it still had to write is not part of looking at runs
        url = f"--mongo-url={target.address()}"
        where = ("--results", str(results))
        print(f"{RUNS} runs x {METRICS} metrics x {POINTS:,} points")
        _timed("phalanx runs, folder", ("runs", *where, "--mongo-url=none"))
        _timed("phalanx runs, database", ("runs", "--results", str(results / "no"), url))
        filters = ("runs", "map_name=3m", "seed<100", "--sort", "max.test_battle_won_mean")
        _timed("phalanx runs, filtered and sorted", (*filters, *where))
        image = ("--out", str(results / "curves.png"))
        _timed("phalanx plot, one run", ("plot", "1", *image, *where))
        _timed("phalanx plot, IQM of 10 runs", ("plot", "seed<10", *image, *where))
        board = Board(target, results)
        _browse(board.url)
        board.close()
    finally:
        server.stop(results / "db")
        shutil.rmtree(results)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("cost", "scale"))
    parser.add_argument("--steps", type=int, default=20_000, help="length of the run for `cost`")
    arguments = parser.parse_args()
    if arguments.what == "cost":
        cost(arguments.steps)
    else:
        scale()


if __name__ == "__main__":
    main()
