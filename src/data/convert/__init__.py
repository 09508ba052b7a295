"""Published formats of recorded episodes, read into ours. Nothing is unpickled in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..dataset import Dataset
from ..dataset.writer import refuse_what_is_there
from .alberdice import read_alberdice
from .foreign import Found, Place, write
from .madt import read_madt
from .omiga import read_omiga
from .vault import read_vault

READERS: dict[str, Callable[[Path, int | None], Found]] = {
    "alberdice": read_alberdice,
    "madt": read_madt,
    "omiga": read_omiga,
    "vault": read_vault,
}
"""Format -> what finds the episodes at a path, given the environment's step limit where it is known."""


def convert(name: str, source: Path, destination: Path, place: Place | None = None) -> Dataset:
    """Read episodes of the format ``name`` at ``source`` into a new dataset.

    Args:
        place: the environment that they are of, if the user says so: the dataset is then one of it.

    Raises:
        DatasetError: there is something at ``destination``, or what is at ``source`` is not what the format
            or the environment says; names file and place.
        MissingDependencyError: the format needs a package that is not installed.
    """
    refuse_what_is_there(destination)
    found = READERS[name](source, None if place is None else place.spec.episode_limit)
    write(found, source, destination, place)
    return Dataset.open(destination)
