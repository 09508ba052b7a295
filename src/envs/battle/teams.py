"""Teams and places that a caller chooses, where otherwise they are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...errors import EnvError, did_you_mean
from .door import numbers
from .generation import ALLY_CAMP, ENEMY_CAMP
from .rules import MAP_SIZE

_ENTRIES = ("team_gen", "ally_start_positions", "enemy_start_positions")


class Fielded(NamedTuple):
    """Who fights in one episode of one battle, in order of creation."""

    episode: int
    kinds: NDArray[np.int64]  # (M,)
    places: NDArray[np.float64]  # (M, 2)


def camps(n_agents: int, n_enemies: int) -> NDArray[np.float64]:
    """Two camps that face each other: (M, 2)."""
    return np.array([ALLY_CAMP] * n_agents + [ENEMY_CAMP] * n_enemies)


def kind_numbers(kinds: Sequence[str], known: Sequence[str], sizes: tuple[int, int]) -> list[int]:
    """Place of each unit type (M,) among those known, whatever its capitals.

    Raises:
        EnvError: unknown types, or not one per unit.
    """
    names = [name.lower() for name in known]
    wanted = [str(kind).lower() for kind in kinds]
    if len(wanted) != sum(sizes):
        raise EnvError(
            f"the teams must be {sizes[0]} agents and {sizes[1]} enemies, got {len(wanted)} unit types."
        )
    for kind in wanted:
        if kind not in names:
            raise EnvError(
                f"unit type {kind!r} is not one this battle draws from."
                f"{did_you_mean(kind, names)} Types are {', '.join(names)}."
            )
    return [names.index(kind) for kind in wanted]


def on_map(places: ArrayLike, n_units: int) -> NDArray[np.float64]:
    """Checked places (M, 2).

    Raises:
        EnvError: another shape, or beyond the map.
    """
    array = np.array(numbers("places", places, (n_units, 2)), np.float64)
    if not ((array >= 0) & (array <= MAP_SIZE)).all():
        raise EnvError(f"places must lie on the map, from 0 to {MAP_SIZE:g}, got {places!r}.")
    return array


def read_episode(
    config: Mapping[str, Any], sizes: tuple[int, int]
) -> tuple[list[str] | None, NDArray[np.float64] | None]:
    """Unit types (M,) and places (M, 2) in what SMACv2's wrapper hands to ``reset``; None: not given.

    Raises:
        EnvError: an entry that the engine does not offer, one team or side without the other, or sizes
            other than ``sizes`` (N, E).
    """
    for key in config:
        if key not in _ENTRIES:
            raise EnvError(
                f"reset() got {key!r}, which the battle engine does not offer."
                f"{did_you_mean(str(key), _ENTRIES)} It takes {', '.join(_ENTRIES)}."
            )
    team = config.get("team_gen", {})
    kinds = _pair(team, ("ally_team", "enemy_team"), sizes, "team_gen of reset()")
    given = {key: config[key]["item"] for key in _ENTRIES[1:] if key in config}
    places = _pair(given, _ENTRIES[1:], sizes, "reset()")
    return (
        None if kinds is None else [*kinds[0], *kinds[1]],
        None if places is None else np.concatenate([np.asarray(side) for side in places]),
    )


def _pair(
    given: Mapping[str, Any], keys: Sequence[str], sizes: tuple[int, int], where: str
) -> list[Any] | None:
    """What is given for the agents and for the enemies."""
    sides = [given.get(key) for key in keys]
    if all(side is None for side in sides):
        return None
    for key, side, size in zip(keys, sides, sizes, strict=True):
        if side is None or len(side) != size:
            raise EnvError(
                f"{where} needs {keys[0]} and {keys[1]} of {sizes[0]} and {sizes[1]} units; "
                f"{key} has {'none' if side is None else len(side)}."
            )
    return sides
