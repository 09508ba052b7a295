"""Put a run together from config files and the command line.

Order, later wins: default.yaml, envs/X.yaml, algs/Y.yaml, overrides of these files that match the run
(``overrides``, e.g. for one map), command line. A bare key goes to the one chosen part that reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from ..errors import ConfigError, did_you_mean
from ..plugins import broken_hint, load_plugins
from ..registry import REGISTRIES, PartConfig, reachable_kinds
from . import pymarl
from .schema import RunConfig
from .sources import CONFIG_DIR, Entry, config_file, read_words, read_yaml

DEFAULT_ENV = "sc2"


@dataclass(frozen=True)
class Composed:
    """A complete, checked configuration.

    Attributes:
        run: keys of the run itself.
        chosen: name of the chosen part for every kind in use.
        parts: config slice for every kind in use.
        origins: where each value was written, by full key; absent for a part's own default.
        notes: one line for each value of a file that this composition does not use.
    """

    run: RunConfig
    chosen: dict[str, str]
    parts: dict[str, PartConfig]
    origins: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def nested(self) -> dict[str, Any]:
        """Plain nested dict, the form that is stored: run keys, ``mixer: qmix``, ``mixer_args: {...}``."""
        stored: dict[str, Any] = self.run.model_dump(mode="json")
        for kind, name in self.chosen.items():
            stored[kind] = name
            stored[f"{kind}_args"] = self.parts[kind].model_dump(mode="json")
        return stored

    def full_keys(self) -> dict[str, tuple[Any, str, str]]:
        """Value, origin and description of every value by full key, in print order."""
        rows: dict[str, tuple[Any, str, str]] = {}
        for key, info in RunConfig.model_fields.items():
            value = getattr(self.run, key)
            rows[key] = (value, self.origins.get(key, "default"), info.description or "")
        for kind, name in self.chosen.items():
            rows[kind] = (name, self.origins.get(kind, "default"), REGISTRIES[kind].doc)
            for key, info in type(self.parts[kind]).model_fields.items():
                full = f"{kind}_args.{key}"
                value = getattr(self.parts[kind], key)
                origin = self.origins.get(full, f"default of {kind} {name}")
                rows[full] = (value, origin, info.description or "")
        return rows


def compose(config: str | None, env_config: str | None, words: Sequence[str] = ()) -> Composed:
    """Compose a run.

    Args:
        config: ``--config``: name of a shipped algorithm or path of a YAML file.
        env_config: ``--env-config``: likewise for the environment; default: the one ``env=`` names,
            else ``sc2``.
        words: ``key=value`` words of the command line.

    Raises:
        ConfigError: any unknown, misplaced, ambiguous or ill-typed key or value.
        RegistryError: an unknown part.
    """
    typed = read_words(words)
    if config is None:
        known = sorted(p.stem for p in (CONFIG_DIR / "algs").glob("*.yaml"))
        raise ConfigError(f"no algorithm chosen: add --config=NAME, one of {', '.join(known)}")
    wanted_env = next((str(e.value) for e in reversed(typed) if e.key == "env"), DEFAULT_ENV)
    written = [
        *(replace(e, inherited=True) for e in read_yaml(CONFIG_DIR / "default.yaml")),
        *_read_with_parents("envs", env_config or wanted_env),
        *_read_with_parents("algs", config),
    ]
    return _compose(written, typed)


def compose_stored(stored: Mapping[str, Any], origin: str, words: Sequence[str] = ()) -> Composed:
    """Compose again what :meth:`Composed.nested` stored, with ``words`` on top."""
    written = []
    for key, value in stored.items():
        if key.endswith("_args") and isinstance(value, Mapping):
            written += [Entry(f"{key}.{k}", v, origin) for k, v in value.items()]
        else:
            written.append(Entry(key, value, origin))
    return _compose(written, read_words(words))


def _read_with_parents(kind: str, name: str, heirs: tuple[str, ...] = ()) -> list[Entry]:
    """Entries of a config after those of the config it ``extends``."""
    path = config_file(kind, name)
    if str(path) in heirs:
        raise ConfigError(f"configs extend each other in a circle: {' -> '.join(heirs)} -> {path}")
    entries: list[Entry] = []
    own = read_yaml(path)
    for entry in own:
        if entry.key == "extends":
            beside = path.parent / f"{entry.value}.yaml"
            parent = str(beside) if beside.is_file() else str(entry.value)
            older = _read_with_parents(kind, parent, (*heirs, str(path)))
            entries += [replace(e, inherited=True) for e in older]
    return entries + [e for e in own if e.key != "extends"]


def _compose(written: list[Entry], typed: list[Entry]) -> Composed:
    written, typed = _translate(written, typed)
    notes: list[str] = []
    load_plugins(_last(written + typed, "plugins") or [])
    plain = [e for e in written if e.key != "overrides"]
    overrides = [e for e in written if e.key == "overrides"]

    chosen = _choose(plain + typed)
    router = _Router(chosen)
    routed = [r for e in plain + typed if (r := router.route(e, notes))]
    # Overrides are matched against everything else, and may choose parts of their own.
    matched = _matching(overrides, routed, router)
    if matched:
        chosen = _choose(plain + matched + typed)
        router, notes = _Router(chosen), []
        routed = [r for e in plain + matched + typed if (r := router.route(e, notes))]

    values = {r.key: r.value for r in routed}
    origins = {r.key: r.origin for r in routed}
    run = _check(RunConfig, "", values, origins)
    parts = {
        kind: _check(REGISTRIES[kind].get(chosen[kind]).Config, f"{kind}_args.", values, origins)
        for kind in router.kinds
    }
    kinds = {kind: chosen[kind] for kind in router.kinds}
    return Composed(run, kinds, parts, origins, list(dict.fromkeys(notes)))


def _translate(written: list[Entry], typed: list[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Put PyMARL's spelling of keys and values into ours."""

    def one(entry: Entry) -> Entry:
        key, value = entry.key, entry.value
        if isinstance(value, (list, dict)):  # not hashable, and nothing PyMARL spells differently
            return entry
        if key in pymarl.RENAMED:
            key, translation = pymarl.RENAMED[key]
            value = translation.get(value, value)
        return replace(entry, key=key, value=pymarl.VALUES.get((key, value), value))

    return [one(e) for e in written], [one(e) for e in typed]


