"""A recorded episode: what every unit did in every game loop, in one small file.

The file is a compressed numpy archive without pickles. ``header`` is JSON (UTF-8 bytes); quantities are
16-bit integers in steps named there, stored as differences from loop to loop, unit by unit. Traces hold all
that a picture needs, so they can be drawn where the map's data or the engine have changed since.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....errors import TraceError

FORMAT, VERSION = "phalanx battle trace", 1
RESULTS = ("won", "lost", "drawn", "timeout", "unfinished")

_POSITION_STEP = 1 / 1024  # map units
_FINEST_STEP = 1 / 128  # health, shield, energy
_MOST_STEPS = 65_000  # below 2**16
_QUANTITIES = ("x", "y", "health", "shield", "energy")
_NUMBERS = ("order", "target", "shot")


@dataclass(frozen=True)
class UnitFacts:
    """What does not change about a unit.

    Attributes:
        type: name of its unit type.
        enemy: which side.
        radius: map units.
        health, shield, energy: the most it can have.
        plane: 0 ground, 1 air, 2 colossus.
        delivery: how its damage travels, as in ``units.py``: 0 not at all, 1 at once, 2 by missile, 3 along
            a line, 4 by bursting.
        missile_speed: map units per loop, 0 without missiles.
    """

    type: str
    enemy: bool
    radius: float
    health: float
    shield: float
    energy: float
    plane: int
    delivery: int
    missile_speed: float


@dataclass(frozen=True)
class Trace:
    """One episode. Axis letters: F game loops counted from the start (frame 0), M units, T env steps.

    Attributes:
        map_name, profile, options: what was played; options are SMAC's.
        seed, battle, episode: together they fix all randomness; battle is the index counted from the seed.
        step_mul, limit: loops per env step, longest episode in env steps.
        result: one of RESULTS.
        units: facts of each unit, agents first (M).
        cells, levels: the ground as in the map data, 32 rows from the top (y = 31).
        x, y: (F, M) float32, map units. health, shield, energy: (F, M) float32; health 0 is dead.
        order: (F, M) int8, as in ``layout.py``: 0 stand, 1 move, 2 attack, 3 heal, 4 march.
        target: (F, M) int16, whom the order is about, -1 nobody.
        shot: (F, M) int16, at whom the unit fired in this loop, -1 nobody.
        actions: (T, N) int16, as carried out. reward: (T,) float32.
    """

    map_name: str
    profile: str
    options: dict[str, Any]
    seed: int
    battle: int
    episode: int
    step_mul: int
    limit: int
    result: str
    units: tuple[UnitFacts, ...]
    cells: tuple[str, ...]
    levels: tuple[str, ...]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    health: NDArray[np.float32]
    shield: NDArray[np.float32]
    energy: NDArray[np.float32]
    order: NDArray[np.int8]
    target: NDArray[np.int16]
    shot: NDArray[np.int16]
    actions: NDArray[np.int16]
    reward: NDArray[np.float32]

    @property
    def loops(self) -> int:
        """Game loops played; there is one frame more."""
        return len(self.x) - 1

    @property
    def steps(self) -> int:
        """Env steps played."""
        return len(self.reward)

    @property
    def n_agents(self) -> int:
        """Units of the agents' side."""
        return sum(not unit.enemy for unit in self.units)

    def save(self, path: Path | str) -> Path:
        """Write the file, complete or not at all; returns its path."""
        path = Path(path)
        arrays: dict[str, NDArray[Any]] = {}
        steps: dict[str, float] = {}
        for name in _QUANTITIES:
            values: NDArray[np.float32] = getattr(self, name)
            steps[name] = _step_of(name, values)
            # Rounded up: whoever lives has some health left.
            whole = np.ceil(values / steps[name]) if name == "health" else values / steps[name]
            arrays[name] = _differences(np.rint(np.maximum(whole, 0)).astype(np.uint16))
        for name in _NUMBERS:
            arrays[name] = _differences(getattr(self, name).astype(np.int16).view(np.uint16))
        arrays["actions"], arrays["reward"] = self.actions, self.reward
        header = {
            "format": FORMAT,
            "version": VERSION,
            "steps": steps,
            **{f.name: getattr(self, f.name) for f in fields(self) if f.name not in _ARRAYS},
            "units": [asdict(unit) for unit in self.units],
        }
        arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with beside.open("wb") as file:
                np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
            beside.replace(path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                beside.unlink()
        return path


_ARRAYS = (*_QUANTITIES, *_NUMBERS, "actions", "reward")
_SCALARS = {
    "map_name": str,
    "profile": str,
    "options": dict,
    "seed": int,
    "battle": int,
    "episode": int,
    "step_mul": int,
    "limit": int,
    "result": str,
}


def load_trace(path: Path | str) -> Trace:
    """Read a file that :meth:`Trace.save` wrote.

    Raises:
        TraceError: no such file, something else, damaged, or written by a newer version; says which.
    """
    path = Path(path)
    if not path.is_file():
        raise TraceError(f"no trace {path}: there is no such file.")
    try:
        file = np.load(path, allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise TraceError(f"{path} is not a battle trace but a numpy array.")
        with file:
            content = {name: file[name] for name in file.files}
    except TraceError:
        raise
    except (
        Exception
    ) as error:  # of damaged bytes numpy's and zip's parsers raise whatever they meet
        raise TraceError(f"{path} is not a battle trace, or is damaged: {error}.") from error
    try:
        header = json.loads(bytes(content.pop("header")))
        form, version = header["format"], header["version"]
    except (KeyError, ValueError, TypeError):
        raise TraceError(f"{path} is not a battle trace: it has no readable header.") from None
    if form != FORMAT or not isinstance(version, int):
        raise TraceError(f"{path} is not a battle trace but {form!r}.")
    if version > VERSION:
        raise TraceError(
            f"{path} is a trace of version {version}; this is Phalanx for versions up to {VERSION}. "
            "Update Phalanx to read it."
        )
    try:
        trace = _decode(header, content)
        _check(trace)
    except (KeyError, ValueError, TypeError, IndexError) as error:
        why = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise TraceError(f"{path} is a damaged battle trace: {why}.") from error
    return trace


def _decode(header: dict[str, Any], content: dict[str, NDArray[Any]]) -> Trace:
    read: dict[str, Any] = {name: header[name] for name in _SCALARS}
    for name, kind in _SCALARS.items():
        if type(read[name]) is not kind:
            raise ValueError(f"{name} is {read[name]!r}, not of type {kind.__name__}")
    read["units"] = tuple(UnitFacts(**unit) for unit in header["units"])
    read["cells"], read["levels"] = tuple(header["cells"]), tuple(header["levels"])
    for name in _QUANTITIES:
        step = float(header["steps"][name])
        read[name] = _sums(content[name]).astype(np.float32) * np.float32(step)
    for name in _NUMBERS:
        read[name] = _sums(content[name]).view(np.int16)
    read["order"] = read["order"].astype(np.int8)
    for name, kind in (("actions", np.int16), ("reward", np.float32)):
        if content[name].dtype != kind:
            raise ValueError(f"{name} is of type {content[name].dtype}, not {np.dtype(kind)}")
        read[name] = content[name]
    return Trace(**read)


def _check(trace: Trace) -> None:
    M, T = len(trace.units), len(trace.reward)
    if M == 0 or trace.step_mul < 1:
        raise ValueError("it has no units or no loops per step")
    wanted = (T * trace.step_mul + 1, M)
    for name in (*_QUANTITIES, *_NUMBERS):
        shape = getattr(trace, name).shape
        if shape != wanted:
            raise ValueError(f"{name} has shape {shape} where {wanted} belongs")
    if trace.reward.ndim != 1 or trace.actions.shape != (T, trace.n_agents):
        raise ValueError(f"actions have shape {trace.actions.shape}, not {(T, trace.n_agents)}")
    for name in ("target", "shot"):
        numbers = getattr(trace, name)
        if numbers.min() < -1 or numbers.max() >= M:
            raise ValueError(f"{name} names units that do not exist")
    if trace.result not in RESULTS:
        raise ValueError(f"result {trace.result!r} is none of {', '.join(RESULTS)}")
    for rows in (trace.cells, trace.levels):
        if not rows or any(not isinstance(r, str) or len(r) != len(rows[0]) for r in rows):
            raise ValueError("the ground is no table of letters")
    if [len(row) for row in trace.cells] != [len(row) for row in trace.levels]:
        raise ValueError("cells and levels of the ground differ in size")


def _step_of(name: str, values: NDArray[np.float32]) -> float:
    if name in ("x", "y"):
        return _POSITION_STEP
    return max(_FINEST_STEP, float(values.max(initial=0)) / _MOST_STEPS)


def _differences(values: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """(F, M) to (M, F): each loop less the one before, modulo 2**16."""
    by_unit = np.ascontiguousarray(values.T)
    by_unit[:, 1:] -= values.T[:, :-1]
    return by_unit


def _sums(differences: NDArray[Any]) -> NDArray[np.uint16]:
    """Undo :func:`_differences`."""
    if differences.dtype != np.uint16 or differences.ndim != 2:
        raise ValueError(f"an array is {differences.dtype} of {differences.ndim} axes")
    return np.ascontiguousarray(np.cumsum(differences, axis=1, dtype=np.uint16).T)
