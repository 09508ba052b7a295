"""Any environment with PettingZoo's parallel API, one's own included."""

from __future__ import annotations

import functools
import importlib
from typing import Any

from pydantic import Field

from ..errors import EnvError, MissingDependencyError, did_you_mean
from ..registry import ENVS, require
from .adapter import LiftedEnv
from .gate import blamed
from .parallel_api import ParallelConfig, ParallelTeam


@ENVS.register("pettingzoo")
class PettingZooEnv(LiftedEnv):
    """Any parallel PettingZoo environment, chosen by ``key``: a module and what builds it.

    The state is all observations in a row. ``make_args`` go to the function or class that ``key`` names.
    A module of your own is found where it is installed, or beside a file named in ``plugins``.
    """

    class Config(ParallelConfig):
        key: str = Field(
            min_length=1,
            description="package.module:name of a function or class, e.g. "
            "pettingzoo.sisl.pursuit_v5:parallel_env; the name parallel_env may be left out",
        )

    def __init__(self, config: Config, *, num_envs: int, seed: int) -> None:
        # Every team with this API is described by Gymnasium's spaces.
        require("gymnasium", "gymma", f"env pettingzoo ({config.key})")
        make = functools.partial(_team, config)
        super().__init__(make, num_envs=num_envs, seed=seed, config=config)


def _team(config: PettingZooEnv.Config) -> ParallelTeam:
    return ParallelTeam(functools.partial(_build, config.key), config)


def _build(key: str, **make_args: Any) -> Any:
    module_name, _, name = key.partition(":")
    name = name or "parallel_env"
    try:
        with blamed(key, "failed while its module was imported"):
            module = importlib.import_module(module_name)
    except EnvError as error:
        if not isinstance(error.__cause__, ImportError):
            raise
        raise MissingDependencyError(
            f"env pettingzoo: key={key} names the module {module_name!r}, which cannot be imported "
            f"({error.__cause__}). Install the package it belongs to, or name its file: "
            f"plugins=[{module_name}.py]."
        ) from error
    make = getattr(module, name, None)
    if not callable(make):
        offered = [n for n in dir(module) if callable(getattr(module, n)) and not n.startswith("_")]
        raise EnvError(
            f"env pettingzoo: the module {module_name!r} has no function or class {name!r}."
            f"{did_you_mean(name, offered)} Write key={module_name}:NAME."
        )
    with blamed(key, f"could not be built with make_args={make_args}"):
        env = make(**make_args)
    if not callable(getattr(env, "observation_space", None)) or not hasattr(env, "possible_agents"):
        raise EnvError(
            f"env pettingzoo: {key} builds a {type(env).__name__}, which has not PettingZoo's parallel API "
            "(possible_agents, observation_space(agent), step(dict) ...). Of an AEC environment choose "
            "`parallel_env`; Gymnasium's teams of tuples are env=gymma."
        )
    return env
