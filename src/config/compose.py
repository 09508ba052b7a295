"""Put a run together from config files and the command line.

Order, later wins: default.yaml, envs/X.yaml, algs/Y.yaml, overrides of these files that match the run
(``overrides``, e.g. for one map), command line. A bare key goes to the one chosen part that reads it. All
that is wrong with a config is said at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import ConfigError, PhalanxError
from ..plugins import load_plugins, located
from ..registry import ENVS, REGISTRIES, PartConfig, misfits
from .overrides import matching
from .phases import phases_of, refuse_unfit, told
from .pymarl import translated
from .routing import Faults, Router, checked, choose
from .schema import RunConfig
from .sources import (
    CONFIG_DIR,
    Entry,
    config_file,
    find_config,
    read_words,
    read_yaml,
    shipped_configs,
)

DEFAULT_ENV = "sc2"
_OTHERS = "phase_configs"  # in what is stored: the phases that the run is not in


@dataclass(frozen=True)
class Composed:
    """A complete, checked configuration.

    Attributes:
        run: keys of the run itself.
        chosen: name of the chosen part for every kind in use.
        parts: config slice for every kind in use.
        origins: where each value was written, by full key; absent for a part's own default.
        notes: one line for each value of a file that this composition does not use.
        phases: of a run that has some, each of them, in order; this is the one that the run is in.
    """

    run: RunConfig
    chosen: dict[str, str]
    parts: dict[str, PartConfig]
    origins: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    phases: tuple[Composed, ...] = ()

    def phase(self, name: str) -> Composed:
        """The run in another of its phases.

        Raises:
            ConfigError: it has no such phase.
        """
        for phase in self.phases:
            if phase.run.phase == name:
                return replace(phase, phases=self.phases)
        there = ", ".join(phase.run.phase for phase in self.phases) or "none"
        raise ConfigError(f"this run has no phase {name!r}; its phases are: {there}.")

    @property
    def following(self) -> Composed | None:
        """The run in its next phase, None in the last one."""
        names = [phase.run.phase for phase in self.phases]
        later = names[names.index(self.run.phase) + 1 :] if names else []
        return self.phase(later[0]) if later else None

    @property
    def last(self) -> Composed:
        """The run in its last phase."""
        return self.phase(self.phases[-1].run.phase) if self.phases else self

    def nested(self) -> dict[str, Any]:
        """Plain nested dict, the form that is stored: run keys, ``mixer: qmix``, ``mixer_args: {...}``.

        What differs in other phases is below ``phase_configs``, by name.
        """
        stored = self._alone()
        if self.phases:
            stored[_OTHERS] = {
                phase.run.phase: {
                    key: value
                    for key, value in phase._alone().items()
                    if key not in stored or stored[key] != value
                }
                for phase in self.phases
                if phase.run.phase != self.run.phase
            }
        return stored

    def _alone(self) -> dict[str, Any]:
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
        env_config: ``--env-config``: likewise for the environment, or the name of a registered one that
            needs no file; default: the one that ``env`` names, else ``sc2``.
        words: ``key=value`` words of the command line.

    Raises:
        ConfigError: any unknown, misplaced, ambiguous or ill-typed key or value; lists all of them.
        RegistryError: a plugin that cannot be loaded.
    """
    written, typed = _read(config, env_config, words)
    return _compose(written, typed)


def _read(
    config: str | None, env_config: str | None, words: Sequence[str]
) -> tuple[list[Entry], list[Entry]]:
    """Entries of the files and of the command line."""
    typed = _with_located_plugins(read_words(words), Path.cwd())
    if config is None:
        raise ConfigError(
            f"no algorithm chosen: add --config=NAME, one of {', '.join(shipped_configs('algs'))}"
        )
    algorithm = _read_with_parents("algs", config)
    load_plugins(_named_plugins(algorithm + typed))
    wanted = env_config or str(_last(algorithm + typed, "env") or DEFAULT_ENV)
    environment = _environment(wanted, named=env_config is not None)
    name = _last(environment, "env")
    other = _last(typed, "env")
    if env_config is not None and other not in (None, name, wanted):
        raise ConfigError(
            f"env={other} (command line) and --env-config={env_config} name two environments: keep one."
        )
    if env_config is not None:
        # The command line has the last word, here as everywhere.
        algorithm = [e for e in algorithm if e.key != "env"]
    # `env` may name a config as well as a part, e.g. sc2v2, which is env sc2 with other keys.
    if find_config("envs", wanted) is not None:
        algorithm, typed = (
            [replace(e, value=name) if e.key == "env" and e.value == wanted else e for e in entries]
            for entries in (algorithm, typed)
        )
    default = [replace(e, inherited=True) for e in read_yaml(CONFIG_DIR / "default.yaml")]
    return [*default, *environment, *algorithm], typed


