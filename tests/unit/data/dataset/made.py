"""Random episodes, in memory and in files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phalanx.data.dataset import Dataset, DatasetWriter
from phalanx.data.dataset.description import Description
from phalanx.envs.protocol import Discrete, EnvSpec

SPEC = EnvSpec(
    n_agents=2,
    obs_dim=3,
    state_dim=4,
    action=Discrete(5),
    episode_limit=6,
    has_alive=True,
    obs_bound=8.0,
)
LENGTHS = (2, 6, 1, 4, 3, 5)


def episode(length: int, seed: int = 0, reward: float | None = None) -> dict[str, NDArray[Any]]:
    """One that passes all checks; with ``reward`` its return is that."""
    rng = np.random.default_rng(seed)
    mask = rng.random((length + 1, 2, 5)) < 0.6
    mask[..., 1] = True
    terminated = np.zeros(length, bool)
    terminated[-1] = True
    rewards = rng.random(length).astype(np.float32)
    if reward is not None:
        rewards[:] = reward / length
    return {
        "obs": rng.uniform(-8, 8, (length + 1, 2, 3)).astype(np.float16),
        "state": rng.uniform(-8, 8, (length + 1, 4)).astype(np.float16),
        "avail_actions": mask,
        "actions": mask[:-1].argmax(-1).astype(np.uint8),
        "reward": rewards,
        "terminated": terminated,
        "truncated": np.zeros(length, bool),
        "alive": np.ones((length + 1, 2), bool),
    }


def description(spec: EnvSpec = SPEC, **rest: Any) -> Description:
    """Of a game that nobody has."""
    environment = {"name": "game", "options": {"map_name": "x"}, "facts": {"engine": "embedded"}}
    return replace(Description.of(spec, np.float16, environment), **rest)


def write(
    folder: Path,
    episodes: list[dict[str, NDArray[Any]]] | None = None,
    shard_bytes: int = 300,
    **rest: Any,
) -> Dataset:
    """A dataset of several shards; by default of :data:`LENGTHS`."""
    made = [episode(n, seed) for seed, n in enumerate(LENGTHS)] if episodes is None else episodes
    with DatasetWriter(folder, description(**rest), shard_bytes=shard_bytes) as writer:
        for e, arrays in enumerate(made):
            writer.append(arrays, {"battle_won": float(e % 2)})
    return Dataset.open(folder)
