"""AlberDICE's format: one ``.npy`` per field, ``[episode, row, ...]``, padded to the longest.

``filled`` counts rows, one more than there are actions: an episode's length is ``filled.sum() - 1``, and its
last row is the final observation. ``terminated`` is set at the last action; an episode without it was cut
off. What an environment had for options is not in the files.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...envs.protocol import Discrete, EnvSpec
from ...errors import DatasetError
from ..dataset.description import Description
from ..dataset.writer import DatasetWriter, appearing_whole

_AXES = {
    "obs": ("episode", "row", "agent", "number"),
    "state": ("episode", "row", "number"),
    "avail_actions": ("episode", "row", "agent", "action"),
    "actions": ("episode", "row", "agent", "one"),
    "reward": ("episode", "row", "one"),
    "terminated": ("episode", "row", "one"),
    "filled": ("episode", "row", "one"),
}


def convert_alberdice(source: Path, destination: Path) -> None:
    """Read the folder ``source`` into a new dataset, an episode at a time.

    Raises:
        DatasetError: a file is missing or is not what the format says; names file and place.
    """
    arrays = {name: _mapped(source / f"{name}.npy", axes) for name, axes in _AXES.items()}
    E, R, N, O = arrays["obs"].shape
    A = arrays["avail_actions"].shape[-1]
    sizes = {"episode": E, "row": R, "agent": N, "action": A, "one": 1}
    for name, axes in _AXES.items():
        wanted = tuple(sizes.get(axis, -1) for axis in axes)
        found = arrays[name].shape
        if any(w not in (-1, f) for w, f in zip(wanted, found, strict=True)):
            raise DatasetError(
                f"{source / name}.npy has shape {found}, which does not go with obs of {arrays['obs'].shape}."
            )
    spec = EnvSpec(
        n_agents=N,
        obs_dim=O,
        state_dim=arrays["state"].shape[-1],
        action=Discrete(A),
        episode_limit=R - 1,
    )
    description = Description.of(
        spec,
        np.float32,
        {"name": "", "options": {}, "facts": {"format": "alberdice"}},
        parents=[{"name": source.resolve().name, "checksum": _digest(source)}],
    )
    with appearing_whole(destination) as beside, DatasetWriter(beside, description) as writer:
        for e in range(E):
            filled = arrays["filled"][e, :, 0] != 0
            rows = int(filled.sum())
            if rows < 2 or not filled[:rows].all():
                raise DatasetError(
                    f"{source / 'filled.npy'}: episode {e} has {rows} filled rows, which must be two or more "
                    "and come first."
                )
            writer.append(_episode({k: v[e, :rows] for k, v in arrays.items()}, rows - 1))


def _episode(rows: dict[str, NDArray[Any]], length: int) -> dict[str, NDArray[Any]]:
    """Our fields of one episode's filled rows."""
    terminated = rows["terminated"][:length, 0] != 0
    truncated = np.zeros(length, bool)
    truncated[-1] = not terminated[-1]
    return {
        "obs": rows["obs"],
        "state": rows["state"],
        "avail_actions": rows["avail_actions"] != 0,
        "actions": rows["actions"][:length, :, 0],
        "reward": rows["reward"][:length, 0],
        "terminated": terminated,
        "truncated": truncated,
    }


def _mapped(file: Path, axes: tuple[str, ...]) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{file} is no array that can be read ({error}).") from error
    if array.ndim != len(axes):
        raise DatasetError(f"{file} has shape {array.shape}; its axes must be {', '.join(axes)}.")
    return array


def _digest(source: Path) -> str:
    found = hashlib.sha256()
    for name in _AXES:
        with (source / f"{name}.npy").open("rb") as content:
            while block := content.read(1 << 20):
                found.update(block)
    return found.hexdigest()
