"""Where config values come from: YAML files with line numbers, and words of the command line."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError, did_you_mean

CONFIG_DIR = Path(__file__).parent
COMMAND_LINE = "command line"


@dataclass(frozen=True)
class Entry:
    """One ``key: value`` as somebody wrote it.

    Attributes:
        key: bare (``lr``) or dotted (``learner_args.lr``).
        value: plain Python value.
        origin: ``file:line`` or ``command line``.
        inherited: it comes from the defaults or from a config that the chosen one extends.
    """

    key: str
    value: Any
    origin: str
    inherited: bool = False

    @property
    def from_command_line(self) -> bool:
        """Whether the user typed it for this very run."""
        return self.origin == COMMAND_LINE


class _Loader(yaml.SafeLoader):
    """YAML 1.1 loader that also reads ``1e-5`` as a number and refuses a key given twice."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


def config_file(kind: str, name: str) -> Path:
    """The file that ``--config=name`` (kind ``algs``) or ``--env-config=name`` (``envs``) means.

    Raises:
        ConfigError: no shipped config has the name and no file has the path.
    """
    folder = CONFIG_DIR / kind
    shipped = folder / f"{name}.yaml"
    if shipped.is_file():
        return shipped
    path = Path(name).expanduser()
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return path
    known = sorted(p.stem for p in folder.glob("*.yaml"))
    option = "--config" if kind == "algs" else "--env-config"
    raise ConfigError(
        f"{option}={name}: no such config.{did_you_mean(name, known)} "
        f"Shipped: {', '.join(known)}; or give the path of a .yaml file."
    )


def read_yaml(path: Path) -> list[Entry]:
    """Top-level entries of a YAML file, nested ``<kind>_args`` flattened to dotted keys.

    Raises:
        ConfigError: the file is no valid YAML mapping, or has a key twice.
    """
    shown = _shown(path)
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{shown} is not valid YAML: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {shown}: {error}") from error
    if node is None:
        return []
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(
            f"{shown} must hold `key: value` lines, not a {node.tag.rpartition(':')[2]}"
        )
    return list(_entries(node, shown, prefix=""))


def _entries(node: yaml.MappingNode, shown: str, prefix: str) -> Iterator[Entry]:
    seen: dict[str, int] = {}
    for key_node, value_node in node.value:
        key, line = f"{prefix}{key_node.value}", key_node.start_mark.line + 1
        if key in seen:
            raise ConfigError(f"{shown}:{line}: key {key!r} stands in line {seen[key]} already")
        seen[key] = line
        if key.endswith("_args") and not prefix and isinstance(value_node, yaml.MappingNode):
            yield from _entries(value_node, shown, f"{key}.")
        else:
            yield Entry(key, _value(value_node), f"{shown}:{line}")


def _value(node: yaml.Node) -> Any:
    loader = _Loader("")
    try:
        return loader.construct_document(node)
    finally:
        loader.dispose()


def read_words(words: Sequence[str]) -> list[Entry]:
    """Entries of ``key=value`` words, as they follow ``with`` on the command line.

    Raises:
        ConfigError: a word has no ``=``.
    """
    entries = []
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise ConfigError(
                f"{word!r} after `with` is no key=value. Choose an algorithm with --config=NAME."
            )
        entries.append(Entry(key, parse_value(text), COMMAND_LINE))
    return entries


def parse_value(text: str) -> Any:
    """A Python literal, else what YAML makes of it, else the text itself.

    >>> parse_value("1e-3"), parse_value("False"), parse_value("null"), parse_value("MMM2")
    (0.001, False, None, 'MMM2')
    """
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        pass
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        return text


def _shown(path: Path) -> str:
    """Short name of a config file in messages: relative to the package or to where we stand."""
    for base in (CONFIG_DIR.parent, Path.cwd()):
        try:
            return str(path.resolve().relative_to(base.resolve()))
        except ValueError:
            continue
    return str(path)