def compose_stored(stored: Mapping[str, Any], origin: str, words: Sequence[str] = ()) -> Composed:
    """Compose again what :meth:`Composed.nested` stored, with ``words`` on top.

    A kind of part that was not there yet when it was stored is as default.yaml has it.
    """
    typed = _with_located_plugins(read_words(words), Path.cwd())
    others = {}
    for phase, own in stored.get(_OTHERS, {}).items():
        alike = {k: v for k, v in stored.items() if k not in own}
        shared = [replace(e, inherited=True) for e in _entries(alike, origin)]
        others[phase] = [*_defaults(stored), *shared, *_entries(own, origin)]
    return _compose([*_defaults(stored), *_entries(stored, origin)], typed, others)


def _defaults(stored: Mapping[str, Any]) -> list[Entry]:
    entries = read_yaml(CONFIG_DIR / "default.yaml")
    return [
        replace(e, inherited=True) for e in entries if e.key in REGISTRIES and e.key not in stored
    ]


def _entries(stored: Mapping[str, Any], origin: str) -> list[Entry]:
    written = []
    for key, value in stored.items():
        if key.endswith("_args") and isinstance(value, Mapping):
            written += [Entry(f"{key}.{k}", v, origin) for k, v in value.items()]
        elif key != _OTHERS:
            written.append(Entry(key, value, origin))
    return written


def plugins_of(words: Sequence[str]) -> list[str]:
    """The plugins that ``plugins=...`` names.

    Raises:
        ConfigError: there is another key.
    """
    typed = _with_located_plugins(read_words(words), Path.cwd())
    for entry in typed:
        if entry.key != "plugins":
            raise ConfigError(f"key {entry.key!r} ({entry.origin}): only `plugins` is read here.")
    return _named_plugins(typed)


def _environment(wanted: str, named: bool) -> list[Entry]:
    """Entries of an environment's config; of a part that has none just its name."""
    if find_config("envs", wanted) is None and wanted in ENVS.names():
        return [Entry("env", wanted, "--env-config" if named else f"env={wanted}", inherited=True)]
    if not named and find_config("envs", wanted) is None:
        # Not a file's name: whoever chooses the parts says what there is.
        return [
            replace(e, inherited=True)
            for e in read_yaml(CONFIG_DIR / "envs" / f"{DEFAULT_ENV}.yaml", "envs")
        ]
    entries = _read_with_parents("envs", wanted)
    load_plugins(_named_plugins(entries))
    return entries


def _read_with_parents(kind: str, name: str, heirs: tuple[str, ...] = ()) -> list[Entry]:
    """Entries of a config after those of the config it ``extends``."""
    path = config_file(kind, name)
    if str(path) in heirs:
        raise ConfigError(f"configs extend each other in a circle: {' -> '.join(heirs)} -> {path}")
    entries: list[Entry] = []
    own = _with_located_plugins(read_yaml(path, kind), path.resolve().parent)
    for entry in own:
        if entry.key == "extends":
            beside = path.parent / f"{entry.value}.yaml"
            parent = str(beside) if beside.is_file() else str(entry.value)
            older = _read_with_parents(kind, parent, (*heirs, str(path)))
            entries += [replace(e, inherited=True) for e in older]
    return entries + [e for e in own if e.key != "extends"]


def _with_located_plugins(entries: list[Entry], folder: Path) -> list[Entry]:
    """Plugins by absolute path where they are files below ``folder``: the run finds them from anywhere."""
    found = []
    for entry in entries:
        if entry.key == "plugins" and isinstance(entry.value, str) and entry.value:
            entry = replace(entry, value=[entry.value])
        if entry.key == "plugins" and isinstance(entry.value, list):
            names = [located(v, folder) if isinstance(v, str) else v for v in entry.value]
            entry = replace(entry, value=names)
        found.append(entry)
    return found


