"""OMIGA's format of robots: one hdf5 file with ``s``, ``o``, ``a``, ``r``, ``d``, all rows of all episodes.

A row with ``d`` is what was seen after an episode's last action: its action and reward mean nothing. Whether
the clock ended an episode is not in the file. (OMIGA's battles are files of MADT's format.)
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...envs.protocol import EnvSpec
from ...errors import DatasetError
from ...registry import require
from .foreign import Episode, Found, ends, left_out, team_reward, within_one

_AXES = {
    "s": ("row", "agent", "number"),
    "o": ("row", "agent", "number"),
    "a": ("row", "agent", "number"),
    "r": ("row",),
    "d": ("row",),
}


def read_omiga(source: Path, limit: int | None = None) -> Found:
    """The episodes in the file ``source``.

    Args:
        limit: steps after which the clock ends an episode: such a one was cut off, and did not end.

    Raises:
        DatasetError: the file is missing or is not what the format says.
        MissingDependencyError: h5py is not installed.
    """
    h5py = require("h5py", "hdf5", "format omiga")
    try:
        file = h5py.File(source, "r")
    except OSError as error:
        raise DatasetError(f"{source} is no hdf5 file that can be read ({error}).") from error
    for name, axes in _AXES.items():
        shape = file[name].shape if name in file else None
        if shape is None or len(shape) < len(axes) or shape[0] != file["o"].shape[0]:
            raise DatasetError(
                f"{source}: {name} is {'missing' if shape is None else f'of shape {shape}'}; its axes must "
                f"be {', '.join(axes)}, and its rows as many as those of o."
            )
    if file["a"].dtype.kind != "f":
        raise DatasetError(
            f"{source}: a has type {file['a'].dtype}, and this format is of vectors. OMIGA's battles are "
            "torch files: convert madt."
        )
    _, N, O = file["o"].shape
    spec = EnvSpec(
        N, O, file["s"].shape[-1], within_one(file["a"].shape[-1]), episode_limit=limit or 0
    )
    return Found("omiga", spec, [source], _episodes(source, file, limit))


def _episodes(source: Path, file: Any, limit: int | None) -> Iterator[tuple[str, Episode]]:
    with file:
        rows: NDArray[Any] = file["d"][()].reshape(file["d"].shape[0], -1)[:, 0]
        start = 0
        for end in np.flatnonzero(rows).tolist():
            name = f"rows {start} to {end} of {source}"
            if end == start:
                raise DatasetError(f"{name}: an episode without a step.")
            by_clock = end - start == limit
            yield (
                name,
                {
                    "obs": file["o"][start : end + 1],
                    "state": file["s"][start : end + 1, 0],
                    "actions": file["a"][start:end],
                    "reward": team_reward(file["r"][start:end], name),
                    **ends(end - start, terminated=not by_clock, truncated=by_clock),
                },
            )
            start = end + 1
        left_out(source, len(rows) - start)
