"""Unit types: what the game's data says, turned into one record per unit of a map.

The JSON keeps the game's own clock ("normal" seconds); records are in game loops, 16 to the second.
Source: Liberty data layer of StarCraft II 4.10 (profile ``liberty``, the layer SMAC's maps load) and
the Legacy-of-the-Void balance layer (profile ``lotv``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import EnvError, did_you_mean

LOOPS_PER_SECOND = 16.0
PROFILES = ("liberty", "lotv")
DATA = Path(__file__).resolve().parent / "data"

GROUND, AIR, COLOSSUS = 0, 1, 2  # planes of collision
NOTHING, INSTANT, MISSILE, LINE, BURST = 0, 1, 2, 3, 4  # how damage travels
ATTRIBUTES = ("Light", "Armored", "Biological", "Mechanical", "Massive", "Structure")
SHOOT_RANGE = 6.0  # SMAC lets every unit choose targets this near, whatever its weapon
SIGHT_RANGE = 9.0
SHOWN_SHIELD = {"Stalker": 80.0, "Zealot": 50.0, "Colossus": 150.0}  # SMAC, unit_max_shield
GAME_TYPES = {
    "Colossus": 4,
    "Baneling": 9,
    "Marine": 48,
    "Marauder": 51,
    "Medivac": 54,
    "Zealot": 73,
    "Stalker": 74,
    "SpineCrawler": 98,
    "Zergling": 105,
    "Hydralisk": 107,
}  # the game's numbers of its unit types
GROUND_LAYER, AIR_LAYER = 1, 2  # bits of what a unit is to weapons
_LAYERS = {"ground": GROUND_LAYER, "air": AIR_LAYER}
_PLANES = {"ground": GROUND, "air": AIR, "colossus": COLOSSUS}
STRUCTURE = 1 << ATTRIBUTES.index("Structure")
_DELIVERIES = {"instant": INSTANT, "missile": MISSILE, "line": LINE, "burst": BURST}

SHIELD_DELAY = 160  # loops without a hit before shields return
SHIELD_RATE = 0.125  # per loop


# One record per unit slot (M). Read-only in a battle.
SLOT = np.dtype(
    [
        ("enemy", np.int32),  # 0 ally, 1 enemy
        ("rank", np.int32),  # place within its side
        ("plane", np.int32),
        ("radius", np.float64),  # for ranges
        ("separation", np.float64),  # for collisions
        ("speed", np.float64),  # per loop
        ("acceleration", np.float64),  # per loop squared; 0: at once
        ("health", np.float64),
        ("shield", np.float64),
        ("armor", np.float64),
        ("energy", np.float64),
        ("energy_start", np.float64),
        ("energy_regen", np.float64),  # per loop
        ("health_regen", np.float64),  # per loop
        ("layers", np.int32),  # bits of what it is to weapons: ground, air or both
        ("attributes", np.int32),  # bits of ATTRIBUTES
        ("targets", np.int32),  # bits of the layers its weapon hits
        ("damage", np.float64),  # one hit
        ("bonus", np.float64),  # more, against any of bonus_attributes
        ("bonus_attributes", np.int32),
        ("hits", np.int32),  # per shot
        ("gap", np.float64),  # loops between two hits of a shot
        ("reach", np.float64),  # weapon range, edge to edge
        ("slop", np.float64),  # extra range for a shot already started
        ("scan", np.float64),  # how far an enemy looks for targets, edge to edge
        ("period", np.float64),  # between shots
        ("damage_point", np.float64),  # from the start of a shot to its damage
        ("backswing", np.float64),  # standing still after a shot unless ordered
        ("delivery", np.int32),
        ("missile_speed", np.float64),  # per loop
        ("melee_reach", np.float64),  # nearer than this a missile is not used, but a stab
        ("melee_point", np.float64),  # damage point of that
        ("burst_radius", np.float64),  # of an explosion, to the rim of those around
        ("burst_structures", np.float64),  # its damage to structures
        ("heal_rate", np.float64),  # health per loop, 0 for units that cannot heal
        ("heal_cost", np.float64),  # energy per health
        ("heal_reach", np.float64),
        ("heal_search", np.float64),
        ("heal_minimum", np.float64),  # energy to start healing unasked
        ("biological", np.int32),
        ("max_cooldown", np.float64),  # SMAC's divisor of cooldown or energy
        ("shown_shield", np.float64),  # SMAC's divisor of shields
        ("type_bit", np.int64),  # SMAC's column in the one-hot type
        ("shoot", np.float64),  # attack actions are available up to here, between centres
        ("sight", np.float64),  # an agent sees less far than this
    ],
    align=True,
)
Slots = NDArray[Any]  # (M,) of SLOT


@cache
def unit_data(profile: str) -> dict[str, dict[str, Any]]:
    """Records of all unit types in a profile, by name.

    Raises:
        EnvError: no such profile.
    """
    if profile not in PROFILES:
        raise EnvError(
            f"unknown profile {profile!r}; profiles are {', '.join(PROFILES)}."
            + did_you_mean(str(profile), PROFILES)
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


def build_slots(
    allies: tuple[str, ...],
    enemies: tuple[str, ...],
    profile: str,
    ally_bits: dict[str, int],
    enemy_bits: dict[str, int],
) -> Slots:
    """Records (M,) of a roster's units, allies first.

    Args:
        allies: unit type of each agent.
        enemies: unit type of each enemy.
        profile: ``"liberty"`` or ``"lotv"``.
        ally_bits, enemy_bits: column of each type in the one-hot type features.
    """
    data = unit_data(profile)
    slots = np.zeros(len(allies) + len(enemies), SLOT)
    for slot, name in zip(slots, [*allies, *enemies], strict=True):
        _fill_body(slot, data[name])
        if data[name]["weapons"]:
            _fill_weapon(slot, data[name]["weapons"][0])
        for melee in data[name]["weapons"][1:]:  # the hydralisk's; all else is the same
            slot["melee_reach"] = melee["range"]
            slot["melee_point"] = melee["damage_point"] * LOOPS_PER_SECOND
        slot["shown_shield"] = SHOWN_SHIELD.get(name, 1.0)
        slot["shoot"], slot["sight"] = SHOOT_RANGE, SIGHT_RANGE
    slots["rank"] = [*range(len(allies)), *range(len(enemies))]
    for slot, name in zip(slots[: len(allies)], allies, strict=True):
        slot["type_bit"] = ally_bits.get(name, 0)
    for slot, name in zip(slots[len(allies) :], enemies, strict=True):
        slot["enemy"] = 1
        slot["type_bit"] = enemy_bits.get(name, 0)
        # The maps' own copies of a unit, used for the allies, pin its health whatever the profile.
        slot["health"] = data[name].get("enemy_health", data[name]["health"])
    return slots


def _fill_body(slot: Any, unit: dict[str, Any]) -> None:
    second = LOOPS_PER_SECOND
    slot["plane"] = _PLANES[unit["plane"]]
    slot["layers"] = sum(_LAYERS[layer] for layer in unit["layers"])
    slot["attributes"] = _bits(unit["attributes"])
    slot["biological"] = "Biological" in unit["attributes"]
    for key in ("radius", "health", "shield", "armor", "max_cooldown"):
        slot[key] = unit[key]
    slot["separation"] = unit["separation_radius"]
    slot["speed"] = unit["speed"] / second
    slot["acceleration"] = (unit["acceleration"] or 0.0) / second**2
    slot["health_regen"] = unit.get("health_regen", 0.0) / second
    slot["energy"] = unit.get("energy", 0.0)
    slot["energy_start"] = unit.get("energy_start", 0.0)
    slot["energy_regen"] = unit.get("energy_regen", 0.0) / second
    if "heal" in unit:
        heal = unit["heal"]
        slot["heal_rate"] = heal["rate"] / second
        slot["heal_cost"] = heal["energy_per_health"]
        slot["heal_reach"] = heal["range"]
        slot["heal_search"] = heal["search_range"]
        slot["heal_minimum"] = heal["min_energy"]


def _fill_weapon(slot: Any, weapon: dict[str, Any]) -> None:
    second = LOOPS_PER_SECOND
    slot["targets"] = sum(_LAYERS[layer] for layer in weapon["targets"])
    slot["damage"], slot["hits"] = weapon["damage"], weapon["hits"]
    slot["bonus"] = sum(weapon["bonus"].values())  # no weapon here has more than one
    slot["bonus_attributes"] = _bits(weapon["bonus"])
    slot["reach"], slot["slop"] = weapon["range"], weapon["range_slop"]
    slot["scan"] = max(weapon["range"], weapon["min_scan_range"])
    for key in ("period", "damage_point", "backswing"):
        slot[key] = weapon[key] * second
    slot["gap"] = weapon.get("gap", 0.0) * second
    slot["delivery"] = _DELIVERIES[weapon["delivery"]]
    slot["missile_speed"] = weapon.get("missile_speed", 0.0) / second
    if "burst" in weapon:
        slot["burst_radius"] = weapon["burst"]["radius"]
        slot["burst_structures"] = weapon["burst"]["structures"]


def _bits(attributes: Iterable[str]) -> int:
    return sum(1 << ATTRIBUTES.index(a) for a in attributes)