def _last(entries: list[Entry], key: str) -> Any:
    return next((e.value for e in reversed(entries) if e.key == key), None)


def _choose(entries: list[Entry]) -> dict[str, str]:
    """The part chosen for each kind; the last word counts."""
    last = {entry.key: entry for entry in entries if entry.key in REGISTRIES}
    for kind, entry in last.items():
        names = REGISTRIES[kind].names()
        if entry.value not in names:
            raise ConfigError(
                f"unknown {kind} {entry.value!r} ({entry.origin})."
                f"{did_you_mean(str(entry.value), names)} "
                f"Registered: {', '.join(names)}.{broken_hint()}"
            )
    return {kind: entry.value for kind, entry in last.items()}


class _Router:
    """Finds the full key that an entry means, given the chosen parts."""

    def __init__(self, chosen: Mapping[str, str]) -> None:
        self.chosen = chosen
        self.kinds = reachable_kinds(chosen)

    def route(self, entry: Entry, notes: list[str]) -> Entry | None:
        """The entry with its full key, or None (and a note) when a file's value is not used here."""
        key = entry.key
        if key in RunConfig.model_fields:
            return entry
        if key in REGISTRIES:
            if key in self.kinds:
                return entry
            return self._unused(entry, f"no part of this run uses a {key}", notes)
        head, dot, tail = key.partition(".")
        if head.removesuffix("_args") in REGISTRIES and head.endswith("_args"):
            if not dot:
                if entry.value in ({}, None):
                    return None
                raise ConfigError(
                    f"{head} ({entry.origin}) must be a mapping of keys, got {entry.value!r}. "
                    f"Write {head}.KEY=VALUE."
                )
            return self._route_part_key(entry, head.removesuffix("_args"), tail, notes)
        if dot:
            raise self._unknown(entry)
        return self._route_bare(entry, notes)

    def _route_part_key(self, entry: Entry, kind: str, key: str, notes: list[str]) -> Entry | None:
        if kind not in self.kinds:
            return self._unused(entry, f"no part of this run uses a {kind}", notes)
        if key in _keys(kind, self.chosen[kind]):
            return entry
        others = [n for n in REGISTRIES[kind].names() if key in _keys(kind, n)]
        if others:
            return self._unused(entry, self._read_by(kind, others), notes)
        raise self._unknown(entry)

    def _route_bare(self, entry: Entry, notes: list[str]) -> Entry | None:
        key = entry.key
        readers = [k for k in self.kinds if key in _keys(k, self.chosen[k])]
        if len(readers) > 1:
            names = " and ".join(f"{k}_args.{key}" for k in readers)
            raise ConfigError(
                f"key {key!r} ({entry.origin}) is read by {len(readers)} parts: {names}. "
                "Write the full name of the one you mean."
            )
        if readers:
            return Entry(f"{readers[0]}_args.{key}", entry.value, entry.origin)
        for kind, registry in REGISTRIES.items():
            others = [n for n in registry.names() if key in _keys(kind, n)]
            if others:
                return self._unused(entry, self._read_by(kind, others), notes)
        if key in pymarl.DROPPED:
            return self._unused(
                entry, f"PyMARL's key has no use here: {pymarl.DROPPED[key]}", notes
            )
        raise self._unknown(entry)

    def _read_by(self, kind: str, others: list[str]) -> str:
        reader = f"read by {kind} {' / '.join(others)}"
        if kind in self.kinds:
            return f"{reader}, but this run uses {kind} {self.chosen[kind]}"
        return f"{reader}, but no part of this run uses a {kind}"

    def _unused(self, entry: Entry, why: str, notes: list[str]) -> Entry | None:
        """Refuse a typed word; pass over a file's value with a note.

        Without one where the value is inherited: who chose other parts meant to leave it behind.
        """
        if entry.from_command_line:
            raise ConfigError(f"key {entry.key!r} ({entry.origin}): {why}")
        if entry.inherited:
            return None
        notes.append(f"{entry.origin}: {entry.key} skipped, {why}")
        return None

    def _unknown(self, entry: Entry) -> ConfigError:
        full = [f"{k}_args.{key}" for k in self.kinds for key in _keys(k, self.chosen[k])]
        bare = [*RunConfig.model_fields, *REGISTRIES, *(f.partition(".")[2] for f in full)]
        hint = did_you_mean(entry.key, full if "." in entry.key else bare)
        reader = ""
        if "." in entry.key and (kind := entry.key.partition("_args.")[0]) in self.kinds:
            keys = ", ".join(_keys(kind, self.chosen[kind])) or "no keys"
            reader = f" {kind} {self.chosen[kind]!r} reads: {keys}."
        return ConfigError(
            f"unknown key {entry.key!r} ({entry.origin}).{hint}{reader} "
            "`print_config` shows every key of a run."
        )


