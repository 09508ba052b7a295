"""Names of the parts that ship with the package, read from their sources without running them.

Most parts import torch, which takes seconds. Who only wants to know what there is, or has mistyped it, is
answered from here.
"""

from __future__ import annotations

import ast
import inspect
from functools import cache
from pathlib import Path

_HERE = Path(__file__).resolve().parent


@cache
def shipped_parts(package: str) -> dict[str, str]:
    """First lines of the docstrings of all parts that a package holds, by part name.

    A part is a class with a decorator ``@KIND.register("name")``.

    Args:
        package: where to look, relative to this one, e.g. ``modules.mixers``.
    """
    found = {}
    for path in registering(package):
        for node in parsed(path).body:
            if isinstance(node, ast.ClassDef) and (name := registered_as(node)):
                found[name] = inspect.cleandoc(ast.get_docstring(node) or " ").splitlines()[0]
    return found


def registering(package: str) -> list[Path]:
    """The files of a package, given as for :func:`shipped_parts`, that may register parts."""
    files = sorted(_HERE.joinpath(*package.split(".")).rglob("*.py"))
    return [path for path in files if b".register(" in path.read_bytes()]


@cache
def parsed(path: Path) -> ast.Module:
    """A source file of this package, taken apart once."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def registered_as(node: ast.ClassDef) -> str | None:
    """The name under which a class is registered, read from its decorator."""
    for decorator in node.decorator_list:
        match decorator:
            case ast.Call(
                func=ast.Attribute(attr="register"), args=[ast.Constant(value=str() as name)]
            ):
                return name
    return None
