"""What callers hand in, checked before a kernel sees it: kernels trust shapes, types and numbers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...errors import EnvError, did_you_mean
from .maps import BattleMap, terrain_names
from .pitch import PITCH
from .rules import MAP_SIZE
from .units import unit_data


def whole(name: str, value: Any, least: int) -> int:
    """A whole number of at least ``least``.

    Raises:
        EnvError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise EnvError(f"{name} must be a whole number of at least {least}, got {value!r}.")
    return int(value)


def flag(name: str, value: Any) -> bool:
    """True or false, and nothing that merely counts as such.

    Raises:
        EnvError: it is neither.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise EnvError(f"{name} must be true or false, got {value!r}.")
    return bool(value)


def numbers(name: str, values: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Finite numbers of one shape.

    Raises:
        EnvError: another shape, something else than numbers, or infinite ones.
    """
    wanted = f"{name} must be finite numbers of shape {shape}"
    array = _array(wanted, values)
    if array.dtype.kind not in "biuf":
        raise EnvError(f"{wanted}, got {array.dtype}.")
    if array.shape != shape:
        raise EnvError(f"{wanted}, got shape {array.shape}.")
    if not np.isfinite(array).all():
        raise EnvError(f"{wanted}, got some that are not finite.")
    return np.asarray(array, np.float64)


def integers(name: str, values: ArrayLike, shape: tuple[int, ...], axes: str) -> NDArray[np.int64]:
    """Integers of one shape; those beyond 64 bits become the largest there are.

    Raises:
        EnvError: another shape or type.
    """
    wanted = f"{name} must be integers of shape {shape} ({axes})"
    array = _array(wanted, values)
    if array.shape != shape or array.dtype.kind not in "iu":
        raise EnvError(f"{wanted}, got {array.dtype} of shape {array.shape}.")
    if array.dtype == np.uint64:
        array = np.minimum(array, np.uint64(np.iinfo(np.int64).max))
    return np.ascontiguousarray(array, dtype=np.int64)


def own_map(battle_map: BattleMap) -> BattleMap:
    """A map that the caller made.

    Raises:
        EnvError: no units or too many, unknown ones, an unknown terrain, places that are missing or off the
            map, type columns beyond the width, or a limit below 1.
    """
    name = f"map {battle_map.name!r}"
    known = unit_data("liberty")
    for side, start, bits in (
        ("agents", "ally_start", "ally_bits"),
        ("enemies", "enemy_start", "enemy_bits"),
    ):
        units, places = getattr(battle_map, side), getattr(battle_map, start)
        if not units:
            raise EnvError(f"{name} has no {side}.")
        for unit in units:
            _known(name, "unit", unit, known, f" among its {side}")
        _places(f"{name}: {start}", places, (len(units), 2))
        for unit, column in getattr(battle_map, bits):
            if not 0 <= column < battle_map.unit_type_bits:
                raise EnvError(
                    f"{name}: {bits} gives {unit} column {column}, but unit_type_bits is "
                    f"{battle_map.unit_type_bits}."
                )
    for goal in ("enemy_goal", "enemy_goal_end", "ally_goal"):
        if getattr(battle_map, goal) is not None:
            _places(f"{name}: {goal}", getattr(battle_map, goal), (2,))
    _known(name, "terrain", battle_map.terrain, terrain_names())
    whole(f"{name}: limit", battle_map.limit, 1)
    n_units = len(battle_map.agents) + len(battle_map.enemies)
    if n_units > PITCH:
        raise EnvError(f"{name} has {n_units} units; a battle has room for at most {PITCH}.")
    return battle_map


def saved_state(saved: dict[str, Any], own: dict[str, Any]) -> None:
    """A state to go on from, against the one that the battles have now.

    Raises:
        EnvError: no such state, or one of another map, other settings or another number of battles.
    """
    if not isinstance(saved, dict) or saved.keys() != own.keys():
        raise EnvError(f"a saved state has the entries {', '.join(own)}; this one has others.")
    if saved["map"] != own["map"] or _shapes(saved) != _shapes(own):
        theirs, ours = (len(state["battles"].get("battle", ())) for state in (saved, own))
        raise EnvError(
            f"saved state is of {theirs} battles on {saved['map']!r}, "
            f"this object runs {ours} on {own['map']!r}."
        )
    before, now = saved["settings"], own["settings"]
    differ = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if differ:
        raise EnvError(
            f"saved state is of battles with {', '.join(f'{k}={before.get(k)}' for k in differ)}; "
            f"these have {', '.join(f'{k}={now.get(k)}' for k in differ)}."
        )


def _shapes(state: dict[str, Any]) -> list[dict[str, tuple[int, ...]]]:
    return [{k: np.shape(v) for k, v in state[group].items()} for group in ("battles", "outputs")]


def _known(where: str, kind: str, name: Any, names: Collection[str], among: str = "") -> None:
    if name not in names:
        raise EnvError(
            f"{where}: unknown {kind} {name!r}{among}.{did_you_mean(str(name), names)} "
            f"{kind.capitalize()}s are {', '.join(names)}."
        )


def _places(name: str, places: ArrayLike, shape: tuple[int, ...]) -> None:
    array = numbers(name, places, shape)
    if not ((array >= 0) & (array <= MAP_SIZE)).all():
        raise EnvError(f"{name} must lie on the map, from 0 to {MAP_SIZE:g}, got {places!r}.")


def _array(wanted: str, values: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except (ValueError, TypeError) as error:  # rows of unequal length
        raise EnvError(f"{wanted}, got something uneven ({error}).") from None
