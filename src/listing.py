"""Tables of parts, keys and composed values for ``list`` and ``print_config``."""

from __future__ import annotations

import inspect
import itertools
import sys
import types
import typing
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic.fields import FieldInfo
from rich.console import Console
from rich.table import Table

from .config import Composed, plugins_of
from .config.sources import CONFIG_DIR, shipped_configs
from .doctor import Finding
from .errors import ConfigError, did_you_mean
from .plugins import broken_plugins, load_plugins
from .registry import LAUNCHERS, REGISTRIES, SINKS, needs

_IN_ONE_PIECE = ("kind", "part", "key", "config", "map_name")
_PIPE_WIDTH = 1000
_KINDS = {**REGISTRIES, LAUNCHERS.kind: LAUNCHERS, SINKS.kind: SINKS}


def print_composed(composed: Composed) -> None:
    """Every value of a run with its origin and description."""
    table = _table("key", "value", "origin", "description")
    for key, (value, origin, description) in composed.full_keys().items():
        table.add_row(key, repr(value), origin, description)
    console = _console()
    console.print(table)
    for phase in composed.phases[1:]:
        _print_phase(phase, composed, console)
    for note in composed.notes:
        console.print(note, style="dim", markup=False, highlight=False)


def _print_phase(phase: Composed, first: Composed, console: Console) -> None:
    """What a phase has otherwise than the first one, which was printed whole."""
    there, table = first.full_keys(), _table("key", "value", "origin", "description")
    for key, (value, origin, description) in phase.full_keys().items():
        if key not in there or there[key][0] != value:
            table.add_row(key, repr(value), origin, description)
    console.print(f"phase {phase.run.phase}, where it differs:", markup=False, highlight=False)
    console.print(table)


def print_list(arguments: Sequence[str], updates: Sequence[str] = ()) -> None:
    """All kinds and their parts, the parts of one kind, or one part's keys.

    Args:
        arguments: kind and part.
        updates: ``plugins=...``, whose parts are then among them.

    Raises:
        ConfigError: there is no such kind, or another key.
        RegistryError: there is no such part.
    """
    load_plugins(plugins_of(updates))
    if len(arguments) > 2:
        raise ConfigError("`list` takes a kind and a part at most, e.g. `list mixer qmix`")
    if list(arguments) in (["configs"], ["maps"]):
        (_print_configs if arguments[0] == "configs" else _print_maps)()
        return
    if arguments and arguments[0] not in _KINDS:
        raise ConfigError(
            f"unknown kind {arguments[0]!r}.{did_you_mean(arguments[0], [*_KINDS, 'configs', 'maps'])} "
            f"Kinds: {', '.join(_KINDS)}; or configs, maps."
        )
    if len(arguments) == 2:
        _print_part(*arguments)
        return
    table = _table("kind", "part", "what it is")
    for kind in arguments or _KINDS:
        registry = _KINDS[kind]
        table.add_row(f"[bold]{kind}", "", f"[dim]{registry.doc}")
        for name, summary in registry.summaries().items():
            table.add_row("", name, summary)
        table.add_section()
    _console().print(table)
    for name, why in broken_plugins().items():
        _console().print(f"plugin {name} is left out: {why}", markup=False)


def print_findings(findings: Iterable[Finding]) -> int:
    """What `doctor` found, one by one as it is found; 1 if anything is broken, else 0."""
    broken = False
    for finding in findings:
        broken |= finding.state == "broken"
        print(f"{finding.state:<8} {finding.what}: {finding.found}", flush=True)
        if finding.fix:
            print(f"{'':<8} -> {finding.fix}", flush=True)
    return int(broken)


def _print_configs() -> None:
    """Shipped configs with the comment at the head of each."""
    table = _table("option", "config", "what it is")
    for kind, option in (("algs", "--config"), ("envs", "--env-config")):
        for name in shipped_configs(kind):
            text = (CONFIG_DIR / kind / f"{name}.yaml").read_text(encoding="utf-8")
            head = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
            table.add_row(option, name, " ".join(line.lstrip("# ") for line in head))
            option = ""
        table.add_section()
    _console().print(table, markup=False)


def _print_maps() -> None:
    """Maps of the embedded engine with their teams and step limits."""
    from .envs.battle.maps import GENERATED, map_info, map_names

    table = _table("map_name", "agents", "enemies", "actions", "limit")
    for name in map_names():
        info = map_info(name)
        table.add_row(
            name, *(str(info[key]) for key in ("n_agents", "n_enemies", "n_actions", "limit"))
        )
    console = _console()
    console.print(table)
    console.print(
        f"With --env-config=sc2v2 teams are drawn: {', '.join(GENERATED)}.", highlight=False
    )


def _print_part(kind: str, name: str) -> None:
    part = _KINDS[kind].get(name)
    console = _console()
    console.print(f"[bold]{kind} {name}[/bold]: {inspect.getdoc(part)}\n", highlight=False)
    if asks := needs(part):
        console.print(f"Works with the chosen: {', '.join(asks)}\n", highlight=False)
    table = _table("key", "type", "default", "description")
    for key, info in part.Config.model_fields.items():
        default = "(required)" if info.is_required() else repr(info.get_default())
        full = f"{kind}_args.{key}" if kind in REGISTRIES else key
        table.add_row(full, type_of(info), default, info.description or "")
    console.print(table if table.row_count else "It has no keys.")


def type_of(info: FieldInfo) -> str:
    """A field's type and limits, as a user would say them."""
    return " ".join([_type_name(info.annotation), _limits(info)]).strip()


def _limits(info: FieldInfo) -> str:
    return ", ".join(
        f"{sign} {getattr(limit, name)}"
        for limit in info.metadata
        for name, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))
        if hasattr(limit, name)
    )


def _type_name(annotation: Any) -> str:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " | ".join(str(a) for a in inner)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(_type_name(a) for a in inner)
    if annotation is type(None):
        return "null"
    if origin is typing.Annotated:
        limits = [_limits(limit) for limit in inner[1:] if isinstance(limit, FieldInfo)]
        return " ".join([_type_name(inner[0]), *limits])
    if origin is list:
        return f"list[{_type_name(inner[0])}]"
    return getattr(annotation, "__name__", str(annotation)) if not inner else str(annotation)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        # What is typed, or searched for with grep, stays in one piece.
        table.add_column(column, overflow="fold", no_wrap=column in _IN_ONE_PIECE)
    return table


def _console() -> Console:
    """As wide as the terminal; what goes into a file or a pipe keeps each row on a line."""
    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)
