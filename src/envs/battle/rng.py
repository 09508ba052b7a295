"""Random numbers without a stream: each value is a hash of what it is for.

A battle's course depends only on (seed, battle index, episode, actions), never on the batch around it,
on chunking or on threads. The mixing function is splitmix64's finaliser (Steele, Lea, Flood, 2014).
"""

from __future__ import annotations

import numpy as np

from .jit import inlined, inner

ORDER, DELAY, START_X, START_Y, GOAL = 1, 2, 3, 4, 5  # purposes
TEAM, WAY, GROUPS, TURN = 6, 7, 8, 9
SPOT = 100  # and the enemy's number

_A = np.uint64(0xBF58476D1CE4E5B9)
_B = np.uint64(0x94D049BB133111EB)
_STEP = np.uint64(0x9E3779B97F4A7C15)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
_UNIT = 1.0 / 9007199254740992.0  # 2**-53


@inlined
def mix(value: np.uint64) -> np.uint64:
    """Scramble 64 bits so that neighbouring inputs give unrelated outputs."""
    value = (value ^ (value >> _S30)) * _A
    value = (value ^ (value >> _S27)) * _B
    mixed: np.uint64 = value ^ (value >> _S31)
    return mixed


@inner
def episode_key(seed: int, battle: int, episode: int) -> np.uint64:
    """Key of one episode of one battle; all its random numbers hang on it."""
    key = mix(np.uint64(seed) + _STEP)
    key = mix(key ^ (np.uint64(battle) * _STEP))
    return mix(key ^ (np.uint64(episode) * _A))


@inlined
def bits(key: np.uint64, loop: int, unit: int, purpose: int) -> np.uint64:
    """64 random bits for one unit, game loop and purpose."""
    return mix(key ^ mix((np.uint64(loop) << _S11 | np.uint64(unit)) * _STEP + np.uint64(purpose)))


@inlined
def uniform(key: np.uint64, loop: int, unit: int, purpose: int) -> float:
    """Uniform in [0, 1) for one unit, game loop and purpose."""
    return float(bits(key, loop, unit, purpose) >> _S11) * _UNIT
