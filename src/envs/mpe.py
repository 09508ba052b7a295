"""Multi-agent particle environments: points that push, cover and talk, with discrete or continuous moves."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from typing import Any

from pydantic import Field

from ..errors import EnvError, did_you_mean
from ..registry import ENVS, require
from .adapter import LiftedEnv
from .parallel_api import ParallelConfig, ParallelTeam


@ENVS.register("mpe")
class ParticleEnv(LiftedEnv):
    """Multi-agent particle environments (Lowe et al., 2017), from the package mpe2."""

    class Config(ParallelConfig):
        key: str = Field(
            "simple_spread_v3", min_length=1, description="task, e.g. simple_spread_v3"
        )
        continuous_actions: bool = Field(
            False, description="five strengths between 0 and 1 instead of one of five moves"
        )
        time_limit: int = Field(25, ge=1, description="steps of every episode")

    def __init__(self, config: Config, *, num_envs: int, seed: int) -> None:
        make = functools.partial(_team, config)
        super().__init__(make, num_envs=num_envs, seed=seed, config=config)


def _team(config: ParticleEnv.Config) -> ParallelTeam:
    package = require("mpe2", "mpe", "env mpe")
    modules = (module.name for module in pkgutil.iter_modules(package.__path__))
    tasks = [name for name in modules if name.startswith("simple")]
    if config.key not in tasks:
        raise EnvError(
            f"mpe2 has no task {config.key!r}.{did_you_mean(config.key, tasks)} "
            f"It has: {', '.join(tasks)}."
        )
    build: Any = importlib.import_module(f"mpe2.{config.key}").parallel_env
    return ParallelTeam(
        functools.partial(
            build, max_cycles=config.time_limit, continuous_actions=config.continuous_actions
        ),
        config,
    )
