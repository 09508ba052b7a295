"""SMAC's view of given unit records, through the code that battles run on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...errors import EnvError
from . import engine
from .arrays import pack_units
from .door import numbers
from .layout import HEALTH, N_REAL, SHIELD, TOTAL, Real, make_work
from .maps import BattleMap, find_map
from .rules import (
    Options,
    actions_of,
    as_record,
    build_features,
    build_rules,
    read_options,
    slots_of,
)
from .terrain import load_terrain
from .units import Slots


def observe(
    map_name: str,
    ally: ArrayLike,
    enemy: ArrayLike,
    last_action: ArrayLike,
    step: ArrayLike,
    **smac_options: Any,
) -> dict[str, NDArray[Any]]:
    """What SMAC's agents see of these units. A leading batch axis on all arrays is kept.

    Args:
        map_name: any of the 23 SMAC maps.
        ally: (N, 6) x, y, health, shield, energy, weapon cooldown (loops) of each agent.
        enemy: (E, 4) x, y, health, shield. Health 0 is dead.
        last_action: (N,) integers; -1 where there was none yet.
        step: env steps since the episode began.
        smac_options: SMAC's constructor options.

    Returns:
        ``obs`` (N, O) float32, ``state`` (S,) float32, ``avail_actions`` (N, A) uint8.

    Raises:
        EnvError: unknown map or option, or arrays of the wrong shape.
    """
    battle_map = find_map(map_name)
    options = read_options(smac_options)
    stats = slots_of(battle_map, "liberty")
    n, e = len(battle_map.agents), len(battle_map.enemies)
    single = np.ndim(ally) == 2
    batch = () if single else np.shape(ally)[:1]
    allies = numbers("ally", ally, (*batch, n, 6)).reshape(-1, n, 6)
    enemies = numbers("enemy", enemy, (*batch, e, 4)).reshape(-1, e, 4)
    last = numbers("last_action", last_action, (*batch, n)).reshape(-1, n)
    clock = numbers("step", step, batch).reshape(-1) / battle_map.limit
    highest = actions_of(battle_map, options) - 1
    if not ((last >= -1) & (last <= highest) & (last == np.floor(last))).all():
        raise EnvError(f"last_action must be whole numbers from -1 (none yet) to {highest}.")
    units = np.zeros((len(allies), N_REAL, n + e))
    pack_units(allies, enemies, units)
    views = look_at(units, last.astype(np.int64), clock, battle_map, options, stats)
    return {name: view[0] for name, view in views.items()} if single else views


def look_at(
    units: Real,
    last_action: NDArray[np.int64],
    clock: Real,
    battle_map: BattleMap,
    options: Options,
    stats: Slots,
    facing: NDArray[np.int64] | None = None,
) -> dict[str, NDArray[Any]]:
    """``obs``, ``state`` and ``avail_actions`` of engine arrays: units (B, N_REAL, M), clock (B,).

    ``facing`` (B, N): SMACv2's directions of sight, by number.
    """
    rules, shape = build_rules(battle_map, options, stats), build_features(battle_map, options)
    b, n = len(units), rules.n_allies
    obs = np.zeros((b, n, shape.obs_dim), np.float32)
    state = np.zeros((b, shape.state_dim), np.float32)
    avail = np.zeros((b, n, shape.n_actions), np.uint8)
    alive, visibility = np.zeros((b, n), np.bool_), np.zeros((b, n, n), np.bool_)
    facing = np.zeros((b, n), np.int64) if facing is None else facing
    spotted = np.zeros((b, 0, 0), np.uint8)
    engine.look_at(
        units, last_action, clock, facing, spotted, obs, state, avail, alive, visibility,
        stats, as_record(rules), load_terrain(battle_map.terrain), as_record(shape),
    )  # fmt: skip
    return {"obs": obs, "state": state, "avail_actions": avail}


def battle_reward(
    map_name: str,
    before: tuple[ArrayLike, ArrayLike],
    after: tuple[ArrayLike, ArrayLike],
    dead_before: tuple[ArrayLike, ArrayLike],
    **smac_options: Any,
) -> float:
    """Battle part of SMAC's reward between two moments, unscaled, without the bonus for the end.

    Args:
        map_name: any of the 23 SMAC maps.
        before, after: (ally (N, 6), enemy (E, 4)) as :func:`observe` takes them.
        dead_before: (ally (N,), enemy (E,)) flags of units already counted dead.
        smac_options: SMAC's constructor options.

    Raises:
        EnvError: unknown map or option, or arrays of the wrong shape.
    """
    battle_map = find_map(map_name)
    options = read_options(smac_options)
    stats = slots_of(battle_map, "liberty")
    rules = build_rules(battle_map, options, stats)
    n, e = rules.n_allies, rules.n_enemies
    units = np.zeros((2, N_REAL, n + e))
    for row, (ally, enemy) in enumerate((before, after)):
        allies, enemies = numbers("ally", ally, (n, 6)), numbers("enemy", enemy, (e, 4))
        pack_units(allies[None], enemies[None], units[row : row + 1])
    gone = [numbers("dead_before", d, (k,)) for d, k in zip(dead_before, (n, e), strict=True)]
    dead = np.concatenate(gone)
    work = make_work(n + e)
    work.real[TOTAL, : n + e] = np.where(dead != 0, -1.0, units[0, HEALTH] + units[0, SHIELD])
    return float(engine.reward_of(work, units[1], as_record(rules)))
