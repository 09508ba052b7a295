"""What a sink is: something that is told of a run and given its points."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from ...registry import PartConfig


class Point(NamedTuple):
    """One number of a run."""

    name: str
    step: int
    value: float  # may be NaN or infinite
    time: float  # seconds since 1970


@dataclass(frozen=True)
class About:
    """The run whose points come.

    Attributes:
        uid: its name for good.
        name: of its algorithm.
        task: map, key or game.
        project: what the user files it under.
        folder: where a sink may write what it keeps on disk.
        config: composed, nested.
        resumed: it goes on from a checkpoint.
    """

    uid: str
    name: str
    task: str
    project: str
    folder: Path
    config: Mapping[str, Any]
    resumed: bool


class Sink(ABC):
    """Takes a run's points. It works on a thread of its own and may fail or hang without harm to the run.

    Its constructor, called before the run is recorded, is the place to miss a package.

    Attributes:
        replays: of a resumed run it is given all points from the first, and begins anew; otherwise those
            that come from now on.
    """

    class Config(PartConfig):
        """A sink has no keys; what its service needs it reads from the environment."""

    replays: ClassVar[bool] = False

    @abstractmethod
    def begin(self, run: About) -> None:
        """The run starts, or goes on."""

    @abstractmethod
    def write(self, points: Sequence[Point]) -> None:
        """Take ``points``, in the order in which they were logged."""

    @abstractmethod
    def end(self, status: str) -> None:
        """The run is over: ``COMPLETED``, ``FAILED``, ``INTERRUPTED``."""
