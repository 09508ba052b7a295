"""Small games for the adapter tests; spawned processes import them from here."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from phalanx.envs.protocol import Discrete, EnvSpec
from phalanx.envs.single import Seen

Fault = Literal["", "raise", "exit", "hang"]


def _take_one(flag: Path) -> bool:
    """Shorten the file by a byte, if it has one; two copies never take the same."""
    with flag.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        left = file.seek(0, os.SEEK_END)
        file.truncate(max(left - 1, 0))
    return left > 0


class Walk:
    """Two agents drift randomly; the episode's length depends on its seed.

    Args:
        fault: what goes wrong.
        when: ``reset``, or ``step`` (the second one).
        flag: file as many bytes long as times it still goes wrong; empty means always.
    """

    def __init__(self, fault: Fault = "", when: str = "step", flag: str = "") -> None:
        self.spec = EnvSpec(
            n_agents=2,
            obs_dim=3,
            state_dim=2,
            action=Discrete(4),
            episode_limit=9,
            has_alive=True,
            has_visibility=True,
        )
        self._fault, self._when, self._flag = fault, when, flag

    def reset(self, seed: int) -> Seen:
        self._rng = np.random.default_rng(seed)
        self._length, self._t = int(self._rng.integers(4, 9)), 0
        self._place = self._rng.normal(size=(2, 3)).astype(np.float32)
        if self._when == "reset":
            self._misbehave()
        return self._seen(0.0)

    def step(self, actions: Sequence[int]) -> Seen:
        self._t += 1
        if self._when == "step" and self._t == 2:
            self._misbehave()
        self._place += self._rng.normal(size=(2, 3)).astype(np.float32) + np.array(actions)[:, None]
        return self._seen(float(self._place.sum()))

    def _misbehave(self) -> None:
        if self._flag and not _take_one(Path(self._flag)):
            return
        if self._fault == "raise":
            raise ZeroDivisionError("the game crashed")
        if self._fault == "exit":
            os._exit(7)
        if self._fault == "hang":
            time.sleep(600)

    def _seen(self, reward: float) -> Seen:
        over = self._t >= self._length
        return Seen(
            obs=self._place,
            state=self._place.sum(axis=1),
            avail_actions=np.ones((2, 4), np.uint8),
            reward=reward,
            terminated=over and self._length % 2 == 0,
            truncated=over and self._length % 2 == 1,
            alive=np.array([True, self._t < 3]),
            visibility=np.eye(2, dtype=bool),
            info={"won": 1.0} if over else {},
        )

    def describe(self) -> dict[str, Any]:
        return {"game": "walk", "pid": os.getpid()}

    def close(self) -> None:
        pass


class Unrepeatable(Walk):
    """Ignores its seed."""

    def reset(self, seed: int) -> Seen:
        return super().reset(time.time_ns() % 2**32)


class Refusing(Walk):
    """Cannot be built."""

    def __init__(self) -> None:
        from phalanx.errors import EnvError

        raise EnvError("no such map")
