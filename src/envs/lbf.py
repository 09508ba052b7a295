"""Level-based foraging: agents on a grid load food that only enough of them together can lift."""

from __future__ import annotations

import functools

from pydantic import Field

from ..registry import ENVS, require
from .adapter import LiftedEnv
from .gymma import GymTeam
from .single import Seen
from .team import TeamConfig


class ForagingTeam(GymTeam):
    """The game, whose episodes are made to depend on their seeds and actions alone.

    The library's reset puts nothing where the players of the episode before stood last.
    """

    def reset(self, seed: int) -> Seen:
        """Start an episode."""
        for player in self._env.unwrapped.players:
            player.position = None
        return super().reset(seed)


@ENVS.register("lbf")
class ForagingEnv(LiftedEnv):
    """Level-based foraging on a grid (Papoudakis et al., 2021), from the package lbforaging."""

    class Config(TeamConfig):
        key: str = Field(
            "Foraging-8x8-2p-1f-coop-v3",
            min_length=1,
            description="task: Foraging[-2s]-<grid>-<players>p-<foods>f[-coop]-v3",
        )

    def __init__(self, config: Config, *, num_envs: int, seed: int) -> None:
        require("lbforaging", "lbf", "env lbf")
        key = f"lbforaging:{config.key.removeprefix('lbforaging:')}"
        make = functools.partial(ForagingTeam, key, config)
        super().__init__(make, num_envs=num_envs, seed=seed, config=config)
