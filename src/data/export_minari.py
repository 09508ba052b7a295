"""A dataset as Minari reads it: hdf5, with what is seen after each last action, and spaces of gymnasium.

Source of the layout: the dataset standards of Minari (Farama Foundation), and its ``MinariStorage`` and
``serialize_space``, as of 0.5.4. It is written with h5py alone.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from ..envs.protocol import Box, Discrete, EnvSpec
from ..errors import DatasetError
from ..registry import require
from .dataset import Dataset
from .dataset.writer import appearing_whole

_READ_BY = "0.5.0"
"""Version that this layout is of, for Minari to see whether it can read it."""
_NAME = re.compile(r"[-_\w]+-v\d+")
_SEEN = ("obs", "state", "avail_actions", "alive", "visibility")


def export_minari(data: Dataset, folder: Path) -> Path:
    """Write ``data`` into a new ``folder``, which ``minari.load_dataset`` finds by its name.

    An observation is a dict of all that is seen before an action (``obs`` (N, O), ``state`` (S,),
    ``avail_actions`` (N, A) ...), an action that of all agents, a reward the team's. Numbers known at an
    episode's end are its metadata.

    Raises:
        DatasetError: the folder is there, or its name is none that Minari takes.
        MissingDependencyError: h5py is not installed.
    """
    if not _NAME.fullmatch(folder.name):
        raise DatasetError(
            f"--out {folder}: Minari's datasets have names like 3m-good-v0, of letters, digits, - and _ with "
            "a version at the end."
        )
    h5py = require("h5py", "hdf5", "the export to Minari")
    # Where actions are vectors alone nothing is masked.
    seen = [name for name in _SEEN if name in data.fields and all(data.fields[name].shape)]
    outcomes = data.outcomes
    with appearing_whole(folder) as beside:
        (beside / "data").mkdir(parents=True)
        with h5py.File(beside / "data" / "main_data.hdf5", "w", track_order=True) as file:
            for e, episode in enumerate(data):
                group = file.create_group(f"episode_{e}")
                group.attrs.update({"id": e, "total_steps": len(episode["reward"])})
                group.attrs.update({k: v[e] for k, v in outcomes.items() if not np.isnan(v[e])})
                for name in seen:
                    group[f"observations/{name}"] = _as_minari(episode[name])
                group["actions"] = _as_minari(episode["actions"])
                group["rewards"] = episode["reward"].astype(np.float64)
                group["terminations"] = episode["terminated"]
                group["truncations"] = episode["truncated"]
                group.create_group("infos")
        size = (beside / "data" / "main_data.hdf5").stat().st_size
        about = {
            "total_episodes": len(data),
            "total_steps": data.steps,
            "dataset_size": round(size / 1e6, 1),
            "data_format": "hdf5",
            "jpeg_encoding": False,
            "dataset_id": folder.name,
            "minari_version": _READ_BY,
            "description": _told(data),
            "observation_space": json.dumps(
                {"type": "Dict", "subspaces": {n: _space(data.fields[n]) for n in seen}}
            ),
            "action_space": json.dumps(_actions(data.spec)),
        }
        (beside / "data" / "metadata.json").write_text(json.dumps(about, indent=1))
    return folder


def _as_minari(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """In the types that spaces of gymnasium have."""
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    return array.astype(np.int8 if array.dtype.kind == "b" else np.int64)


def _space(field: Any) -> dict[str, Any]:
    if field.dtype is np.bool_:
        return {"type": "MultiBinary", "n": list(field.shape)}
    return _box(np.full(field.shape, -np.inf), np.full(field.shape, np.inf))


def _box(low: np.ndarray[Any, Any], high: np.ndarray[Any, Any]) -> dict[str, Any]:
    return {
        "type": "Box",
        "dtype": "float32",
        "shape": list(low.shape),
        "low": low.tolist(),
        "high": high.tolist(),
    }


def _actions(spec: EnvSpec) -> dict[str, Any]:
    N, action = spec.n_agents, spec.action
    if isinstance(action, Discrete):
        return {"type": "MultiDiscrete", "dtype": "int64", "nvec": [action.n] * N, "start": [0] * N}
    vector = action if isinstance(action, Box) else action.vector
    low, high = list(vector.low), list(vector.high)
    if not isinstance(action, Box):  # the choice is the first number
        low, high = [0.0, *low], [action.choice.n - 1.0, *high]
    return _box(np.array([low] * N), np.array([high] * N))


def _told(data: Dataset) -> str:
    environment = data.description.environment
    return f"{data.folder.resolve().name}, recorded in {environment['name'] or 'an unnamed environment'}"