def _keys(kind: str, name: str) -> Mapping[str, Any]:
    config: type[PartConfig] = REGISTRIES[kind].get(name).Config
    return config.model_fields


def _matching(overrides: list[Entry], routed: list[Entry], router: _Router) -> list[Entry]:
    """Entries of the override blocks whose ``when`` agrees with the run."""
    values = {e.key: e.value for e in routed}
    matched: list[Entry] = []
    for block in overrides:
        for item in block.value if isinstance(block.value, list) else [block.value]:
            if not isinstance(item, dict) or not isinstance(item.get("when"), dict):
                raise ConfigError(
                    f"overrides ({block.origin}) must be a list of blocks like "
                    f"{{when: {{map_name: MMM2}}, lr: 0.001}}, got {item!r}"
                )
            conditions = [
                router.route(Entry(k, v, block.origin), []) for k, v in item["when"].items()
            ]
            if all(c is not None and values.get(c.key) == c.value for c in conditions):
                values_of_block = {k: v for k, v in item.items() if k != "when"}
                matched += [replace(block, key=k, value=v) for k, v in values_of_block.items()]
    return matched


def _check(
    schema: type[PartConfig], prefix: str, values: Mapping[str, Any], origins: Mapping[str, str]
) -> Any:
    """Validate one slice; the first fault becomes a ConfigError that names key, value and origin."""
    own = {
        key: values[f"{prefix}{key}"] for key in schema.model_fields if f"{prefix}{key}" in values
    }
    try:
        return schema(**own)
    except ValidationError as error:
        lines = []
        for fault in error.errors():
            key = f"{prefix}{'.'.join(str(p) for p in fault['loc'][:1])}"
            if fault["type"] == "missing":
                lines.append(f"key {key!r} is missing: no config file or word sets it")
                continue
            origin = f" ({origins[key]})" if key in origins else ""
            expected = fault["msg"].removeprefix("Value error, ").replace("Input should", "should")
            lines.append(f"{key}={fault['input']!r}{origin} {expected}")
        raise ConfigError("; ".join(lines)) from error
