"""Shipped parts without what they compute: their settings, needs and bases, read from the sources.

Most parts import torch, which takes seconds. Whether a config fits the parts it names can be told from the
skeletons of their classes: bases, docstring, plain attributes, ``Config`` and the signature of the
constructor. A name that comes from elsewhere than this package and small modules of the standard library
stands for nothing in a skeleton (:class:`Unknown`); settings do not depend on such names.
"""

from __future__ import annotations

import ast
import copy
import importlib
from functools import cache
from pathlib import Path
from typing import Any

from .catalogue import parsed, registered_as, registering

_HERE = Path(__file__).resolve().parent
_ROOT = __name__.rpartition(".")[0]
# Imported as they are: quick, and what they define must be the same thing everywhere.
_REAL = {f"{_ROOT}.{name}" for name in ("registry", "errors", "catalogue")}
_REAL |= {"__future__", "abc", "collections.abc", "dataclasses", "enum", "functools", "math"}
_REAL |= {"pathlib", "pydantic", "types", "typing"}


class _UnknownMeta(type):
    """Whatever is done with an unknown name gives an unknown one."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return cls

    def __getitem__(cls, key: Any) -> Any:
        return cls

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return cls


class Unknown(metaclass=_UnknownMeta):
    """Stands for a name of a package that skeletons are made without."""


def skeleton(package: str, name: str) -> type[Any]:
    """The skeleton of the part registered as ``name``.

    Args:
        package: where it lives, relative to this one, e.g. ``modules.mixers``.

    Raises:
        KeyError: no module there registers it.
    """
    module, class_name = _parts(package)[name]
    part: type[Any] = _module(module).get(class_name)
    return part


@cache
def _parts(package: str) -> dict[str, tuple[str, str]]:
    """Module and class of each part in a package."""
    found = {}
    for path in registering(package):
        name = ".".join([_ROOT, *path.relative_to(_HERE).with_suffix("").parts])
        for node in _module(name).tree.body:
            if isinstance(node, ast.ClassDef) and (part := registered_as(node)):
                found[part] = (name, node.name)
    return found


@cache
def _module(name: str) -> _Module:
    return _Module(name)


class _Module:
    """One source file, of which only what is asked for is evaluated.

    Args:
        name: of the module, absolute.
    """

    def __init__(self, name: str) -> None:
        path = _HERE.joinpath(*name.split(".")[1:])
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        self.name, self.package = name, name if path.stem == "__init__" else name.rpartition(".")[0]
        self.tree, self._path = parsed(path), path
        self._written: dict[str, ast.stmt] = {}
        self._known: dict[str, Any] = {"__name__": name}
        for node in self.tree.body:
            # What is imported for the type checker only is named in signatures.
            for inner in node.body if isinstance(node, ast.If) else [node]:
                self._written |= dict.fromkeys(_names_bound_by(inner), inner)

    def get(self, name: str) -> Any:
        """What a name of the module stands for.

        Raises:
            KeyError: the module binds no such name.
        """
        if name not in self._known:
            self._evaluate(self._written[name], name)
        return self._known[name]

    def _evaluate(self, node: ast.stmt, name: str) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            self._known[name] = self._imported(node, name)
            return
        if isinstance(node, ast.ClassDef):
            node = self._class(node)
        self._known[name] = Unknown  # for what refers to itself
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name) and inner.id in self._written:
                self._known.setdefault(inner.id, self.get(inner.id))
        code = ast.fix_missing_locations(ast.Module([node], []))
        # Annotations are evaluated at once, so that nobody looks for their names in the real module.
        exec(compile(code, str(self._path), "exec", dont_inherit=True), self._known)

    def _imported(self, node: ast.Import | ast.ImportFrom, name: str) -> Any:
        alias = next(a for a in node.names if (a.asname or a.name.partition(".")[0]) == name)
        if isinstance(node, ast.Import):
            return importlib.import_module(alias.name) if alias.name in _REAL else Unknown
        source = node.module or ""
        if node.level:
            above = self.package.split(".")[: len(self.package.split(".")) - node.level + 1]
            source = ".".join([*above, *([source] if source else [])])
        if source in _REAL:
            return getattr(importlib.import_module(source), alias.name)
        if not source.startswith(f"{_ROOT}.") and source != _ROOT:
            return Unknown
        try:
            return _module(source).get(alias.name)
        except KeyError:  # a module of that package
            return Unknown

    def _class(self, node: ast.ClassDef) -> ast.ClassDef:
        """The same class without what it does."""
        bare = copy.copy(node)
        bare.bases = [base for base in node.bases if self._value(base) is not Unknown]
        bare.keywords, bare.decorator_list = [], []
        if not self._is_config(bare.bases):
            bare.body = [*map(self._kept, node.body), ast.Pass()]
        return bare

    def _is_config(self, bases: list[ast.expr]) -> bool:
        config = importlib.import_module(f"{_ROOT}.registry").PartConfig
        found = [self._value(base) for base in bases]
        return any(isinstance(base, type) and issubclass(base, config) for base in found)

    def _value(self, node: ast.expr) -> Any:
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name) and inner.id in self._written:
                self.get(inner.id)
        return eval(compile(ast.Expression(node), str(self._path), "eval"), self._known)

    def _kept(self, node: ast.stmt) -> ast.stmt:
        """A statement of a class body, if settings or needs can depend on it."""
        if isinstance(node, ast.ClassDef):
            return self._class(node)
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            bare = copy.copy(node)
            bare.body, bare.decorator_list = [ast.Pass()], []
            return bare
        plain = isinstance(node, ast.Assign | ast.AnnAssign | ast.Expr)
        return node if plain else ast.Pass()


def _names_bound_by(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]
