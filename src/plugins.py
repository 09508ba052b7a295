"""Load parts that live outside the package."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
import zlib
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from .errors import PhalanxError, RegistryError, own_words
from .registry import load_builtin_parts

GROUP = "phalanx.plugins"
log = logging.getLogger("phalanx.plugins")

_broken: dict[str, str] = {}
_files: list[str] = []
_installed_loaded = False


def load_plugins(named: Sequence[str]) -> None:
    """Load installed plugins (entry-point group ``phalanx.plugins``) and those a config names.

    An installed plugin that fails is reported and left out, so it never breaks runs that do not use
    it.

    Args:
        named: module names or paths of Python files.

    Raises:
        RegistryError: a *named* plugin cannot be imported.
    """
    global _installed_loaded
    installed = [] if _installed_loaded else list(entry_points(group=GROUP))
    if installed or named:
        # First come the parts of the package: a plugin that takes one of their names is then at fault.
        load_builtin_parts()
    if not _installed_loaded:
        _installed_loaded = True
        for point in installed:
            _load_installed(point)
    for name in named:
        _load_named(name)


def located(name: str, folder: Path) -> str:
    """A plugin's absolute path where it is a file or module in ``folder``, else its name as it is.

    A module beside a config is found like this although nothing installs it; names with a folder's
    ``__init__.py`` count too.
    """
    try:
        path = folder / Path(name).expanduser()
        if path.suffix == ".py":
            return str(path.resolve()) if path.is_file() else name
        if name.replace(".", "").isidentifier():
            module = folder.joinpath(*name.split("."))
            for file in (module.with_suffix(".py"), module / "__init__.py"):
                if file.is_file() and _origin(name) in (None, str(file.resolve())):
                    return str(file.resolve())
    except (OSError, RuntimeError, ValueError):  # no such user, too long, a null character
        pass
    return name


def _origin(name: str) -> str | None:
    """The file of an importable module."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    return None if spec is None else spec.origin


def broken_plugins() -> dict[str, str]:
    """Installed plugins that could not be imported, and why."""
    return dict(_broken)


def broken_hint() -> str:
    """Sentence naming the broken plugins, for errors about unknown parts; empty if all are well."""
    if not _broken:
        return ""
    listed = "; ".join(f"{name} ({why})" for name, why in sorted(_broken.items()))
    return f" It may come from an installed plugin that could not be imported: {listed}."


def unfamiliar(named: Sequence[str]) -> list[str]:
    """Those of the plugins that a config names which are not installed as plugins on this machine."""
    points = entry_points(group=GROUP)
    installed = {name for point in points for name in (point.name, point.value.partition(":")[0])}
    return [name for name in named if name not in installed]


def loaded_plugin_files() -> list[str]:
    """Plugins that were loaded from files, in order: what a spawned process has to load again."""
    return list(_files)


def load_plugin_files(files: Sequence[str]) -> None:
    """Make the classes of plugin files known under the module names they have in the parent."""
    for file in files:
        _import_file(Path(file))


def _load_installed(point: EntryPoint) -> None:
    try:
        point.load()
    except (Exception, SystemExit) as error:  # a stranger's module must not end our run
        _broken[point.name] = f"{type(error).__name__}: {error}"
        log.warning(
            "plugin %s (%s) could not be imported and is left out: %s",
            point.name,
            point.value,
            _broken[point.name],
        )


def _load_named(name: str) -> None:
    try:
        if name.endswith(".py"):
            _import_file(Path(name).expanduser().resolve())
        else:
            importlib.import_module(name)
    except PhalanxError as error:
        raise RegistryError(f"plugin {name!r}: {error}") from error
    except (Exception, SystemExit) as error:
        advice = "Mend it, or leave it out of `plugins`."
        if isinstance(error, FileNotFoundError | ModuleNotFoundError):
            advice = "Give an importable module name or the path of a .py file."
        raise RegistryError(
            f"plugin {name!r} (config key plugins) could not be imported: {own_words(error)}. {advice}"
        ) from error


def _import_file(path: Path) -> None:
    # The number keeps two files of the same name apart, and is the same in a spawned process.
    module_name = f"phalanx_plugin_{path.stem}_{zlib.crc32(str(path).encode()):08x}"
    if module_name in sys.modules:
        return
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    # What lies beside it can be imported, by it and by name (`key=module:Name`); last, so that it hides
    # nothing that is installed.
    beside = str(path.parent.parent if path.name == "__init__.py" else path.parent)
    if beside not in sys.path:
        sys.path.append(beside)
    package = [str(path.parent)] if path.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(
        module_name, path, submodule_search_locations=package
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    _files.append(str(path))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        _files.remove(str(path))
        raise
