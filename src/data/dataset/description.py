"""``dataset.json``: what a dataset is, who made it, and what each of its files must be."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import __version__
from ...envs.protocol import Box, Discrete, EnvSpec, Mixed
from ...errors import DatasetError
from ..batch import Field, episode_fields

FORMAT = 1
FILE = "dataset.json"
_BINS, _ALIKE = 20, 1e-3


@dataclass(frozen=True)
class ShardEntry:
    """What ``dataset.json`` says of one shard.

    Attributes:
        name: its folder.
        episodes: E, how many.
        steps: S, theirs together.
        outcomes: names of the columns of ``outcomes.npy``.
        files: bytes and sha256 of each file.
    """

    name: str
    episodes: int
    steps: int
    outcomes: tuple[str, ...]
    files: Mapping[str, tuple[int, str]]


@dataclass(frozen=True)
class Description:
    """A dataset without its arrays.

    Attributes:
        spec: the environment's description; an episode's arrays have its shapes.
        fields: what is kept of an episode, and in which types.
        environment: its name, every option, and what it says of itself (engine, version, map).
        policies: who acted: algorithm, run, step, exploration, config.
        seeds: of the runs that recorded.
        tier: the rule by which its episodes were chosen; None: all that were played.
        parents: of a derived dataset: name and checksum of each it was made of.
        shards: its parts, in order.
        returns: (E,) of its episodes, for the histogram.
        lengths: (E,) likewise.
        checksum: of the file this was read from, by which runs recognise their data; empty where there is
            none yet.
    """

    spec: EnvSpec
    fields: Mapping[str, Field]
    environment: Mapping[str, Any]
    policies: Sequence[Mapping[str, Any]] = ()
    seeds: Sequence[int] = ()
    tier: Mapping[str, Any] | None = None
    parents: Sequence[Mapping[str, Any]] = ()
    shards: tuple[ShardEntry, ...] = ()
    returns: Mapping[str, Any] = field(default_factory=dict)
    lengths: Mapping[str, Any] = field(default_factory=dict)
    checksum: str = ""

    @classmethod
    def of(
        cls,
        spec: EnvSpec,
        float_dtype: type[np.floating],
        environment: Mapping[str, Any],
        *,
        optional: frozenset[str] = frozenset(),
        **rest: Any,
    ) -> Description:
        """Of episodes that are yet to be recorded."""
        fields = episode_fields(spec, float_dtype=float_dtype, optional=optional)
        return cls(spec, fields, environment, **rest)

    @property
    def engine(self) -> str:
        """The engine of the environment; empty where it has but one."""
        return str(self.environment.get("facts", {}).get("engine", ""))

    def write(self, folder: Path, returns: NDArray[np.float64], lengths: NDArray[np.int64]) -> str:
        """Put ``dataset.json`` in place, with the histograms of all episodes; returns its checksum.

        Raises:
            OSError: the disk is full or not writable; the older file is kept.
        """
        content = {
            "format": FORMAT,
            "phalanx": __version__,
            "environment": {**self.environment, "spec": spec_to_json(self.spec)},
            "engine": self.engine,
            "fields": {name: _field_to_json(f) for name, f in self.fields.items()},
            "policies": list(self.policies),
            "seeds": list(self.seeds),
            "tier": self.tier,
            "parents": list(self.parents),
            "episodes": len(returns),
            "steps": int(lengths.sum()),
            "returns": histogram(returns),
            "lengths": histogram(lengths),
            "shards": [asdict(entry) for entry in self.shards],
        }
        content = json.loads(json.dumps(content))  # as it will be read
        content["checksum"] = _checksum(content)
        beside = folder / f".{FILE}.writing"
        with beside.open("w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(folder / FILE)
        return str(content["checksum"])

    @classmethod
    def read(cls, folder: Path) -> Description:
        """Undo :meth:`write`.

        Raises:
            DatasetError: there is none, it is damaged, or of another format.
        """
        file = folder / FILE
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise DatasetError(
                f"{folder} is no dataset: it has no {FILE}. Give a folder that record=DIR or "
                "`phalanx dataset record` wrote."
            ) from None
        except (OSError, ValueError) as error:
            raise DatasetError(f"{file} is damaged or cannot be read ({error}).") from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            found = content.get("format") if isinstance(content, dict) else content
            raise DatasetError(
                f"{folder} has dataset format {found!r}, this version reads {FORMAT}."
            )
        if content.get("checksum") != _checksum(content):
            raise DatasetError(
                f"{file} is damaged: it is not what was written (checksum). Its arrays are plain .npy files "
                "and can still be read with numpy."
            )
        environment = dict(content["environment"])
        spec = spec_from_json(environment.pop("spec"))
        return cls(
            spec=spec,
            fields=_fields_from_json(content["fields"], spec, file),
            environment=environment,
            policies=content["policies"],
            seeds=content["seeds"],
            tier=content["tier"],
            parents=content["parents"],
            shards=tuple(_entry_from_json(entry) for entry in content["shards"]),
            returns=content["returns"],
            lengths=content["lengths"],
            checksum=content["checksum"],
        )

    def with_shard(self, entry: ShardEntry) -> Description:
        """The same with one more shard."""
        return replace(self, shards=(*self.shards, entry))


def histogram(values: NDArray[Any]) -> dict[str, Any]:
    """Smallest, mean, largest, standard deviation, and how many lie in each of 20 equal ranges."""
    if not len(values):
        return {}
    low, high = float(values.min()), float(values.max())
    if high - low < _ALIKE * max(abs(high), 1.0):  # sums of the same rewards, but for rounding
        low, high = low - 0.475, high + 0.525  # no edge in their middle
    counts, edges = np.histogram(values.astype(np.float64), _BINS, (low, high))
    return {
        "min": float(values.min()),
        "mean": float(values.mean()),
        "max": float(values.max()),
        "std": float(values.std()),
        "edges": [round(float(edge), 6) for edge in edges],
        "counts": counts.tolist(),
    }


def differences(here: EnvSpec, there: EnvSpec) -> list[str]:
    """``"n_agents 3 / 5"`` for each fact in which two environments differ."""
    one, other = spec_to_json(here), spec_to_json(there)
    return [f"{key} {one[key]!r} / {other[key]!r}" for key in one if one[key] != other[key]]


def spec_to_json(spec: EnvSpec) -> dict[str, Any]:
    """A spec as plain values."""
    plain = asdict(spec)
    plain["action"] = {"kind": type(spec.action).__name__.lower(), **plain["action"]}
    found: dict[str, Any] = json.loads(json.dumps(plain))
    return found


def spec_from_json(plain: Mapping[str, Any]) -> EnvSpec:
    """Undo :func:`spec_to_json`."""
    groups = plain["agent_groups"]
    return EnvSpec(
        **{
            **plain,
            "action": _action(plain["action"]),
            "agent_groups": None if groups is None else tuple(groups),
        }
    )


def _action(plain: Mapping[str, Any]) -> Discrete | Box | Mixed:
    if plain["kind"] == "discrete":
        return Discrete(plain["n"])
    if plain["kind"] == "box":
        return Box(tuple(plain["low"]), tuple(plain["high"]), plain["unequal"])
    vector = plain["vector"]
    return Mixed(
        Discrete(plain["choice"]["n"]),
        Box(tuple(vector["low"]), tuple(vector["high"]), vector["unequal"]),
    )


def _field_to_json(f: Field) -> dict[str, Any]:
    return {"shape": list(f.shape), "dtype": np.dtype(f.dtype).name, "final": f.final}


def _fields_from_json(plain: Mapping[str, Any], spec: EnvSpec, file: Path) -> dict[str, Field]:
    """The fields of an episode in the types they were written in."""
    known = episode_fields(spec, optional=frozenset(plain))
    fields = {}
    for name, kept in plain.items():
        if name not in known or tuple(kept["shape"]) != known[name].shape:
            raise DatasetError(
                f"{file} has a field {name} of shape {kept['shape']}, which this version does not know: "
                f"it reads {', '.join(f'{k} {list(f.shape)}' for k, f in known.items())}."
            )
        fields[name] = replace(known[name], dtype=np.dtype(kept["dtype"]).type)
    return fields


def _entry_from_json(plain: Mapping[str, Any]) -> ShardEntry:
    files = {name: (int(size), str(digest)) for name, (size, digest) in plain["files"].items()}
    return ShardEntry(
        plain["name"], plain["episodes"], plain["steps"], tuple(plain["outcomes"]), files
    )


def _checksum(content: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in content.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
