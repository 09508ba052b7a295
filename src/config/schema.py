"""Keys of the run itself; every other key belongs to a part and is declared there."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from ..errors import did_you_mean
from ..registry import SINKS, AbsolutePath, PartConfig


class RunConfig(PartConfig):
    """What the training loop reads. Part names (``mixer: qmix``) stand beside these keys."""

    name: str = Field(description="name of the algorithm, as it appears in tables and plots")
    label: str = Field("", description="free text to find the run by")
    sweep: str = Field("", description="the sweep that the run belongs to; set by `phalanx work`")
    seed: int = Field(0, ge=0, description="decides everything random in the run")
    t_max: int = Field(
        2_050_000,
        ge=0,
        description="where training ends, on the run's clock: environment steps; updates with runner=offline",
    )
    phases: list[str] = Field(
        [],
        description="names of phases that follow each other, each composed with its own overrides; []: none",
    )
    phase: str = Field("", description="the phase that a config is of; set where there are phases")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where networks live; auto takes CUDA when there is any"
    )
    torch_threads: int = Field(
        1, ge=1, description="threads torch may use; one is fastest for networks this small"
    )
    test_interval: int = Field(10_000, ge=1, description="time between tests, on the run's clock")
    test_nepisode: int = Field(32, ge=1, description="greedy episodes per test")
    save_video: int = Field(0, ge=0, description="first test episodes that `evaluate` films")
    video_format: Literal["gif", "mp4"] = Field("gif", description="what films are written as")
    log_interval: int = Field(10_000, ge=1, description="time between reports, on the run's clock")
    save_model: bool = Field(True, description="write checkpoints")
    save_model_interval: int = Field(
        100_000, ge=1, description="time between checkpoints, on the run's clock"
    )
    keep_models: bool = Field(
        False, description="keep the networks of every checkpoint, in checkpoints/step_N"
    )
    record: AbsolutePath = Field(
        "", description="new folder for a dataset of every episode played in training"
    )
    save_buffer: bool = Field(
        True, description="keep the replay in checkpoints; without it a resumed run refills it"
    )
    checkpoint_path: str = Field("", description="checkpoint folder to continue from, as a new run")
    resume: str = Field("", description="run id or run folder to continue as the same run")
    local_results_path: str = Field(
        "results", description="folder that holds runs and the database"
    )
    mongo_url: str | None = Field(
        None, description="MongoDB address; a password belongs in PHALANX_MONGO_URL"
    )
    mongo_db: str = Field("phalanx", min_length=1, description="database name in MongoDB")
    sinks: list[str] = Field(
        [], description="dashboards that get the numbers too: tensorboard, wandb, trackio"
    )
    sink_project: str = Field(
        "phalanx", min_length=1, description="project that dashboards file the run under"
    )
    plugins: list[str] = Field(
        [], description="modules or Python files that register further parts"
    )

    @field_validator("sinks")
    @classmethod
    def _known(cls, sinks: list[str]) -> list[str]:
        known = SINKS.names()
        for name in sinks:
            if name not in known:
                raise ValueError(
                    f"names the sink {name!r}, which is not there.{did_you_mean(name, known)} "
                    f"Registered: {', '.join(known)}."
                )
        return list(dict.fromkeys(sinks))
