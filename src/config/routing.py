"""Which part reads which key, and whether the value suits it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from ..errors import ConfigError, PhalanxError, did_you_mean
from ..plugins import broken_hint
from ..registry import REGISTRIES, PartConfig, reachable_kinds
from .pymarl import MEANINGS, Dropped, Renamed
from .schema import RunConfig
from .sources import CONFIG_DIR, Entry, read_yaml, shipped_configs
from .values import fitted, not_plain


class Faults(list[str]):
    """What is wrong with a config; said all at once."""

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Note an error instead of letting it pass."""
        try:
            yield
        except PhalanxError as error:
            self.append(str(error))

    def raise_if_any(self) -> None:
        """One error for all.

        Raises:
            ConfigError: there is something.
        """
        different = list(dict.fromkeys(self))
        if len(different) == 1:
            raise ConfigError(different[0])
        if different:
            listed = "\n".join(f"  - {fault}" for fault in different)
            raise ConfigError(f"{len(different)} things are wrong with this config:\n{listed}")


def choose(entries: list[Entry], faults: Faults) -> tuple[dict[str, str], frozenset[str]]:
    """The part chosen for each kind, the last word counts, and the kinds whose choice is unknown.

    In place of an unknown part stands the one chosen before it, so that the rest can be checked.
    """
    chosen: dict[str, str] = {}
    unknown: dict[str, Entry] = {}
    for entry in entries:
        if entry.key not in REGISTRIES:
            continue
        if entry.value in REGISTRIES[entry.key].names():
            chosen[entry.key] = entry.value
            unknown.pop(entry.key, None)
        else:
            unknown[entry.key] = entry
    try:
        reachable = reachable_kinds(chosen)
    except PhalanxError:
        reachable = list(REGISTRIES)
    wrong = {kind: entry for kind, entry in unknown.items() if kind in reachable}
    names = [e.value for e in entries if e.key == "name"]
    faults += [_unknown_part(entry, str(names[-1]) if names else "") for entry in wrong.values()]
    return chosen, frozenset(wrong)


def _unknown_part(entry: Entry, run_name: str) -> str:
    kind, registry = entry.key, REGISTRIES[entry.key]
    hint = did_you_mean(str(entry.value), registry.names())
    meant = [name for name in registry.names() if f"'{name}'" in hint]
    complete = ""
    if len(meant) == 1 and kind == "learner" and (configs := _configs_with(kind, meant[0])):
        configs.sort(key=lambda name: name != run_name)
        complete = f" Complete with it: --config={configs[0]}."
    return (
        f"unknown {kind} {entry.value!r} ({entry.origin}).{hint}{complete} "
        f"Registered: {', '.join(registry.names())}.{broken_hint()}"
    )


def _configs_with(kind: str, name: str) -> list[str]:
    """Shipped algorithms that choose this part themselves."""
    return [
        config
        for config in shipped_configs("algs")
        for entry in read_yaml(CONFIG_DIR / "algs" / f"{config}.yaml")
        if entry.key == kind and entry.value == name
    ]


