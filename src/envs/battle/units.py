"""Unit types: what the game's data says, turned into tables per unit slot.

The JSON keeps the game's own clock ("normal" seconds); tables are in game loops, 16 to the second.
Source: Liberty data layer of StarCraft II 4.10 (profile ``liberty``, the layer SMAC's maps load) and
the Legacy-of-the-Void balance layer (profile ``lotv``).
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import EnvError, did_you_mean

LOOPS_PER_SECOND = 16.0
PROFILES = ("liberty", "lotv")
DATA = Path(__file__).resolve().parent / "data"

GROUND, AIR, COLOSSUS = 0, 1, 2  # planes of collision
NOTHING, INSTANT, MISSILE, LINE, BURST = 0, 1, 2, 3, 4  # how damage travels
_PLANES = {"ground": GROUND, "air": AIR, "colossus": COLOSSUS}
_DELIVERIES = {"instant": INSTANT, "missile": MISSILE, "line": LINE, "burst": BURST}

SHIELD_DELAY = 160  # loops without a hit before shields return
SHIELD_RATE = 0.125  # per loop


class Stats(NamedTuple):
    """Read-only numbers of every unit of a map, by unit slot (M) or pair of unit kinds (K, K)."""

    kind: NDArray[np.int32]  # row in the pair tables
    enemy: NDArray[np.int32]  # 0 ally, 1 enemy
    plane: NDArray[np.int32]
    radius: NDArray[np.float64]  # for ranges
    separation: NDArray[np.float64]  # for collisions
    speed: NDArray[np.float64]  # per loop
    acceleration: NDArray[np.float64]  # per loop squared; 0: at once
    health: NDArray[np.float64]
    shield: NDArray[np.float64]
    energy: NDArray[np.float64]
    energy_start: NDArray[np.float64]
    energy_regen: NDArray[np.float64]  # per loop
    health_regen: NDArray[np.float64]  # per loop
    reach: NDArray[np.float64]  # weapon range, edge to edge
    slop: NDArray[np.float64]  # extra range for a shot already started
    scan: NDArray[np.float64]  # how far an enemy looks for targets, edge to edge
    period: NDArray[np.float64]  # between shots
    damage_point: NDArray[np.float64]  # from the start of a shot to its damage
    backswing: NDArray[np.float64]  # standing still after a shot unless ordered
    delivery: NDArray[np.int32]
    hits: NDArray[np.int32]  # per shot
    gap: NDArray[np.float64]  # between two hits of a shot
    missile_speed: NDArray[np.float64]  # per loop
    heal_rate: NDArray[np.float64]  # health per loop, 0 for units that cannot heal
    heal_cost: NDArray[np.float64]  # energy per health
    heal_reach: NDArray[np.float64]
    heal_search: NDArray[np.float64]
    heal_minimum: NDArray[np.float64]  # energy to start healing unasked
    biological: NDArray[np.int32]
    max_cooldown: NDArray[np.float64]  # SMAC's divisors for the state
    damage: NDArray[np.float64]  # (K, K), one hit with its bonus, before armor
    armor: NDArray[np.float64]  # (K,)
    can_hit: NDArray[np.bool_]  # (K, K)
    threat: NDArray[np.bool_]  # (K, K): the column's unit endangers the row's


@cache
def unit_data(profile: str) -> dict[str, dict[str, Any]]:
    """Records of all unit types in a profile, by name.

    Raises:
        EnvError: no such profile.
    """
    if profile not in PROFILES:
        raise EnvError(
            f"unknown profile {profile!r}; profiles are {', '.join(PROFILES)}."
            + did_you_mean(profile, PROFILES)
        )
    with open(DATA / "units.json", encoding="utf-8") as file:
        units: dict[str, dict[str, Any]] = json.load(file)["units"]
    for unit in units.values():
        changes = unit.pop("lotv", {})
        if profile == "lotv":
            for weapon, change in zip(unit["weapons"], changes.pop("weapons", []), strict=False):
                weapon.update(change)
            unit.update(changes)
    return units


def build_stats(allies: tuple[str, ...], enemies: tuple[str, ...], profile: str) -> Stats:
    """Tables for a roster.

    Args:
        allies: unit type of each agent.
        enemies: unit type of each enemy.
        profile: ``"liberty"`` or ``"lotv"``.
    """
    data = unit_data(profile)
    names = [*allies, *enemies]
    kinds = sorted(set(names))
    n_allies = len(allies)
    seconds = LOOPS_PER_SECOND

    def weapon(name: str, key: str, default: float = 0.0) -> float:
        """Of the first weapon; a second one (hydralisk in melee) differs in its damage point only."""
        weapons = data[name]["weapons"]
        return float(weapons[0].get(key, default)) if weapons else default

    def reals(values: list[float]) -> NDArray[np.float64]:
        return np.array(values, dtype=np.float64)

    def wholes(values: list[int]) -> NDArray[np.int32]:
        return np.array(values, dtype=np.int32)

    def plain(key: str, scale: float = 1.0) -> NDArray[np.float64]:
        return reals([float(data[n].get(key) or 0.0) * scale for n in names])

    def armed(key: str, scale: float = 1.0) -> NDArray[np.float64]:
        return reals([weapon(n, key) * scale for n in names])

    def healing(key: str, scale: float = 1.0) -> NDArray[np.float64]:
        return reals([float(data[n].get("heal", {}).get(key, 0.0)) * scale for n in names])

    shape = (len(kinds), len(kinds))
    damage, can_hit, threat = np.zeros(shape), np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    for row, attacker in enumerate(kinds):
        for column, target in enumerate(kinds):
            for arm in data[attacker]["weapons"][:1]:
                bonus = sum(v for k, v in arm["bonus"].items() if k in data[target]["attributes"])
                damage[row, column] = arm["damage"] + bonus
                can_hit[row, column] = bool(set(arm["targets"]) & set(data[target]["layers"]))
    for row in range(len(kinds)):
        for column, other in enumerate(kinds):
            threat[row, column] = can_hit[column, row] or "heal" in data[other]

    health = plain("health")
    for slot, name in enumerate(names[n_allies:], n_allies):
        # The maps' own copies of a unit, used for the allies, pin its health whatever the profile.
        health[slot] = data[name].get("enemy_health", data[name]["health"])
    hits = {n: int(weapon(n, "hits")) for n in kinds}
    return Stats(
        kind=wholes([kinds.index(n) for n in names]),
        enemy=wholes([int(i >= n_allies) for i in range(len(names))]),
        plane=wholes([_PLANES[data[n]["plane"]] for n in names]),
        radius=plain("radius"),
        separation=plain("separation_radius"),
        speed=plain("speed", 1 / seconds),
        acceleration=plain("acceleration", 1 / seconds**2),
        health=health,
        shield=plain("shield"),
        energy=plain("energy"),
        energy_start=plain("energy_start"),
        energy_regen=plain("energy_regen", 1 / seconds),
        health_regen=plain("health_regen", 1 / seconds),
        reach=armed("range"),
        slop=armed("range_slop"),
        scan=reals([max(weapon(n, "range"), weapon(n, "min_scan_range")) for n in names]),
        period=armed("period", seconds),
        damage_point=armed("damage_point", seconds),
        backswing=armed("backswing", seconds),
        delivery=wholes(
            [
                _DELIVERIES[data[n]["weapons"][0]["delivery"]] if data[n]["weapons"] else NOTHING
                for n in names
            ]
        ),
        hits=wholes([hits[n] for n in names]),
        gap=armed("gap", seconds),
        missile_speed=armed("missile_speed", 1 / seconds),
        heal_rate=healing("rate", 1 / seconds),
        heal_cost=healing("energy_per_health"),
        heal_reach=healing("range"),
        heal_search=healing("search_range"),
        heal_minimum=healing("min_energy"),
        biological=wholes([int("Biological" in data[n]["attributes"]) for n in names]),
        max_cooldown=plain("max_cooldown"),
        damage=damage,
        armor=reals([float(data[n]["armor"]) for n in kinds]),
        can_hit=can_hit,
        threat=threat,
    )
