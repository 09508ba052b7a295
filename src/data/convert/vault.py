"""OG-MARL's format: vaults of flashbax, arrays (1, all steps, agents, ...) in an OCDBT store of tensorstore.

Each step has what was seen and done, the reward, and whether the episode ended with it; nothing is kept of
what followed the last action. Read without flashbax and jax.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...envs.protocol import Box, Discrete, EnvSpec
from ...errors import DatasetError
from ...registry import require
from .foreign import Episode, Found, left_out, team_reward, within_one

_LEAVES = {
    "obs": "observations",
    "actions": "actions",
    "reward": "rewards",
    "terminated": "terminals",
    "truncated": "truncations",
    "state": "infos.state",
    "avail_actions": "infos.legals",
}
_BLOCK = 64 * 2**20  # bytes that are read at once, about


def read_vault(source: Path, limit: int | None = None) -> Found:
    """The episodes in the vault ``source``, or in the only one in the folder ``source`` (``NAME.vlt``).

    Raises:
        DatasetError: there is none or several, or it lacks a field.
        MissingDependencyError: tensorstore is not installed.
    """
    tensorstore = require("tensorstore", "vault", "format vault")
    folder = _only_vault(source)
    kept = _leaves(folder)
    missing = sorted(set(_LEAVES.values()) - kept - {_LEAVES["avail_actions"]})
    if missing:
        raise DatasetError(
            f"{folder} lacks {', '.join(missing)}; it has {', '.join(sorted(kept))}."
        )
    stores = {
        name: _opened(tensorstore, folder, f"{leaf}.")
        for name, leaf in _LEAVES.items()
        if leaf in kept
    }
    steps = int(_opened(tensorstore, folder, "vault_index").read().result()[0])
    N, O = stores["obs"].shape[2:]
    action = _action(folder, stores)
    spec = EnvSpec(N, O, stores["state"].shape[-1], action, episode_limit=limit or 0)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return Found("vault", spec, files, _episodes(folder, stores, steps))


def _only_vault(source: Path) -> Path:
    if (source / "metadata.json").is_file():
        return source
    vaults = sorted(path.parent for path in source.glob("*/metadata.json"))
    if len(vaults) != 1:
        names = ", ".join(str(path) for path in vaults) or "none"
        raise DatasetError(
            f"{source} is no vault: give a folder with a metadata.json. There are: {names}."
        )
    return vaults[0]


def _leaves(folder: Path) -> set[str]:
    """Names of the arrays in a vault."""
    try:
        structure = json.loads((folder / "metadata.json").read_text())["structure_shape"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{folder / 'metadata.json'} cannot be read ({error!r}).") from error

    def named(tree: Any, prefix: str) -> Iterator[str]:
        if not isinstance(tree, dict):
            yield prefix.removesuffix(".")
            return
        for key, part in tree.items():
            yield from named(part, f"{prefix}{key}.")

    return set(named(structure, ""))


def _opened(tensorstore: Any, folder: Path, name: str) -> Any:
    store = {"driver": "ocdbt", "base": f"file://{folder.resolve()}", "path": name}
    try:
        return tensorstore.open({"driver": "zarr", "kvstore": store}, open=True, read=True).result()
    except ValueError as error:
        raise DatasetError(f"{folder}: {name} cannot be opened ({error}).") from error


def _action(folder: Path, stores: dict[str, Any]) -> Discrete | Box:
    actions = stores["actions"]
    if np.dtype(actions.dtype.numpy_dtype).kind == "f":
        return within_one(actions.shape[-1])
    if "avail_actions" not in stores:
        raise DatasetError(f"{folder} lacks infos.legals, which says how many actions there are.")
    return Discrete(stores["avail_actions"].shape[-1])


def _episodes(folder: Path, stores: dict[str, Any], steps: int) -> Iterator[tuple[str, Episode]]:
    widest = sum(
        int(np.prod(store.shape[2:])) * store.dtype.numpy_dtype.itemsize
        for store in stores.values()
    )
    block, number = max(_BLOCK // widest, 1), 0
    waiting: list[Episode] = []  # of an episode that began in an earlier block
    for first in range(0, steps, block):
        last = min(first + block, steps)
        read = {name: store[0, first:last].read() for name, store in stores.items()}
        found = {name: np.asarray(future.result()) for name, future in read.items()}
        over = (found["terminated"] != 0) | (found["truncated"] != 0)
        over = over.reshape(last - first, -1).all(axis=1)
        start = 0
        for end in (np.flatnonzero(over) + 1).tolist():
            waiting.append({name: array[start:end] for name, array in found.items()})
            name = f"episode {number} of {folder}"
            yield name, _episode(_joined(waiting), name)
            waiting, start, number = [], end, number + 1
        if start < last - first:
            waiting.append({name: array[start:] for name, array in found.items()})
    left_out(folder, sum(len(piece["reward"]) for piece in waiting))


def _joined(pieces: list[Episode]) -> Episode:
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def _episode(rows: Episode, name: str) -> Episode:
    """Our fields of an episode's steps."""
    length = len(rows["reward"])
    flags: dict[str, NDArray[np.bool_]] = {
        key: (rows[key] != 0).reshape(length, -1).all(axis=1) for key in ("terminated", "truncated")
    }
    actions, state = rows["actions"], rows["state"]
    if actions.dtype.kind != "f":
        actions = actions.reshape(*rows["obs"].shape[:2])
    return {
        **rows,
        **flags,
        "actions": actions,
        "reward": team_reward(rows["reward"], name),
        "state": state if state.ndim == 2 else state[:, 0],
    }
