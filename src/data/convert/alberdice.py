"""AlberDICE's format: one ``.npy`` per field, ``[episode, row, ...]``, padded to the longest.

``filled`` counts rows, one more than there are actions: an episode's length is ``filled.sum() - 1``, and its
last row is the final observation. ``terminated`` is set at the last action; an episode without it was cut
off. What an environment had for options is not in the files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...envs.protocol import Discrete, EnvSpec
from ...errors import DatasetError
from .foreign import Episode, Found

_AXES = {
    "obs": ("episode", "row", "agent", "number"),
    "state": ("episode", "row", "number"),
    "avail_actions": ("episode", "row", "agent", "action"),
    "actions": ("episode", "row", "agent", "one"),
    "reward": ("episode", "row", "one"),
    "terminated": ("episode", "row", "one"),
    "filled": ("episode", "row", "one"),
}


def read_alberdice(source: Path, limit: int | None = None) -> Found:
    """The episodes in the folder ``source``.

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
    files = [source / f"{name}.npy" for name in _AXES]
    return Found("alberdice", spec, files, _episodes(source, arrays))


def _episodes(source: Path, arrays: dict[str, NDArray[Any]]) -> Iterator[tuple[str, Episode]]:
    for e, flags in enumerate(arrays["filled"]):
        filled = flags[:, 0] != 0
        rows = int(filled.sum())
        if rows < 2 or not filled[:rows].all():
            raise DatasetError(
                f"{source / 'filled.npy'}: episode {e} has {rows} filled rows, which must be two or more "
                "and come first."
            )
        of_it = {name: array[e, :rows] for name, array in arrays.items()}
        yield f"episode {e} of {source}", _episode(of_it, rows - 1)


def _episode(rows: dict[str, NDArray[Any]], length: int) -> Episode:
    """Our fields of one episode's filled rows."""
    terminated = rows["terminated"][:length, 0] != 0
    truncated = np.zeros(length, bool)
    truncated[-1] = not terminated[-1]
    return {
        "obs": rows["obs"],
        "state": rows["state"],
        "avail_actions": rows["avail_actions"],
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
