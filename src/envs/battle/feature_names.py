"""What each number of an observation or a state is, in SMACv2's words.

Source: SMACv2, ``StarCraft2Env.get_obs_feature_names`` and ``get_state_feature_names``. The step numbers that
may follow are not among them.
"""

from __future__ import annotations

from collections.abc import Iterable

from .maps import BattleMap
from .rules import Options, actions_of, generated_options

_N_PATHING, _N_HEIGHT = 8, 9


def capability_names(battle_map: BattleMap) -> list[str]:
    """What a unit is: the columns of its one-hot type."""
    return [f"type_{bit}" for bit in range(battle_map.unit_type_bits)]


def obs_names(battle_map: BattleMap, options: Options) -> list[str]:
    """Names of the O numbers that agent 0 observes; the others see everybody but themselves likewise."""
    own = generated_options(options)
    names = [f"move_action_{way}" for way in ("north", "south", "east", "west")]
    names += [f"pathing_grid_{n}" for n in range(_N_PATHING) if options.obs_pathing_grid]
    names += [f"terrain_height_{n}" for n in range(_N_HEIGHT) if options.obs_terrain_height]
    place = ["distance", "relative_x", "relative_y"]
    health, types = ["health"] * bool(options.obs_all_health), _type_names(battle_map)
    shield = ["shield"] * bool(options.obs_all_health and battle_map.enemy_shields)
    names += _of_each(
        "enemy", len(battle_map.enemies), ["shootable", *place, *health, *shield], types
    )
    shield = ["shield"] * bool(options.obs_all_health and battle_map.ally_shields)
    last = _action_names(battle_map, options) if options.obs_last_action else []
    allies = len(battle_map.agents)
    names += _of_each(
        "ally", allies, ["visible", *place, *health, *shield], [*types, *last], first=1
    )
    if options.obs_own_health:
        names += ["own_health", *["own_shield"] * battle_map.ally_shields]
    names += ["own_pos_x", "own_pos_y"] * bool(own.obs_own_pos)
    names += ["own_fov_x", "own_fov_y"] * bool(own.conic_fov)
    return [*names, *(f"own_{type_}".replace("_{}", "") for type_ in types)]


def state_names(battle_map: BattleMap, options: Options) -> list[str]:
    """Names of the S numbers of the state."""
    own, types = generated_options(options), _type_names(battle_map)
    place = ["relative_x", "relative_y"]
    shield = ["shield"] * battle_map.ally_shields
    sight = ["fov_x", "fov_y"] * bool(own.conic_fov)
    n_agents = len(battle_map.agents)
    names = _of_each("ally", n_agents, ["health", "cooldown", *place, *shield, *sight], types)
    shield = ["shield"] * battle_map.enemy_shields
    names += _of_each("enemy", len(battle_map.enemies), ["health", *place, *shield], types)
    if options.state_last_action:
        names += _of_each("ally", n_agents, [], _action_names(battle_map, options))
    return names


def _type_names(battle_map: BattleMap) -> list[str]:
    return ["unit_type_{}_bit_" + str(bit) for bit in range(battle_map.unit_type_bits)]


def _action_names(battle_map: BattleMap, options: Options) -> list[str]:
    return [f"last_action_{{}}_action_{a}" for a in range(actions_of(battle_map, options))]


def _of_each(
    side: str, size: int, plain: Iterable[str], numbered: Iterable[str], first: int = 0
) -> list[str]:
    """``side_name_number`` of each unit's ``plain`` features, then ``numbered`` ones with a gap for it."""
    words = [*(f"{name}_{{}}" for name in plain), *numbered]
    return [f"{side}_{word.format(i)}" for i in range(first, size) for word in words]
