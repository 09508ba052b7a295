"""Multi-agent MuJoCo: a robot whose joints are divided among agents, with continuous torques."""

from __future__ import annotations

import functools
import logging
from typing import Any

from pydantic import Field

from ..errors import EnvError
from ..registry import ENVS, require
from .adapter import LiftedEnv
from .parallel_api import ParallelConfig, ParallelTeam
from .team import Scalarisation

log = logging.getLogger("phalanx.envs")


@ENVS.register("mamujoco")
class MujocoEnv(LiftedEnv):
    """Multi-agent MuJoCo (Peng et al., 2021), from the package gymnasium-robotics.

    The state is all observations in a row. Agents may have unequal numbers of joints (as Humanoid 9|8).
    """

    class Config(ParallelConfig):
        scenario: str = Field(
            "HalfCheetah", min_length=1, description="robot: HalfCheetah, Ant ..."
        )
        agent_conf: str = Field(
            "6x1", min_length=1, description="agents x joints of each, e.g. 4x2"
        )
        agent_obsk: int = Field(0, ge=0, description="how many joints away an agent sees")
        time_limit: int = Field(1000, ge=1, description="most steps an episode can last")
        # Every agent is paid the robot's reward.
        reward_scalarisation: Scalarisation = Field(
            "mean", description="how the agents' rewards become the team's: sum | mean"
        )

    def __init__(self, config: Config, *, num_envs: int, seed: int) -> None:
        make = functools.partial(_team, config)
        super().__init__(make, num_envs=num_envs, seed=seed, config=config)


@functools.cache
def _warn_once(text: str) -> None:
    log.warning("MuJoCo: %s", text.strip())


def _team(config: MujocoEnv.Config) -> ParallelTeam:
    part = "env mamujoco"
    module: Any = require("gymnasium_robotics", "mamujoco", part).mamujoco_v1
    # MuJoCo says what it dislikes of a robot's file for each copy of it, past Python's own warnings.
    require("mujoco", "mamujoco", part).set_mju_user_warning(_warn_once)

    def build(**make_args: Any) -> Any:
        try:
            return module.parallel_env(
                scenario=config.scenario,
                agent_conf=config.agent_conf,
                agent_obsk=config.agent_obsk,
                **make_args,
            )
        except Exception as error:  # the library raises bare Exception and AssertionError
            raise EnvError(
                f"{part}: cannot build scenario={config.scenario} agent_conf={config.agent_conf} "
                f"agent_obsk={config.agent_obsk} make_args={make_args} ({error!r})"
            ) from error

    return ParallelTeam(build, config)
