"""The engine's arrays, empty or filled from unit records."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .layout import (
    COOLDOWN,
    ENERGY,
    EPISODE,
    HEALTH,
    N_BATTLE,
    N_FILM,
    N_REAL,
    N_WHOLE,
    SHIELD,
    Outputs,
    State,
    X,
    Y,
)
from .pitch import PITCH
from .rules import Features, Rules
from .units import LINE, Slots


def pack_units(
    ally: NDArray[np.float64], enemy: NDArray[np.float64], units: NDArray[np.float64]
) -> None:
    """Write unit records ally (B, N, 6) and enemy (B, E, 4) into engine arrays (B, N_REAL, M or more)."""
    n_agents, n_enemies = ally.shape[1], enemy.shape[1]
    for column, field in enumerate((X, Y, HEALTH, SHIELD, ENERGY, COOLDOWN)):
        units[:, field, :n_agents] = ally[:, :, column]
    for column, field in enumerate((X, Y, HEALTH, SHIELD)):
        units[:, field, n_agents : n_agents + n_enemies] = enemy[:, :, column]


def empty_state(n_battles: int, rules: Rules, types: Slots) -> State:
    """Of so many battles before their first episode, whose units are among ``types``."""
    n_agents, n_units = rules.n_allies, rules.n_allies + rules.n_enemies
    # Two hits per unit can be under way (its last missile and the next), and of a colossus two per
    # opponent. Where teams are drawn, all may be colossi.
    colossi = int((types["delivery"] == LINE).sum())
    if rules.generated and colossi:
        colossi = n_units
    slots = 2 * n_units + 2 * n_units * colossi
    watched = n_battles if rules.partial else 0
    battle = np.zeros((n_battles, N_BATTLE), np.int64)
    battle[:, EPISODE] = -1
    return State(
        units=np.zeros((n_battles, N_REAL, PITCH)),
        flags=np.zeros((n_battles, N_WHOLE, PITCH), np.int32),
        battle=battle,
        queue=np.zeros((n_battles, slots, 3), np.int32),
        last_action=np.full((n_battles, n_agents), -1, np.int64),
        chosen=np.full((n_battles, n_agents), -1, np.int64),
        returned=np.zeros(n_battles),
        facing=np.zeros((n_battles, n_agents), np.int64),
        spotted=np.zeros((watched, rules.n_enemies, n_agents), np.uint8),
        spotter=np.full((watched, rules.n_enemies), -1, np.int64),
    )


def empty_film(n_battles: int, rules: Rules) -> NDArray[np.float32]:
    """(B, step_mul, N_FILM, M) for as many battles as are filmed."""
    n_units = rules.n_allies + rules.n_enemies
    return np.zeros((n_battles, rules.step_mul, N_FILM, n_units), np.float32)


def empty_outputs(
    n_battles: int, n_agents: int, rules: Rules, shape: Features, keep_final: bool
) -> Outputs:
    """Of so many battles; ``keep_final``: with room for what was last seen of finished ones."""
    b, n = n_battles, n_agents
    kept = b if keep_final else 0
    return Outputs(
        obs=np.zeros((b, n, shape.obs_dim), np.float32),
        state=np.zeros((b, shape.state_dim), np.float32),
        avail_actions=np.zeros((b, n, shape.n_actions), np.uint8),
        reward=np.zeros(b, np.float32),
        terminated=np.zeros(b, np.bool_),
        truncated=np.zeros(b, np.bool_),
        alive=np.zeros((b, n), np.bool_),
        visibility=np.zeros((b, n, n), np.bool_),
        actions_taken=np.zeros((b, n), np.int64),
        battle_won=np.zeros(b, np.bool_),
        dead_allies=np.zeros(b, np.int32),
        dead_enemies=np.zeros(b, np.int32),
        timed_out=np.zeros(b, np.bool_),
        episode_return=np.zeros(b, np.float32),
        episode_length=np.zeros(b, np.int32),
        final_obs=np.zeros((kept, n, shape.obs_dim), np.float32),
        final_state=np.zeros((kept, shape.state_dim), np.float32),
        final_avail_actions=np.zeros((kept, n, shape.n_actions), np.uint8),
        film=empty_film(0, rules),
    )
