"""Workers on this machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ...registry import LAUNCHERS, PartConfig
from ..stopping import exit_status, on_stop, start, stop_with_parent
from ..table import open_table
from ..watch import Watch
from ..worker import FORKS, Worker, warm_up
from .base import Launcher, cores

_MOST_RESTARTS = 5


@LAUNCHERS.register("local")
class LocalLauncher(Launcher):
    """A pool on this machine: a worker per core, or per CUDA device where there are any."""

    class Config(PartConfig):
        workers: int = Field(0, ge=0, description="how many; 0: one per core, or per device")
        devices: Literal["auto", "cpu", "cuda"] = Field(
            "auto",
            description="what workers are counted by and bound to; auto: CUDA if there is any",
        )
        per_device: int = Field(1, ge=1, description="workers that share a CUDA device")

    def __init__(self, config: Config) -> None:
        self._config = config

    def launch(self, directory: Path, say: Callable[[str], None]) -> int:
        """Run the pool until all rows have ended or somebody stops it."""
        places = self._places()
        say(f"{len(places)} workers on this machine; Ctrl-C stops them, with checkpoints")
        if FORKS:
            warm_up()
        context: Any = multiprocessing.get_context("fork" if FORKS else "spawn")
        table = open_table(directory)
        pool: dict[int, Any] = {}
        restarts = dict.fromkeys(range(len(places)), 0)

        def fill(slot: int) -> None:
            arguments = (directory, places[slot], Watch.live(), os.getpid())
            pool[slot] = context.Process(target=_work, args=arguments)
            start(pool[slot])

        def pass_on(number: int) -> None:
            for process in pool.values():
                if process.exitcode is None and process.pid is not None:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process.pid, number)

        with on_stop(pass_on) as asked, Watch(table) as watch:
            for slot in restarts:
                fill(slot)
            while pool:
                time.sleep(0.2)
                watch.refresh()
                for slot, process in list(pool.items()):
                    if process.exitcode is None:
                        continue
                    del pool[slot]
                    died = process.exitcode < 0 and not asked
                    if died and restarts[slot] < _MOST_RESTARTS:
                        restarts[slot] += 1
                        fill(slot)
        return exit_status(asked)

    def _places(self) -> list[str]:
        """The CUDA device of each worker; empty text where it is bound to none."""
        devices = [] if self._config.devices == "cpu" else _cuda_devices()
        count = self._config.workers
        if not devices:
            return [""] * (count or cores())
        count = count or len(devices) * self._config.per_device
        return [devices[i % len(devices)] for i in range(count)]


def _cuda_devices() -> list[str]:
    """Names of the devices as CUDA_VISIBLE_DEVICES takes them."""
    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = (
        torch.cuda.device_count()
    )  # asks the driver's library: no CUDA before workers are forked
    names = given.split(",") if given else [str(i) for i in range(found)]
    return names[:found]


def _work(directory: Path, device: str, quiet: bool, parent: int) -> None:
    """Body of one worker."""
    stop_with_parent(parent)
    if device:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    say = (lambda line: None) if quiet else _say
    sys.exit(Worker(directory, say=say).run())


def _say(line: str) -> None:
    print(line, flush=True)
