"""SMACv2's wrapper of its class, by name and by arguments."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import EnvError
from .smac import StarCraft2Env


class StarCraftCapabilityEnvWrapper:
    """SMACv2's ``StarCraftCapabilityEnvWrapper`` without StarCraft II.

    Takes :class:`.StarCraft2Env`'s keywords, among them a ``capability_config``, and offers all that the
    class does; :meth:`reset` begins an episode with teams and places drawn from it. They come from the seed,
    where SMACv2's come from generators of their own that nobody can seed.

    Attributes:
        env: the :class:`.StarCraft2Env`.
        distribution_config: the ``capability_config``.

    Raises:
        EnvError: no ``capability_config``, or what :class:`.StarCraft2Env` refuses.
    """

    def __init__(self, **kwargs: Any) -> None:
        if not kwargs.get("capability_config"):
            raise EnvError(
                "StarCraftCapabilityEnvWrapper needs a capability_config: n_units, n_enemies, team_gen and "
                "start_positions. StarCraft2Env does without."
            )
        self.distribution_config = kwargs["capability_config"]
        self.env = StarCraft2Env(**kwargs)

    def reset(self) -> tuple[list[NDArray[Any]], NDArray[np.float32]]:
        """Begin an episode with new teams; returns ``(get_obs(), get_state())``."""
        return self.env.reset()

    def __getattr__(self, name: str) -> Any:
        if name == "env":  # not made yet: copying and unpickling ask for it first
            raise AttributeError(name)
        return getattr(self.env, name)
