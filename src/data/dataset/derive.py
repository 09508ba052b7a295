"""Datasets made of datasets: tiers by return, several in one, what is whole of a damaged one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DatasetError
from ...seeding import named_seed
from ..batch import OPTIONAL_FIELDS
from .description import differences
from .reader import Dataset
from .writer import DatasetWriter, appearing_whole

_TIER = re.compile(r"\s*(?P<name>[\w-]+)\s*:\s*(?P<low>-?[\d.]+)?\s*-\s*(?P<high>-?[\d.]+)?\s*")


@dataclass(frozen=True)
class Tier:
    """Episodes with a return from ``low`` on and below ``high``; None: no bound."""

    name: str
    low: float | None
    high: float | None

    def rows(self, returns: NDArray[np.float64]) -> NDArray[np.int64]:
        """The episodes of returns (E,) that belong to it."""
        inside = np.ones(len(returns), bool)
        if self.low is not None:
            inside &= returns >= self.low
        if self.high is not None:
            inside &= returns < self.high
        return np.flatnonzero(inside)


def parse_tiers(text: str) -> list[Tier]:
    """``"poor:0-10,good:15-"``: names with the returns they begin at and stay below.

    >>> parse_tiers("poor:-20-10,good:15-")[0]
    Tier(name='poor', low=-20.0, high=10.0)

    Raises:
        DatasetError: that is no such list, or a range is empty.
    """
    tiers = []
    for part in text.split(","):
        found = _TIER.fullmatch(part)
        try:
            if found is None:
                raise ValueError("no tier")
            low, high = (None if found[k] is None else float(found[k]) for k in ("low", "high"))
        except ValueError:
            raise DatasetError(
                f"--tiers {text}: {part!r} is no tier; give NAME:FROM-BELOW, e.g. "
                "poor:0-10,medium:10-15,good:15-"
            ) from None
        if low is not None and high is not None and low >= high:
            raise DatasetError(f"--tiers {text}: {part!r} holds no return.")
        tiers.append(Tier(found["name"], low, high))
    names = [tier.name for tier in tiers]
    if len(set(names)) < len(names):
        raise DatasetError(f"--tiers {text}: two tiers have the same name.")
    return tiers


def split(
    source: Dataset, tier: Tier, destination: Path, *, episodes: int | None, seed: int
) -> Dataset | None:
    """Write the episodes of a tier, at most ``episodes`` of them drawn at random.

    Returns:
        The new dataset, with as many episodes as there are; None where there is none.
    """
    rows = tier.rows(source.returns)
    there = len(rows)
    if episodes is not None and there > episodes:
        draw = np.random.default_rng(named_seed(seed, f"tier {tier.name}"))
        rows = np.sort(draw.choice(rows, episodes, replace=False))
    if not there:
        return None
    rule = {
        "name": tier.name,
        "by": "return of the episode",
        "from": tier.low,
        "below": tier.high,
        "asked": episodes,
        "there": there,
        "seed": seed,
    }
    return _derived([(source, rows)], destination, tier=rule)


def join(sources: Sequence[Dataset], destination: Path) -> Dataset:
    """Write all episodes of several datasets, one after the other.

    Optional fields that one of them lacks are left out.

    Raises:
        DatasetError: they are not of the same environment, or keep their fields in other types.
    """
    first = sources[0]
    for other in sources[1:]:
        differs = differences(first.spec, other.spec)
        differs += _options(first.description.environment, other.description.environment)
        differs += _fields(first, other)
        if differs:
            raise DatasetError(
                f"{first.folder} and {other.folder} do not go together: {', '.join(differs)}."
            )
    tiers = {str(source.description.tier): source.description.tier for source in sources}
    tier = first.description.tier if len(tiers) == 1 else None
    return _derived([(s, np.arange(len(s))) for s in sources], destination, tier=tier)


def rescue(source: Dataset, whole: NDArray[np.bool_], destination: Path) -> Dataset:
    """Write the episodes where ``whole`` (E,) is true."""
    return _derived([(source, np.flatnonzero(whole))], destination, tier=source.description.tier)


def _derived(
    parts: Sequence[tuple[Dataset, NDArray[np.int64]]],
    destination: Path,
    tier: Mapping[str, Any] | None,
) -> Dataset:
    policies: list[Mapping[str, Any]] = []
    seeds: list[int] = []
    for source, _ in parts:
        policies += [p for p in source.description.policies if p not in policies]
        seeds += [s for s in source.description.seeds if s not in seeds]
    first = parts[0][0].description
    common = set(first.fields).intersection(*(source.fields for source, _ in parts))
    description = replace(
        first,
        fields={name: f for name, f in first.fields.items() if name in common},
        policies=policies,
        seeds=seeds,
        tier=tier,
        parents=[
            {"name": source.folder.resolve().name, "checksum": source.description.checksum}
            for source, _ in parts
        ],
        shards=(),
    )
    with appearing_whole(destination) as beside, DatasetWriter(beside, description) as writer:
        for source, rows in parts:
            outcomes = source.outcomes
            for row in rows.tolist():
                known = {k: float(v[row]) for k, v in outcomes.items() if not np.isnan(v[row])}
                writer.append(source.episode(row), known)
    return Dataset.open(destination)


def _options(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Differences of environments beyond their spec, their seeds apart."""
    found = [
        f"{key} {one.get(key)!r} / {other.get(key)!r}"
        for key in ("name", "facts")
        if one.get(key) != other.get(key)
    ]
    mine, yours = (dict(e.get("options", {})) for e in (one, other))
    return found + [
        f"{key} {mine.get(key)!r} / {yours.get(key)!r}"
        for key in sorted(mine.keys() | yours.keys())
        if key != "seed" and mine.get(key) != yours.get(key)
    ]


def _fields(one: Dataset, other: Dataset) -> list[str]:
    mine, yours = (
        {name: np.dtype(f.dtype).name for name, f in data.fields.items()} for data in (one, other)
    )
    return [
        f"field {name} {mine.get(name, 'missing')} / {yours.get(name, 'missing')}"
        for name in sorted((mine.keys() | yours.keys()) - OPTIONAL_FIELDS)
        if mine.get(name) != yours.get(name)
    ]
