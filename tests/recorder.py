"""A tracker that keeps everything in memory, and a way to train in this process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from phalanx.build import build
from phalanx.config import compose
from phalanx.training import Trainer


class Recorder:
    """Every scalar as (name, step, value), in order."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, int, float]] = []

    def log_many(self, metrics: Mapping[str, float], t_env: int, prefix: str = "") -> None:
        self.rows += [(prefix + name, t_env, float(value)) for name, value in metrics.items()]

    def update(self, t_env: int, n_updates: int) -> None:
        pass

    def report(self, t_env: int, split: Mapping[str, float]) -> None:
        assert all(share >= 0 for share in split.values())

    def flush(self) -> int:
        return 0

    def curve(self, name: str) -> list[tuple[int, float]]:
        """Steps and values of one metric."""
        return [(t, value) for key, t, value in self.rows if key == name]


def trainer(folder: Path, config: str, env_config: str, *words: str) -> tuple[Trainer, Recorder]:
    """A training run that is not tracked; call its ``run()``."""
    recorder = Recorder()
    composed = compose(config, env_config, words)
    return Trainer(composed, build(composed), recorder, folder), recorder
