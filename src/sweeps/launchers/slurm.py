"""Workers as jobs of a SLURM cluster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ...registry import LAUNCHERS, PartConfig, require
from .base import Launcher, worker_command


@LAUNCHERS.register("slurm")
class SlurmLauncher(Launcher):
    """A job array on a SLURM cluster, through submitit; jobs that run out of time are queued again."""

    class Config(PartConfig):
        workers: int = Field(1, ge=1, description="jobs of the array, one worker each")
        timeout_min: int = Field(
            60, ge=1, description="minutes a job may take before it is queued again"
        )
        partition: str = Field("", description="SLURM partition; empty: the cluster's default")
        cpus: int = Field(1, ge=1, description="cores of a job")
        gpus: int = Field(0, ge=0, description="GPUs of a job")
        mem_gb: int = Field(4, ge=1, description="memory of a job")
        at_once: int = Field(256, ge=1, description="jobs of the array that may run at once")
        options: dict[str, Any] = Field(
            {}, description="further sbatch options, e.g. {account: me}"
        )
        cluster: Literal["slurm", "local"] = Field(
            "slurm", description="local: processes on this machine instead, to try it out"
        )
        wait: bool = Field(False, description="stay until all jobs have ended")

    def __init__(self, config: Config) -> None:
        self._config = config

    def launch(self, directory: Path, say: Callable[[str], None]) -> int:
        """Queue the jobs; they go on when this program has ended."""
        submitit = require("submitit", "slurm", "launcher slurm")
        config = self._config
        executor = submitit.AutoExecutor(directory / "slurm", cluster=config.cluster)
        executor.update_parameters(
            name=f"phalanx-{directory.name}",
            timeout_min=config.timeout_min,
            cpus_per_task=config.cpus,
            gpus_per_node=config.gpus,
            mem_gb=config.mem_gb,
            slurm_array_parallelism=config.at_once,
            **({"slurm_partition": config.partition} if config.partition else {}),
            **({"slurm_additional_parameters": config.options} if config.options else {}),
        )
        task = _task(worker_command(directory, "--with-parent"))
        with executor.batch():
            jobs = [executor.submit(task) for _ in range(config.workers)]
        say(
            f"{len(jobs)} jobs: {', '.join(str(job.job_id) for job in jobs)}; logs in {directory}/slurm"
        )
        return max(job.result() for job in jobs) if config.wait else 0


def _task(command: list[str]) -> Any:
    """What a job runs; made here, so that it is sent by value and the job needs nothing but submitit."""
    import signal
    import subprocess

    class Task:
        def __call__(self) -> int:
            self.worker = subprocess.Popen(command)
            return self.worker.wait()

        def checkpoint(self) -> Any:
            """Called by submitit when the job is about to lose its place: it goes back into the queue."""
            from submitit.helpers import DelayedSubmission

            self.worker.send_signal(signal.SIGUSR1)
            self.worker.wait()
            return DelayedSubmission(Task())

    return Task()
