"""Checkpoints: folders that are complete or not there.

A checkpoint holds ``meta.json`` (config, step, contents, versions, a checksum of each file), ``state.pt``
and, when asked for, ``replay.pt``. It is written beside its final name and renamed, so a crash or a full
disk leaves the older one whole; the one it replaces stays beside it for the case that the disk damages the
new one. Nothing in it is ever unpickled beyond tensors and plain values.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from . import __version__
from .errors import CheckpointError

log = logging.getLogger("phalanx.checkpoint")

FORMAT = 2
_ARRAY = "__ndarray__"
_FILES = {"state.pt", "replay.pt"}
_FITS: Mapping[str, Callable[[Any], bool]] = {
    "t_env": lambda t: isinstance(t, int) and t >= 0,
    "recorded": lambda at: at is None or (isinstance(at, int) and at >= 0),
    "config": lambda config: isinstance(config, dict),
    "sha256": lambda sums: isinstance(sums, dict) and "state.pt" in sums and set(sums) <= _FILES,
}
"""What the entries of a meta.json must be that are relied on."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read whole.

    Attributes:
        folder: where it lies.
        meta: content of its ``meta.json``.
        state: state by name, tensors on the CPU.
    """

    folder: Path
    meta: dict[str, Any]
    state: dict[str, Any]

    @property
    def t_env(self) -> int:
        """Environment steps done."""
        return int(self.meta["t_env"])

    @property
    def config(self) -> dict[str, Any]:
        """The nested config of its run."""
        return dict(self.meta["config"])

    @property
    def recorded(self) -> int | None:
        """How far its run's record had come, see :class:`~.tracking.record.Position`."""
        recorded = self.meta["recorded"]
        return None if recorded is None else int(recorded)


def save_checkpoint(
    folder: Path,
    config: Mapping[str, Any],
    t_env: int,
    state: Mapping[str, Any],
    recorded: int | None = None,
) -> None:
    """Write one checkpoint; an older one of the same name becomes :func:`previous`.

    Args:
        folder: final name.
        config: composed config, nested.
        t_env: environment steps done.
        state: name -> state of each thing that has any; ``replay`` goes to a file of its own.
        recorded: how far the run's record has come; None where there is none.

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
        meta = {
            "format": FORMAT,
            "phalanx": __version__,
            "torch": torch.__version__,
            "t_env": t_env,
            "recorded": recorded,
            "contains": sorted(state),
            "config": dict(config),
            "sha256": {name: _save(content, beside / name) for name, content in files.items()},
        }
        meta["checksum"] = _checksum(meta)
        with (beside / "meta.json").open("w", encoding="utf-8") as file:
            json.dump(meta, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        _put_in_place(beside, folder)
    except OSError:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def previous(folder: Path) -> Path:
    """Where the checkpoint lies that the one in ``folder`` replaced."""
    return folder.with_name(f"{folder.name}.previous")


def _put_in_place(beside: Path, folder: Path) -> None:
    """A kill between any two of these lines leaves a whole checkpoint under one of the two names."""
    if folder.exists():
        doomed = folder.with_name(f".{folder.name}.doomed")
        shutil.rmtree(doomed, ignore_errors=True)
        if previous(folder).exists():
            previous(folder).rename(doomed)
        folder.rename(previous(folder))
        beside.rename(folder)
        shutil.rmtree(doomed, ignore_errors=True)
    else:
        beside.rename(folder)
    if hasattr(os, "O_DIRECTORY"):  # the names, too, are to survive a loss of power
        parent = os.open(folder.parent, os.O_DIRECTORY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)


class _HashedFile:
    """A file that is written once, from front to back, and knows the digest of what it was given."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def _save(content: Any, path: Path) -> str:
    """Write one file; returns its SHA-256."""
    with path.open("wb") as file:
        hashed = _HashedFile(file)
        try:
            torch.save(_storable(content), hashed)  # type: ignore[arg-type]
        except RuntimeError as error:  # what torch makes of the disk's own error
            raise OSError(f"{path} cannot be written: {error}") from error
        file.flush()
        os.fsync(file.fileno())
    return hashed.digest.hexdigest()


def _checksum(meta: Mapping[str, Any]) -> str:
    """SHA-256 of all of a ``meta.json`` but this entry itself."""
    rest = {key: value for key, value in meta.items() if key != "checksum"}
    as_read = json.loads(json.dumps(rest))  # keys that are no text sort differently before
    return hashlib.sha256(json.dumps(as_read, sort_keys=True).encode()).hexdigest()


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
        raise CheckpointError(f"{file} is damaged or cannot be read ({error})") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        found = meta.get("format") if isinstance(meta, dict) else meta
        raise CheckpointError(
            f"{folder} has checkpoint format {found!r}, this version reads {FORMAT}"
        )
    if meta.get("checksum") != _checksum(meta):
        raise CheckpointError(f"{file} is damaged: it is not what was written (checksum)")
    odd = [key for key, fits in _FITS.items() if key not in meta or not fits(meta[key])]
    if odd:
        raise CheckpointError(
            f"{file} is not as this version writes it ({', '.join(odd)}), though its checksum fits: somebody "
            "has changed it. Use the checkpoint as it was made"
        )
    return meta


