"""Workers as tasks of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import Field

from ...registry import LAUNCHERS, PartConfig, require
from ..stopping import exit_status, on_stop
from ..table import open_table
from ..watch import Watch
from .base import Launcher, worker_command

_EVERY = 0.5


@LAUNCHERS.register("ray")
class RayLauncher(Launcher):
    """Tasks on a Ray cluster, which starts those anew that lose their machine."""

    class Config(PartConfig):
        workers: int = Field(1, ge=1, description="tasks, one worker each")
        address: str = Field(
            "local",
            description="of the cluster, or auto; local: one on this machine, for this sweep",
        )
        num_cpus: float = Field(1.0, gt=0, description="cores a task asks Ray for")
        num_gpus: float = Field(
            0.0, ge=0, description="GPUs, or a part of one, that a task asks for"
        )

    def __init__(self, config: Config) -> None:
        self._config = config

    def launch(self, directory: Path, say: Callable[[str], None]) -> int:
        """Run the tasks until all rows have ended or somebody stops it."""
        ray = require("ray", "ray", "launcher ray")
        config, command = self._config, worker_command(directory, "--with-parent")

        def work() -> int:
            import subprocess

            return subprocess.call(command)

        cores = {"num_cpus": config.workers * config.num_cpus} if config.address == "local" else {}
        ray.init(address=config.address, log_to_driver=False, include_dashboard=False, **cores)
        try:
            resources: dict[str, Any] = {"num_cpus": config.num_cpus, "num_gpus": config.num_gpus}
            remote = ray.remote(max_retries=-1, **resources)(work)
            tasks = [remote.remote() for _ in range(config.workers)]
            say(
                f"{len(tasks)} tasks on Ray at {config.address}; Ctrl-C stops them, with checkpoints"
            )

            def stop(_: int) -> None:
                for task in tasks:
                    ray.cancel(
                        task, force=True
                    )  # its worker is asked to stop by its parent's death

            with on_stop(stop) as asked, Watch(open_table(directory)) as watch:
                left = tasks
                while left and not asked:
                    _, left = ray.wait(left, num_returns=len(left), timeout=_EVERY)
                    watch.refresh()
            return exit_status(asked) or max(ray.get(tasks))
        finally:
            ray.shutdown()
