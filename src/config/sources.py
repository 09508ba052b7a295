"""Where config values come from: YAML files with line numbers, and words of the command line."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError, did_you_mean

CONFIG_DIR = Path(__file__).parent
COMMAND_LINE = "command line"
_MOST_VALUES = 10_000
"""In one file, aliases counted as often as they are used."""


@dataclass(frozen=True)
class Entry:
    """One ``key: value`` as somebody wrote it.

    Attributes:
        key: bare (``lr``) or dotted (``learner_args.lr``).
        value: plain Python value.
        origin: ``file:line`` or ``command line``.
        inherited: it comes from the defaults or from a config that the chosen one extends.
        text: what was written, where that is one word: keys of type text take it as it is.
        kind: ``algs`` or ``envs`` where it stands in such a config, else nothing.
    """

    key: str
    value: Any
    origin: str
    inherited: bool = False
    text: str | None = None
    kind: str = ""

    @property
    def from_command_line(self) -> bool:
        """Whether the user typed it for this very run."""
        return self.origin == COMMAND_LINE

    @property
    def shipped(self) -> bool:
        """Whether it stands in a file of this package."""
        return self.origin.startswith(f"{CONFIG_DIR.name}/")


class _Loader(yaml.SafeLoader):
    """YAML 1.1 loader that also reads ``1e-5`` as a number and refuses a key given twice."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


def shipped_configs(kind: str) -> list[str]:
    """Names of the configs that ship with the package, ``algs`` or ``envs``."""
    return sorted(p.stem for p in (CONFIG_DIR / kind).glob("*.yaml"))


def find_config(kind: str, name: str) -> Path | None:
    """The file that a name or path means, if there is one."""
    if name in shipped_configs(kind):
        return CONFIG_DIR / kind / f"{name}.yaml"
    try:
        path = Path(name).expanduser()
        return path if path.suffix in (".yaml", ".yml", ".json") and path.is_file() else None
    except (OSError, RuntimeError, ValueError):  # too long, no such user, a null character
        return None


def config_file(kind: str, name: str) -> Path:
    """The file that ``--config=name`` (kind ``algs``) or ``--env-config=name`` (``envs``) means.

    Raises:
        ConfigError: no shipped config has the name and no file has the path.
    """
    if path := find_config(kind, name):
        return path
    known = shipped_configs(kind)
    option = "--config" if kind == "algs" else "--env-config"
    shown = name if len(name) <= 80 else f"{name[:77]}..."
    is_path = "/" in name or name.endswith((".yaml", ".yml", ".json"))
    what = "no such file." if is_path else f"no such config.{did_you_mean(name, known)}"
    raise ConfigError(
        f"{option}={shown}: {what} Shipped: {', '.join(known)}; or give the path of a .yaml file."
    )


def read_yaml(path: Path, kind: str = "") -> list[Entry]:
    """Top-level entries of a YAML file, nested ``<kind>_args`` flattened to dotted keys.

    Raises:
        ConfigError: the file is no valid YAML mapping, or has a key twice.
    """
    shown = _shown(path)
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=_Loader)
        if node is None:
            return []
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(
                f"{shown} must hold `key: value` lines, not a {node.tag.rpartition(':')[2]}"
            )
        _refuse_bombs(node, shown)
        return list(_entries(node, shown, kind, prefix=""))
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"{shown} is not valid YAML: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise ConfigError(f"cannot read {shown}: {error}") from error


def _refuse_bombs(root: yaml.Node, shown: str) -> None:
    """Raise where aliases make a small file enormous, or endless."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node) -> int:
        if id(node) in open_nodes:
            raise ConfigError(
                f"{shown}:{node.start_mark.line + 1}: this value contains itself, by an alias"
            )
        if id(node) not in sizes:
            open_nodes.add(id(node))
            inner: list[yaml.Node] = []
            if isinstance(node, yaml.MappingNode):
                inner = [part for pair in node.value for part in pair]
            elif isinstance(node, yaml.SequenceNode):
                inner = node.value
            sizes[id(node)] = 1 + sum(size(part) for part in inner)
            open_nodes.remove(id(node))
        return sizes[id(node)]

    if (total := size(root)) > _MOST_VALUES:
        raise ConfigError(
            f"{shown} holds {total} values, aliases counted as often as they are used; a config has at most "
            f"{_MOST_VALUES}."
        )


def _entries(node: yaml.MappingNode, shown: str, kind: str, prefix: str) -> Iterator[Entry]:
    seen: dict[str, int] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise ConfigError(f"{shown}:{line}: a key must be one word, not a list or a mapping")
        key = f"{prefix}{key_node.value}"
        if key in seen:
            raise ConfigError(f"{shown}:{line}: key {key!r} stands in line {seen[key]} already")
        seen[key] = line
        if key.endswith("_args") and not prefix and isinstance(value_node, yaml.MappingNode):
            yield from _entries(value_node, shown, kind, f"{key}.")
            continue
        text = value_node.value if isinstance(value_node, yaml.ScalarNode) else None
        try:
            value = _value(value_node)
        except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:
            if text is None or value_node.tag.startswith("!"):
                raise ConfigError(
                    f"{shown}:{line}: the value of {key!r} cannot be read: {_problem(error)}"
                ) from error
            value = text  # a number or date that is none: whoever reads the key says what it needs
        yield Entry(key, value, f"{shown}:{line}", text=text, kind=kind)


def _problem(error: Exception) -> str:
    return " ".join(str(getattr(error, "problem", None) or error).split())


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
        entries.append(Entry(key, parse_value(text), COMMAND_LINE, text=text))
    return entries


def words_of(updates: Mapping[str, Any]) -> list[str]:
    """Python values as the words that :func:`read_words` reads them from.

    >>> words_of({"lr": 0.001, "map_name": "3m", "env_args": {"seed": None}})
    ['lr=0.001', 'map_name=3m', 'env_args.seed=None']
    """
    words = []
    for key, value in updates.items():
        if key.endswith("_args") and isinstance(value, Mapping):
            words += words_of({f"{key}.{inner}": item for inner, item in value.items()})
        else:
            words.append(f"{key}={_text_of(value)}")
    return words


def _text_of(value: Any) -> str:
    if hasattr(value, "tolist"):  # NumPy and torch, scalars and arrays alike
        value = value.tolist()
    value = str(value) if isinstance(value, Path) else value
    if not isinstance(value, str):
        return repr(value)
    # Text is left as it is, so that keys of type text take it as written, unless its quotes would go.
    read = parse_value(value)
    return repr(value) if isinstance(read, str) and read != value else value


def parse_value(text: str) -> Any:
    """A Python literal, else what YAML makes of it, else the text itself.

    >>> parse_value("1e-3"), parse_value("False"), parse_value("null"), parse_value("MMM2")
    (0.001, False, None, 'MMM2')
    """
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pass
    try:
        node = yaml.compose(text, Loader=_Loader)
        if node is None:
            return None
        _refuse_bombs(node, "this word")
        return _value(node)
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError):
        return text


def _shown(path: Path) -> str:
    """Short name of a config file in messages: relative to the package or to where we stand."""
    for base in (CONFIG_DIR.parent, Path.cwd()):
        try:
            return str(path.resolve().relative_to(base.resolve()))
        except ValueError:
            continue
    return str(path)