def load_checkpoint(folder: Path) -> dict[str, Any]:
    """State by name, tensors on the CPU.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    return _read(folder).state


def open_checkpoint(path: Path, *, replay: bool = True) -> Checkpoint:
    """The newest checkpoint that ``path`` means and that is whole, see :func:`find_checkpoint`.

    Args:
        path: as for :func:`find_checkpoint`.
        replay: read the replay too, which is most of it and no use for playing.

    Raises:
        CheckpointError: there is none, or none that is whole; names what is wrong with each.
    """
    newest = find_checkpoint(path)
    faults: list[str] = []
    for folder in (newest, previous(newest)):
        if faults and not folder.exists():
            continue
        try:
            found = _read_settled(folder, replay)
        except CheckpointError as fault:
            faults.append(str(fault))
            continue
        if faults:
            log.warning(
                "%s. Using the one before it, %s, of step %d", faults[0], folder, found.t_env
            )
        return found
    raise CheckpointError(
        ". ".join(faults)
        + ". Use another checkpoint of the run, if its checkpoints folder has one; nothing was changed."
    )


def _read_settled(folder: Path, replay: bool) -> Checkpoint:
    """Like :func:`_read`, of a run that may replace the checkpoint at this very moment."""
    for _ in range(3):
        before = _stamp(folder)
        try:
            return _read(folder, replay)
        except CheckpointError:
            if _stamp(folder) == before:
                raise
    return _read(folder, replay)


def _stamp(folder: Path) -> tuple[int, int] | None:
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _read(folder: Path, replay: bool = True) -> Checkpoint:
    meta = read_meta(folder)
    state: dict[str, Any] = {}
    for name, digest in meta["sha256"].items():
        if name == "replay.pt" and not replay:
            continue
        file = folder / name
        try:
            with file.open("rb") as content:
                if _digest(content) != digest:
                    raise CheckpointError(
                        f"{file} is damaged: it is not what was written (checksum)"
                    )
                content.seek(0)
                state |= _restored(torch.load(content, map_location="cpu", weights_only=True))
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
            raise CheckpointError(f"{file} is damaged ({type(error).__name__}: {error})") from error
    if "counters" not in state:
        raise CheckpointError(f"{folder} is incomplete: it holds no counters")
    return Checkpoint(folder, meta, state)


def _digest(file: IO[bytes]) -> str:
    found = hashlib.sha256()
    while block := file.read(1 << 20):
        found.update(block)
    return found.hexdigest()


def set_aside_newer(used: Checkpoint) -> None:
    """Where a previous checkpoint is used: put the damaged one under another name.

    Otherwise it would be kept as the previous one of the next, in place of the good one.
    """
    newer = used.folder.with_name(used.folder.name.removesuffix(".previous"))
    if newer != used.folder and newer.exists():
        aside = newer.with_name(f"{newer.name}.damaged")
        shutil.rmtree(aside, ignore_errors=True)
        newer.rename(aside)


@contextmanager
def restoring() -> Iterator[None]:
    """Say in a sentence that a checkpoint's state does not fit what it is loaded into.

    Raises:
        CheckpointError: it is of another config, or of other code.
    """
    try:
        yield
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
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
    if (found := _find(path)) is not None:
        return found
    if not path.exists():
        raise CheckpointError(f"no checkpoint at {path}: there is no such folder")
    if any(path.glob("agent.th")) or any(path.glob("[0-9]*/agent.th")):
        raise CheckpointError(
            f"{path} holds networks that PyMARL saved (agent.th), without the config, the optimiser or the "
            "replay they belong to; they fit no part here. Train again, with PyMARL's YAML if you like "
            "(--config=path/to/qmix.yaml), and `phalanx evaluate RUN` plays what comes of it."
        )
    raise CheckpointError(
        f"no checkpoint at {path}: neither it nor checkpoints/latest in it is one. A run writes its first "
        "after save_model_interval steps, or when it is stopped with Ctrl-C."
    )


def checkpoint_of_step(path: Path, step: int) -> Path:
    """The checkpoint of a step in the run that ``path`` means, see :func:`find_checkpoint`.

    Raises:
        CheckpointError: there is none; says of which steps there are.
    """
    newest = find_checkpoint(path)
    there: dict[int, Path] = {}
    for meta in sorted(newest.parent.glob("*/meta.json")):
        with suppress(CheckpointError):
            there.setdefault(int(read_meta(meta.parent)["t_env"]), meta.parent)
    if step not in there:
        steps = ", ".join(map(str, sorted(there))) or "none"
        raise CheckpointError(
            f"no checkpoint of step {step} in {newest.parent}: there are those of {steps}. A run keeps one "
            "every save_model_interval steps with keep_models=true."
        )
    return there[step]


def has_checkpoint(path: Path) -> bool:
    """Whether :func:`find_checkpoint` finds one."""
    return _find(path) is not None


def _find(path: Path) -> Path | None:
    for candidate in (path, path / "checkpoints" / "latest", path / "latest"):
        if (candidate / "meta.json").is_file():
            return candidate
        # A kill between the two renames of a replacement leaves the older one only.
        if (previous(candidate) / "meta.json").is_file():
            return previous(candidate)
    return None


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
