"""Sweeps whose rows take a moment."""

from __future__ import annotations

from pathlib import Path

from phalanx.sweeps.plan import Plan, read_plan
from phalanx.sweeps.rows import candidates
from phalanx.sweeps.table import Table, sweep_folder, write_table

WITH = {
    "game": "two_step",
    "t_max": 300,
    "test_interval": 50,
    "log_interval": 50,
    "save_model_interval": 50,
    "test_nepisode": 2,
    "batch_size": 2,
    "batch_size_run": 2,
    "buffer_size": 8,
    "env_steps_per_update": 16,
    "mongo_url": "none",
}


def write(folder: Path, text: str = "", **more: object) -> Path:
    """The file of a sweep of qmix on the matrix game, and what ``text`` adds to it."""
    settings = ", ".join(f"{key}: {value}" for key, value in (WITH | more).items())
    path = folder / "small.yaml"
    config = "" if "config:" in text.split("overrides")[0] else "config: qmix\n"
    path.write_text(f"{config}env_config: matrix\nwith: {{{settings}}}\n{text}\n")
    return path


def plan(folder: Path, text: str = "", **more: object) -> Plan:
    """The same, read."""
    return read_plan(write(folder, text, **more))


def table(folder: Path, text: str = "", **more: object) -> Table:
    """The same, made."""
    read = plan(folder, text, **more)
    made, _ = write_table(sweep_folder(folder / "results", read.name), read, candidates(read))
    return made
