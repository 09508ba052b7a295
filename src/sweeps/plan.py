"""What a sweep file asks for: overrides times seeds.

::

    name: mixers                 # default: the file's name
    config: [qmix, vdn]          # as --config; a list is one more axis of the grid
    env_config: matrix           # as --env-config
    with: {t_max: 20000}         # for every run
    grid: {lr: [0.001, 0.0005]}  # every combination
    list:                        # or one after the other, each with every combination of the grid
      - {buffer_size: 100}
      - {buffer_size: 1000, batch_size: 64}
    overrides:                   # as in configs; skip leaves a combination out
      - {when: {config: vdn}, t_max: 10000}
      - {when: {lr: 0.0005, buffer_size: 100}, skip: true}
    seeds: 5                     # 0 to 4; or a list
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config.sources import Entry, read_yaml
from ..errors import ConfigError, did_you_mean

CHOICES = ("config", "env_config")
"""Words of a run that choose its files; every other one is a config key."""

_OF_THE_SWEEP = {"seed", "sweep", "resume", "local_results_path"}

Settings = dict[str, Any]


@dataclass(frozen=True)
class Block:
    """Settings for those runs that agree with ``when``, or word that there are to be none."""

    when: Settings
    then: Settings
    skip: bool


@dataclass(frozen=True)
class Plan:
    """A sweep file, read.

    Attributes:
        name: of the sweep.
        fixed: settings of every run.
        grid: settings that take each value of a list.
        rows: settings that go together, one run each.
        blocks: settings of some runs, or their omission.
        seeds: of every combination.
        stale_after: seconds without a sign of life after which another worker takes a run over.
        tune: the section of that name, see :mod:`.tuning`.
        origin: the file.
    """

    name: str
    fixed: Settings = field(default_factory=dict)
    grid: dict[str, list[Any]] = field(default_factory=dict)
    rows: list[Settings] = field(default_factory=lambda: [{}])
    blocks: list[Block] = field(default_factory=list)
    seeds: list[int] = field(default_factory=lambda: [0])
    stale_after: float = 120.0
    tune: Mapping[str, Any] | None = None
    origin: str = ""

    def combinations(self) -> Iterator[Settings]:
        """Settings of every run but the seed and what :attr:`blocks` add."""
        for row in self.rows:
            for values in itertools.product(*self.grid.values()):
                yield self.fixed | dict(zip(self.grid, values, strict=True)) | row

    @property
    def tuned(self) -> list[str]:
        """Keys that are tuned."""
        return list((self.tune or {}).get("space") or {})

    @property
    def varied(self) -> list[str]:
        """Keys in which runs may differ."""
        keys = [*self.grid, *(k for row in self.rows for k in row), *self.tuned]
        keys += [k for block in self.blocks for k in block.then]
        return list(dict.fromkeys(keys))


def read_plan(path: Path) -> Plan:
    """Read a sweep file.

    Raises:
        ConfigError: it cannot be read, or something in it has no meaning; says in which line.
    """
    entries = {entry.key: entry for entry in read_yaml(path)}
    for key, entry in entries.items():
        if key not in _SECTIONS:
            hint = did_you_mean(key, _SECTIONS) or " A run's own keys stand under `with`."
            raise ConfigError(
                f"unknown key {key!r} ({entry.origin}).{hint} A sweep has: {', '.join(_SECTIONS)}."
            )
    read: dict[str, Any] = {}
    for key, entry in entries.items():
        read |= _SECTIONS[key](entry)
    fixed, grid = read.pop("fixed", {}), read.pop("grid", {})
    chosen = {key: read.pop(key) for key in CHOICES if key in read}
    axes = {key: value for key, value in chosen.items() if isinstance(value, list)}
    fixed |= {key: value for key, value in chosen.items() if key not in axes}
    plan = Plan(**{"name": path.stem, **read}, fixed=fixed, grid=axes | grid, origin=str(path))
    for key in {*fixed, *grid, *(k for row in plan.rows for k in row)} & _OF_THE_SWEEP:
        raise ConfigError(
            f"{path}: {key} is not the runs' to choose: the sweep sets it itself"
            + (" (--results DIR says where)" if key == "local_results_path" else "")
            + (", see `seeds`" if key == "seed" else "")
        )
    if not all("config" in settings for settings in plan.combinations()):
        raise ConfigError(f"{path} chooses no algorithm: add `config: NAME`, or a list of names")
    return plan


def _name(entry: Entry) -> dict[str, Any]:
    name = entry.text or ""
    if not name or any(not (c.isalnum() or c in "-_.") for c in name) or name.startswith("."):
        raise ConfigError(
            f"name={entry.value!r} ({entry.origin}) names a folder: letters, digits, - and _ only"
        )
    return {"name": name}


def _choice(entry: Entry) -> dict[str, Any]:
    values = entry.value if isinstance(entry.value, list) else [entry.value]
    if not values or not all(isinstance(value, str) for value in values):
        raise ConfigError(
            f"{entry.key}={entry.value!r} ({entry.origin}): expected the name or path of a config, or a "
            "list of them"
        )
    values = [_from_anywhere(value) for value in values]
    return {entry.key: values if isinstance(entry.value, list) else values[0]}


def _from_anywhere(name: str) -> str:
    """A file's name as it can be found from any folder; names of shipped configs stay."""
    path = Path(name).expanduser()
    is_file = path.suffix in (".yaml", ".yml", ".json") and path.is_file()
    return str(path.resolve()) if is_file else name


