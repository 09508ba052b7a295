"""The maps: who fights whom, where, on what ground.

Source: SMAC's map registry and the ``.SC2Map`` archives that ship with it. Start positions are ours:
the game spreads units created on one point by a placement search of its own; here each takes the free
site nearest the spawn point (0.125 lattice, ties by smaller y, then x).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from ...errors import EnvError, did_you_mean
from .units import DATA, unit_data

# Ground on which a straight line never meets a wall.
OPEN_TERRAINS = ("strip_32x16", "open_32x32")


@dataclass(frozen=True)
class BattleMap:
    """One battle: rosters, start positions, orders and ground.

    Attributes:
        agents: unit type of each agent, in agent order.
        enemies: unit type of each enemy, in creation order.
        ally_start, enemy_start: (x, y) of each unit, in map units.
        limit: longest episode, in env steps.
        terrain: name of a terrain in the data file.
        enemy_goal: point the enemies attack-move to at the start; None: they stay.
        ally_goal: the mirror of it, for allies under the enemies' rule.
        ally_bits, enemy_bits: column of each unit type in the one-hot type features.
        unit_type_bits: width of those features, 0 without.
        medics: whether a medivac's attack actions heal (SMAC's MMM maps).
        map_type: SMAC's name for the kinds of units on the map.
    """

    name: str
    agents: tuple[str, ...]
    enemies: tuple[str, ...]
    ally_start: tuple[tuple[float, float], ...]
    enemy_start: tuple[tuple[float, float], ...]
    limit: int
    terrain: str = "strip_32x16"
    enemy_goal: tuple[float, float] | None = (9.0, 16.0)
    ally_goal: tuple[float, float] | None = (23.0, 16.0)
    ally_bits: tuple[tuple[str, int], ...] = ()
    enemy_bits: tuple[tuple[str, int], ...] = ()
    unit_type_bits: int = 0
    medics: bool = False
    map_type: str = ""

    @property
    def ally_shields(self) -> bool:
        """Whether allies are Protoss, so that shields are observed."""
        return bool(unit_data("liberty")[self.agents[0]]["race"] == "P")

    @property
    def enemy_shields(self) -> bool:
        """Whether enemies are Protoss."""
        return bool(unit_data("liberty")[self.enemies[0]]["race"] == "P")

    @property
    def playable(self) -> bool:
        """Whether battles can be fought here, not only observed."""
        return self.terrain in OPEN_TERRAINS


@cache
def _file() -> dict[str, Any]:
    with open(DATA / "maps.json", encoding="utf-8") as file:
        data: dict[str, Any] = json.load(file)
    return data


def terrain_rows(name: str) -> tuple[list[str], list[str]]:
    """Cells and cliff levels of a terrain as the data file draws them, top row (y = 31) first."""
    record = _file()["terrains"][name]
    return record["cells"], record["levels"]


def map_names(playable: bool = True) -> list[str]:
    """Names of the maps that can be played, or with ``playable=False`` of all 23 SMAC maps."""
    return [name for name in _file()["maps"] if not playable or find_map(name).playable]


@cache
def find_map(name: str) -> BattleMap:
    """A map of the data file.

    Raises:
        EnvError: no such map; lists those there are and the closest name.
    """
    records = _file()["maps"]
    if not isinstance(name, str) or name not in records:
        raise EnvError(
            f"unknown map {name!r}.{did_you_mean(str(name), records)} Maps are {', '.join(records)}."
        )
    record = records[name]
    order = record["enemy_order"]
    return BattleMap(
        name=name,
        agents=tuple(record["agents"]),
        enemies=tuple(record["enemies"]),
        ally_start=tuple((x, y) for x, y in record["ally_start"]),
        enemy_start=tuple((x, y) for x, y in record["enemy_start"]),
        limit=record["limit"],
        terrain=record["terrain"],
        enemy_goal=tuple(order["point"]) if "point" in order else None,
        ally_goal=tuple(record["enemy_spawns"][0][2]),
        ally_bits=tuple(record["ally_type_bit"].items()),
        enemy_bits=tuple(record["enemy_type_bit"].items()),
        unit_type_bits=record["unit_type_bits"],
        medics=record["map_type"] == "MMM",
        map_type=record["map_type"],
    )


def playable_map(name: str | BattleMap) -> BattleMap:
    """A map to fight on, by name or as it is.

    Raises:
        EnvError: no such map, or its ground is not supported yet.
    """
    found = name if isinstance(name, BattleMap) else find_map(name)
    if not found.playable:
        raise EnvError(
            f"map {found.name!r} needs walls and paths (terrain {found.terrain!r}), which the battle "
            f"engine does not support yet; playable maps are {', '.join(map_names())}."
        )
    return found


def map_info(name: str) -> dict[str, Any]:
    """Facts about a map: rosters, limit, terrain, whether it can be played.

    Raises:
        EnvError: no such map.
    """
    found = find_map(name)
    return {
        "name": name,
        "n_agents": len(found.agents),
        "n_enemies": len(found.enemies),
        "n_actions": 6 + len(found.enemies),
        "limit": found.limit,
        "agents": found.agents,
        "enemies": found.enemies,
        "terrain": found.terrain,
        "playable": found.playable,
    }