def _named_plugins(entries: Sequence[Entry]) -> list[str]:
    """What the key ``plugins`` holds.

    Raises:
        ConfigError: that is no list of names.
    """
    entry = next((e for e in reversed(entries) if e.key == "plugins"), None)
    if entry is None or entry.value in (None, ""):
        return []
    if not isinstance(entry.value, list) or not all(isinstance(v, str) for v in entry.value):
        raise ConfigError(
            f"plugins={entry.value!r} ({entry.origin}) must be a list of modules or Python files, e.g. "
            "plugins=[my_part.py]"
        )
    return entry.value


def _last(entries: Sequence[Entry], key: str) -> Any:
    return next((e.value for e in reversed(entries) if e.key == key), None)


def _compose(
    written: list[Entry], typed: list[Entry], others: Mapping[str, list[Entry]] | None = None
) -> Composed:
    """Compose entries of files and of the command line.

    Args:
        others: entries of the files for phases that have their own; ``written`` is of the rest.
    """
    load_plugins(_named_plugins(written + typed))
    names, origin = phases_of(written + typed)
    if not names:
        return _attempted(written, typed).composed()
    faults, phases = Faults(), list[Composed]()
    unused = [0] * len(typed)
    for name in names:
        own = [*(others or {}).get(name, written), Entry("phase", name, origin)]
        everywhere, here = told(typed, name, names)
        # A word for all phases need not mean anything in each.
        lenient = [replace(e, origin=origin, inherited=True) for e in everywhere]
        router = _attempted(own, [*lenient, *here]).router
        read = []
        for i, entry in enumerate(everywhere):
            try:
                router.route(entry, [])
                read.append(entry)
            except ConfigError as error:
                unused[i] += 1
                if unused[i] == len(names):
                    faults.append(str(error))
        try:
            phases.append(_attempted(own, [*read, *here]).composed())
        except ConfigError as error:
            faults.append(f"in phase {name}: {error}")
    faults.raise_if_any()
    refuse_unfit(phases)
    at = _last(written, "phase") if others else names[0]
    return replace(phases[0], phases=tuple(phases)).phase(at)


def _attempted(written: list[Entry], typed: list[Entry]) -> _Attempt:
    """All entries with their overrides applied."""
    both = translated([*written, *typed])
    written, typed = both[: len(written)], both[len(written) :]
    plain = [e for e in written if e.key != "overrides"]
    overrides = [e for e in written if e.key == "overrides"]

    attempt = _Attempt(plain + typed)
    # Overrides are matched against everything else, and may choose parts of their own.
    faults, notes = Faults(), list[str]()
    matched = matching(overrides, attempt.router, attempt.values, faults, notes)
    if matched:
        attempt = _Attempt(plain + matched + typed)
    attempt.faults += faults
    attempt.notes += notes
    return attempt


class _Attempt:
    """Entries routed to the parts they choose, with all that is wrong about them."""

    def __init__(self, entries: list[Entry]) -> None:
        self.faults = Faults()
        self.notes: list[str] = []
        chosen, unsettled = choose(entries, self.faults)
        try:
            self.router = Router(chosen, unsettled)
        except PhalanxError as error:
            # Without knowing the parts nothing can be said of their keys.
            raise ConfigError("\n".join([*self.faults, str(error)])) from error
        self.values: dict[str, Entry] = {}
        for entry in entries:
            with self.faults.collected():
                if routed := self.router.route(entry, self.notes):
                    self.values[routed.key] = routed

    def composed(self) -> Composed:
        """The checked configuration.

        Raises:
            ConfigError: lists everything that is wrong.
        """
        chosen = {kind: self.router.chosen[kind] for kind in self.router.kinds}
        run = checked(RunConfig, "", self.values, self.faults)
        parts = {
            kind: checked(
                REGISTRIES[kind].get(name).Config, f"{kind}_args.", self.values, self.faults
            )
            for kind, name in chosen.items()
        }
        if not self.router.unsettled:
            self.faults += misfits(chosen)
        self.faults.raise_if_any()
        origins = {key: entry.origin for key, entry in self.values.items()}
        return Composed(run, chosen, parts, origins, list(dict.fromkeys(self.notes)))