def _with(entry: Entry) -> dict[str, Any]:
    return {"fixed": _settings(entry.value, entry, "`with`")}


def _grid(entry: Entry) -> dict[str, Any]:
    grid = _settings(entry.value, entry, "`grid`")
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise ConfigError(
                f"grid.{key}={values!r} ({entry.origin}): expected a list of values, e.g. "
                f"{key}: [{values!r}]; what all runs share stands under `with`"
            )
    return {"grid": grid}


def _rows(entry: Entry) -> dict[str, Any]:
    if not isinstance(entry.value, list) or not entry.value:
        raise ConfigError(
            f"list ({entry.origin}): expected a list of settings, e.g. - {{lr: 0.001}}"
        )
    return {"rows": [_settings(row, entry, "an entry of `list`") for row in entry.value]}


def _blocks(entry: Entry) -> dict[str, Any]:
    blocks = entry.value if isinstance(entry.value, list) else [entry.value]
    found = []
    for block in blocks:
        when = block.get("when") if isinstance(block, dict) else None
        if not isinstance(when, dict) or len(block) < 2:
            raise ConfigError(
                f"overrides ({entry.origin}) must be a list of blocks like "
                f"{{when: {{map_name: MMM2}}, lr: 0.001}} or {{when: ..., skip: true}}, got {block!r}"
            )
        rest = {k: v for k, v in block.items() if k not in ("when", "skip")}
        skip = block.get("skip", False)
        then = _settings(rest, entry, "a block of `overrides`")
        if not isinstance(skip, bool) or (skip and then) or set(then) & {*CHOICES, "seed"}:
            raise ConfigError(
                f"overrides ({entry.origin}): a block has either settings or `skip: true`, and cannot "
                f"choose config, env_config or seed, got {block!r}"
            )
        found.append(Block(_settings(when, entry, "`when`"), then, skip))
    return {"blocks": found}


def _seeds(entry: Entry) -> dict[str, Any]:
    seeds = list(range(entry.value)) if type(entry.value) is int else entry.value
    good = isinstance(seeds, list) and all(type(seed) is int and seed >= 0 for seed in seeds)
    if not good or not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(
            f"seeds={entry.value!r} ({entry.origin}): expected how many (0, 1, ...), or a list of "
            "different numbers"
        )
    return {"seeds": seeds}


def _stale_after(entry: Entry) -> dict[str, Any]:
    if type(entry.value) not in (int, float) or not entry.value > 0:
        raise ConfigError(
            f"stale_after={entry.value!r} ({entry.origin}): expected seconds, more than 0"
        )
    return {"stale_after": float(entry.value)}


def _tune(entry: Entry) -> dict[str, Any]:
    return {"tune": _settings(entry.value, entry, "`tune`")}


def stored_plan(stored: Mapping[str, Any]) -> Plan:
    """Undo ``dataclasses.asdict`` of a plan."""
    blocks = [Block(**block) for block in stored["blocks"]]
    return Plan(**{**stored, "blocks": blocks})


def _settings(value: Any, entry: Entry, what: str) -> Settings:
    """A mapping of keys, nested ``<kind>_args`` flattened to dotted keys."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ConfigError(f"{what} ({entry.origin}) must hold `key: value`, got {value!r}")
    flat: Settings = {}
    for key, inner in value.items():
        if key.endswith("_args") and isinstance(inner, dict):
            flat |= {f"{key}.{name}": item for name, item in inner.items()}
        else:
            flat[key] = inner
    return flat


_SECTIONS = {
    "name": _name,
    "config": _choice,
    "env_config": _choice,
    "with": _with,
    "grid": _grid,
    "list": _rows,
    "overrides": _blocks,
    "seeds": _seeds,
    "stale_after": _stale_after,
    "tune": _tune,
}
