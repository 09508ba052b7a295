"""Load parts that live outside the package."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from .errors import PhalanxError, RegistryError

GROUP = "phalanx.plugins"
log = logging.getLogger("phalanx.plugins")

_broken: dict[str, str] = {}
_installed_loaded = False


def load_plugins(named: Sequence[str]) -> None:
    """Load installed plugins (entry-point group ``phalanx.plugins``) and those a config names.

    An installed plugin that fails is reported and left out, so it never breaks runs that do not use it.

    Args:
        named: module names or paths of Python files.

    Raises:
        RegistryError: a *named* plugin cannot be imported.
    """
    global _installed_loaded
    if not _installed_loaded:
        _installed_loaded = True
        for point in entry_points(group=GROUP):
            _load_installed(point)
    for name in named:
        _load_named(name)


def broken_plugins() -> dict[str, str]:
    """Installed plugins that could not be imported, and why."""
    return dict(_broken)


def _load_installed(point: EntryPoint) -> None:
    try:
        point.load()
    except Exception as error:  # whatever a stranger's module raises must not end our run
        _broken[point.name] = f"{type(error).__name__}: {error}"
        log.warning(
            "plugin %s (%s) could not be imported and is left out: %s",
            point.name,
            point.value,
            _broken[point.name],
        )


def _load_named(name: str) -> None:
    path = Path(name).expanduser()
    try:
        if path.suffix == ".py":
            _import_file(path.resolve())
        else:
            importlib.import_module(name)
    except PhalanxError as error:
        raise RegistryError(f"plugin {name!r}: {error}") from error
    except Exception as error:
        raise RegistryError(
            f"plugin {name!r} (config key plugins) could not be imported: "
            f"{type(error).__name__}: {error}. Give an importable module name or the path of a .py file."
        ) from error


def _import_file(path: Path) -> None:
    module_name = f"phalanx_plugin_{path.stem}"
    loaded = sys.modules.get(module_name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(path):
        return
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
