"""Checkpoints: folders that are complete or not there.

A checkpoint holds ``meta.json`` (config, step, contents, versions), ``state.pt`` and, when asked for,
``replay.pt``. It is written beside its final name and renamed, so a crash or a full disk leaves the older
one whole. Nothing in it is ever unpickled beyond tensors and plain values.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from . import __version__
from .errors import CheckpointError

FORMAT = 1
_ARRAY = "__ndarray__"


def save_checkpoint(
    folder: Path, config: Mapping[str, Any], t_env: int, state: Mapping[str, Any]
) -> None:
    """Write one checkpoint, replacing an older one of the same name.

    Args:
        folder: final name.
        config: composed config, nested.
        t_env: environment steps done.
        state: name -> state of each thing that has any; ``replay`` goes to a file of its own.

    Raises:
        OSError: the disk is full or not writable; nothing that was there is lost.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir()
        files = {"state.pt": {k: v for k, v in state.items() if k != "replay"}}
        if "replay" in state:
            files["replay.pt"] = {"replay": state["replay"]}
        for name, content in files.items():
            with (beside / name).open("wb") as file:
                _save(_storable(content), file)
                file.flush()
                os.fsync(file.fileno())
        meta = {
            "format": FORMAT,
            "phalanx": __version__,
            "torch": torch.__version__,
            "t_env": t_env,
            "contains": sorted(state),
            "config": dict(config),
        }
        (beside / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")
        if folder.exists():
            old = folder.with_name(f".{folder.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
            beside.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
        else:
            beside.rename(folder)
    except OSError:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def _save(content: Any, file: BinaryIO) -> None:
    try:
        torch.save(content, file)
    except RuntimeError as error:  # what torch makes of the disk's own error
        raise OSError(f"{file.name} cannot be written: {error}") from error


def read_meta(folder: Path) -> dict[str, Any]:
    """The ``meta.json`` of a checkpoint.

    Raises:
        CheckpointError: the folder is no checkpoint, or of another format.
    """
    file = folder / "meta.json"
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder} is no checkpoint: it has no meta.json. "
            "Give a folder like results/runs/<run>/checkpoints/latest, or the run's folder."
        ) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {file}: {error}") from error
    if meta.get("format") != FORMAT:
        raise CheckpointError(
            f"{folder} has checkpoint format {meta.get('format')!r}, this version reads {FORMAT}"
        )
    return dict(meta)


def load_checkpoint(folder: Path) -> dict[str, Any]:
    """State by name, tensors on the CPU.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    read_meta(folder)
    state: dict[str, Any] = {}
    for file in sorted(folder.glob("*.pt")):
        try:
            state |= _restored(torch.load(file, map_location="cpu", weights_only=True))
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
            raise CheckpointError(
                f"{file} is damaged ({type(error).__name__}: {error}). "
                "Use another checkpoint of the run (see its checkpoints folder)."
            ) from error
    if "counters" not in state:
        raise CheckpointError(f"{folder} is incomplete: state.pt is missing")
    return state


@contextmanager
def restoring() -> Iterator[None]:
    """Say in a sentence that a checkpoint's state does not fit what it is loaded into.

    Raises:
        CheckpointError: it is of another config, or of other code.
    """
    try:
        yield
    except (RuntimeError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"the checkpoint does not fit this config ({error}). Use the config it was made with (leave out "
            "--config and changed keys); if you did, the code has changed since: check out the commit that "
            "`runs show` names for its run."
        ) from error


def find_checkpoint(path: Path) -> Path:
    """The checkpoint that ``path`` means: itself, or the latest of a run's folder.

    Raises:
        CheckpointError: there is none.
    """
    for candidate in (path, path / "checkpoints" / "latest", path / "latest"):
        if (candidate / "meta.json").is_file():
            return candidate
        # A crash between the two renames of a replacement leaves the old one under this name.
        old = candidate.with_name(f".{candidate.name}.old")
        if (old / "meta.json").is_file():
            return old
    if not path.exists():
        raise CheckpointError(f"no checkpoint at {path}: there is no such folder")
    raise CheckpointError(
        f"no checkpoint at {path}: neither it nor checkpoints/latest in it is one"
    )


def _storable(value: Any) -> Any:
    """Arrays become tagged tensors, the only arrays that load without unpickling code."""
    if isinstance(value, np.ndarray):
        return {_ARRAY: torch.from_numpy(np.ascontiguousarray(value))}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {k: _storable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_storable(v) for v in value)
    return value


def _restored(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {_ARRAY}:
            return value[_ARRAY].numpy()
        return {k: _restored(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_restored(v) for v in value)
    return value