class Router:
    """Finds the full key that an entry means, given the chosen parts.

    Args:
        chosen: name of the part of each kind.
        unsettled: kinds whose part is unknown; nothing is said of their keys.

    Raises:
        RegistryError: a part needs a kind for which none is chosen.
    """

    def __init__(self, chosen: Mapping[str, str], unsettled: frozenset[str] = frozenset()) -> None:
        self.chosen, self.unsettled = chosen, unsettled
        self.kinds = reachable_kinds(chosen)

    def route(self, entry: Entry, notes: list[str]) -> Entry | None:
        """The entry with its full key, or None (and a note) when a file's value is not used here.

        Raises:
            ConfigError: nobody reads it, several do, or it cannot be done.
        """
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

    def value_of(self, full: str, values: Mapping[str, Entry]) -> Any:
        """What a routed key is in this run: as it was set, else its default."""
        if full in REGISTRIES:
            return self.chosen[full]
        info = self._info(full)
        if full in values:
            return fitted(info.annotation, values[full].value, values[full].text)
        return info.get_default(call_default_factory=True)

    def fits(self, full: str, entry: Entry) -> Any:
        """An entry's value as the key's type takes it."""
        if full in REGISTRIES:
            return entry.value
        return fitted(self._info(full).annotation, entry.value, entry.text)

    def _info(self, full: str) -> Any:
        kind, dot, key = full.partition("_args.")
        return _keys(kind, self.chosen[kind])[key] if dot else RunConfig.model_fields[full]

    def _route_part_key(self, entry: Entry, kind: str, key: str, notes: list[str]) -> Entry | None:
        if kind not in self.kinds:
            return self._unused(entry, f"no part of this run uses a {kind}", notes)
        if key in _keys(kind, self.chosen[kind]):
            return entry
        if kind in self.unsettled:
            return None
        if key in MEANINGS:
            return self._translated(entry, key, f"{kind}_args.", notes)
        others = [n for n in REGISTRIES[kind].names() if key in _keys(kind, n)]
        if others:
            return self._unused(entry, self._read_by(kind, others), notes)
        raise self._unknown(entry)

    def _route_bare(self, entry: Entry, notes: list[str]) -> Entry | None:
        key = entry.key
        readers = [k for k in self.kinds if key in _keys(k, self.chosen[k])]
        if len(readers) > 1 and entry.kind == "algs":
            # In an algorithm's flat file an environment's keys stand in env_args.
            readers = [k for k in readers if k != "env"]
        if entry.kind == "envs" and "env" in readers:
            readers = ["env"]
        if len(readers) > 1:
            names = " and ".join(f"{k}_args.{key}" for k in readers)
            raise ConfigError(
                f"key {key!r} ({entry.origin}) is read by {len(readers)} parts: {names}. "
                "Write the full name of the one you mean."
            )
        if readers:
            return replace(entry, key=f"{readers[0]}_args.{key}")
        if key in MEANINGS:
            return self._translated(entry, key, "", notes)
        for kind, registry in REGISTRIES.items():
            others = [n for n in registry.names() if key in _keys(kind, n)]
            if others:
                if kind in self.unsettled:
                    return None
                return self._unused(entry, self._read_by(kind, others), notes)
        raise self._unknown(entry)

    def _translated(self, entry: Entry, key: str, prefix: str, notes: list[str]) -> Entry | None:
        """What a key of PyMARL's, EPyMARL's or pymarl2's means here."""
        answer = MEANINGS[key](entry.value)
        if isinstance(answer, Renamed):
            there = replace(entry, key=f"{prefix}{answer.key}", value=answer.value)
            return self.route(there, notes)
        if isinstance(answer, Dropped):
            if not entry.inherited:
                notes.append(f"{entry.origin}: {entry.key} skipped, {answer.why}")
            return None
        raise ConfigError(f"{entry.key}={entry.value!r} ({entry.origin}): {answer.why}.")

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
        if not entry.inherited:
            notes.append(f"{entry.origin}: {entry.key} skipped, {why}")
        return None

    def _unknown(self, entry: Entry) -> ConfigError:
        full = [f"{k}_args.{key}" for k in self.kinds for key in _keys(k, self.chosen[k])]
        bare = [*RunConfig.model_fields, *REGISTRIES, *(f.partition(".")[2] for f in full)]
        hint = did_you_mean(entry.key, full if "." in entry.key else bare)
        for key in sorted({b for b in bare if f"'{b}'" in hint}):
            # A bare key that several parts read would be the next error.
            names = sorted(f for f in full if f.partition(".")[2] == key)
            if len(names) > 1:
                hint = hint.replace(f"'{key}'", " or ".join(f"'{n}'" for n in names))
        reader = ""
        if "." in entry.key and (kind := entry.key.partition("_args.")[0]) in self.kinds:
            keys = ", ".join(_keys(kind, self.chosen[kind])) or "no keys"
            reader = f" {kind} {self.chosen[kind]!r} reads: {keys}."
        return ConfigError(
            f"unknown key {entry.key!r} ({entry.origin}).{hint}{reader} "
            "`print_config` shows every key of a run."
        )


def known_somewhere(key: str) -> bool:
    """Whether any registered part, chosen or not, or the run itself reads a key, bare or full."""
    if key in RunConfig.model_fields or key in REGISTRIES or key in MEANINGS:
        return True
    head, dot, tail = key.partition("_args.")
    kinds = [head] if dot else list(REGISTRIES)
    return any(
        (tail or head) in _keys(kind, name)
        for kind in kinds
        if kind in REGISTRIES
        for name in REGISTRIES[kind].names()
    )


def _keys(kind: str, name: str) -> Mapping[str, Any]:
    config: type[PartConfig] = REGISTRIES[kind].get(name).Config
    return config.model_fields


def checked(
    schema: type[PartConfig], prefix: str, values: Mapping[str, Entry], faults: Faults
) -> Any:
    """One validated slice, or None; each fault names key, value and origin."""
    own: dict[str, Any] = {}
    before = len(faults)
    for key, info in schema.model_fields.items():
        entry = values.get(f"{prefix}{key}")
        if entry is not None:
            own[key] = fitted(info.annotation, entry.value, entry.text)
            lost = not_plain(own[key], f"{prefix}{key}")
            faults += [f"{sentence} ({entry.origin})" for sentence in lost]
    if len(faults) > before:
        return None
    try:
        return schema(**own)
    except ValidationError as error:
        for fault in error.errors():
            key = f"{prefix}{'.'.join(str(p) for p in fault['loc'][:1])}"
            if fault["type"] == "missing":
                faults.append(f"key {key!r} is missing: no config file or word sets it")
                continue
            origin = f" ({values[key].origin})" if key in values else ""
            expected = fault["msg"].removeprefix("Value error, ").replace("Input should", "should")
            place = "".join(f"[{p!r}]" for p in fault["loc"][1:])
            faults.append(f"{key}{place}={_short(fault['input'])}{origin} {expected}")
        return None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
