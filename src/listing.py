"""Tables of parts, keys and composed values for ``list`` and ``print_config``."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Sequence
from typing import Any

from pydantic.fields import FieldInfo
from rich.console import Console
from rich.table import Table

from .config import Composed, plugins_of
from .errors import ConfigError, did_you_mean
from .plugins import broken_plugins, load_plugins
from .registry import LAUNCHERS, REGISTRIES, needs

_KINDS = {**REGISTRIES, LAUNCHERS.kind: LAUNCHERS}


def print_composed(composed: Composed) -> None:
    """Every value of a run with its origin and description."""
    table = _table("key", "value", "origin", "description")
    for key, (value, origin, description) in composed.full_keys().items():
        table.add_row(key, repr(value), origin, description)
    console = Console(soft_wrap=False)
    console.print(table)
    for note in composed.notes:
        console.print(note, style="dim", markup=False, highlight=False)


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
    if arguments and arguments[0] not in _KINDS:
        raise ConfigError(
            f"unknown kind {arguments[0]!r}.{did_you_mean(arguments[0], _KINDS)} "
            f"Kinds: {', '.join(_KINDS)}."
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
    Console().print(table)
    for name, why in broken_plugins().items():
        Console().print(f"plugin {name} is left out: {why}", markup=False)


def _print_part(kind: str, name: str) -> None:
    part = _KINDS[kind].get(name)
    console = Console()
    console.print(f"[bold]{kind} {name}[/bold]: {inspect.getdoc(part)}\n", highlight=False)
    if asks := needs(part):
        console.print(f"Works with the chosen: {', '.join(asks)}\n", highlight=False)
    table = _table("key", "type", "default", "description")
    for key, info in part.Config.model_fields.items():
        default = "(required)" if info.is_required() else repr(info.get_default())
        full = f"{kind}_args.{key}" if kind in REGISTRIES else key
        table.add_row(full, _type(info), default, info.description or "")
    console.print(table if table.row_count else "It has no keys.")


def _type(info: FieldInfo) -> str:
    """A field's type and limits, as a user would say them."""
    limits = [
        f"{sign} {getattr(limit, name)}"
        for limit in info.metadata
        for name, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))
        if hasattr(limit, name)
    ]
    return " ".join([_type_name(info.annotation), ", ".join(limits)]).strip()


def _type_name(annotation: Any) -> str:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " | ".join(str(a) for a in inner)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(_type_name(a) for a in inner)
    if annotation is type(None):
        return "null"
    return getattr(annotation, "__name__", str(annotation)) if not inner else str(annotation)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
