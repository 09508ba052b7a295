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

# SMACv2's maps: unit types in the order of their feature columns, with the benchmark's weights.
GENERATED = {
    "10gen_terran": {"Marine": 0.45, "Marauder": 0.45, "Medivac": 0.1},
    "10gen_protoss": {"Stalker": 0.45, "Zealot": 0.45, "Colossus": 0.1},
    "10gen_zerg": {"Zergling": 0.45, "Hydralisk": 0.45, "Baneling": 0.1},
}


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
        enemy_goal_end: if given, the point is drawn in each episode, evenly between ``enemy_goal``
            and this one.
        enemies_hunt: enemies with nobody in sight go for the nearest agent, wherever it is.
        ally_goal: the mirror of it, for allies under the enemies' rule.
        ally_bits, enemy_bits: column of each unit type in the one-hot type features.
        unit_type_bits: width of those features, 0 without.
        medics: whether a medivac's attack actions heal (SMAC's MMM maps).
        map_type: SMAC's name for the kinds of units on the map.
        generated: teams and places are drawn in each episode (SMACv2); rosters and starts only say
            how many there are.
    """

    name: str
    agents: tuple[str, ...]
    enemies: tuple[str, ...]
    ally_start: tuple[tuple[float, float], ...]
    enemy_start: tuple[tuple[float, float], ...]
    limit: int
    terrain: str = "strip_32x16"
    enemy_goal: tuple[float, float] | None = (9.0, 16.0)
    enemy_goal_end: tuple[float, float] | None = None
    enemies_hunt: bool = False
    ally_goal: tuple[float, float] | None = (23.0, 16.0)
    ally_bits: tuple[tuple[str, int], ...] = ()
    enemy_bits: tuple[tuple[str, int], ...] = ()
    unit_type_bits: int = 0
    medics: bool = False
    map_type: str = ""
    generated: bool = False

    @property
    def ally_shields(self) -> bool:
        """Whether allies are Protoss, so that shields are observed."""
        return bool(unit_data("liberty")[self.agents[0]]["race"] == "P")

    @property
    def enemy_shields(self) -> bool:
        """Whether enemies are Protoss."""
        return bool(unit_data("liberty")[self.enemies[0]]["race"] == "P")


@cache
def _file() -> dict[str, Any]:
    with open(DATA / "maps.json", encoding="utf-8") as file:
        data: dict[str, Any] = json.load(file)
    return data


def terrain_rows(name: str) -> tuple[list[str], list[str]]:
    """Cells and cliff levels of a terrain as the data file draws them, top row (y = 31) first."""
    record = _file()["terrains"][name]
    return record["cells"], record["levels"]


def terrain_names() -> list[str]:
    """Names of the terrains in the data file."""
    return list(_file()["terrains"])


def map_names() -> list[str]:
    """Names of the 23 SMAC maps."""
    return list(_file()["maps"])


@cache
def find_map(name: str) -> BattleMap:
    """A map of the data file.

    Raises:
        EnvError: no such map; lists those there are and the closest name.
    """
    records = _file()["maps"]
    if name in GENERATED:
        raise EnvError(
            f"map {name!r} draws its teams anew in each episode; only VecBattle plays it."
        )
    if not isinstance(name, str) or name not in records:
        known = [*records, *GENERATED]
        raise EnvError(
            f"unknown map {name!r}.{did_you_mean(str(name), known)} Maps are {', '.join(known)}."
        )
    record = records[name]
    order = record["enemy_order"]
    points = order.get("segment", [order["point"]] if "point" in order else [])
    return BattleMap(
        name=name,
        agents=tuple(record["agents"]),
        enemies=tuple(record["enemies"]),
        ally_start=tuple((x, y) for x, y in record["ally_start"]),
        enemy_start=tuple((x, y) for x, y in record["enemy_start"]),
        limit=record["limit"],
        terrain=record["terrain"],
        enemy_goal=tuple(points[0]) if points else None,
        enemy_goal_end=tuple(points[1]) if len(points) > 1 else None,
        enemies_hunt=order["kind"] == "attack_unit_group",
        ally_goal=tuple(record["enemy_spawns"][0][2]),
        ally_bits=tuple(record["ally_type_bit"].items()),
        enemy_bits=tuple(record["enemy_type_bit"].items()),
        unit_type_bits=record["unit_type_bits"],
        medics=record["map_type"] == "MMM",
        map_type=record["map_type"],
    )


def map_info(name: str) -> dict[str, Any]:
    """Facts about a map: rosters, limit, terrain.

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
    }
