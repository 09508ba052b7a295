"""Plugins that are well, broken, in conflict, or missing what they need."""

from __future__ import annotations

import importlib.metadata
import logging
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from phalanx import plugins
from phalanx.config import compose
from phalanx.errors import ConfigError, MissingDependencyError, RegistryError
from phalanx.registry import MIXERS, PartConfig, Registry, load_builtin_parts, require

MIXER = '''
from phalanx.registry import MIXERS, PartConfig

@MIXERS.register({name!r})
class Mixer:
    """A mixer."""

    class Config(PartConfig):
        pass
'''


@pytest.fixture(autouse=True)
def forget_again(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test loads is gone after it."""
    load_builtin_parts()
    known, modules = dict(MIXERS._parts), set(sys.modules)
    for name in ("_broken", "_files"):
        monkeypatch.setattr(plugins, name, type(getattr(plugins, name))())
    yield
    MIXERS._parts.clear()
    MIXERS._parts.update(known)
    for name in set(sys.modules) - modules:
        if "plugin" in name:
            del sys.modules[name]


@pytest.fixture
def installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[importlib.metadata.EntryPoint]:
    """An installed plugin that cannot be imported."""
    (tmp_path / "sad_plugin.py").write_text("import no_such_module\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    point = importlib.metadata.EntryPoint("sad", "sad_plugin", plugins.GROUP)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point])
    monkeypatch.setattr(plugins, "_installed_loaded", False)
    return point


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return str(path)


def test_a_file_registers_its_parts_once(tmp_path: Path) -> None:
    file = write(tmp_path, "one.py", MIXER.format(name="from_file"))
    plugins.load_plugins([file])
    plugins.load_plugins([file])
    assert "from_file" in MIXERS.names()
    assert plugins.loaded_plugin_files() == [file]


def test_files_of_the_same_name_are_two_plugins(tmp_path: Path) -> None:
    files = [
        write(tmp_path / place, "one.py", MIXER.format(name=place)) for place in ("here", "there")
    ]
    plugins.load_plugins(files)
    assert {"here", "there"} <= set(MIXERS.names())


def test_a_spawned_process_finds_classes_of_plugin_files(tmp_path: Path) -> None:
    file = write(tmp_path, "one.py", MIXER.format(name="from_file"))
    plugins.load_plugins([file])
    part = MIXERS.get("from_file")
    packed = pickle.dumps(part)
    del sys.modules[part.__module__]
    plugins.load_plugin_files([file])
    assert pickle.loads(packed) is MIXERS.get("from_file")


def test_a_name_taken_twice_names_both_files(tmp_path: Path) -> None:
    files = [write(tmp_path, f"{n}.py", MIXER.format(name="taken")) for n in ("one", "two")]
    with pytest.raises(RegistryError) as caught:
        plugins.load_plugins(files)
    text = str(caught.value)
    assert f"mixer 'taken' is registered twice: in {files[0]}:Mixer and in {files[1]}:Mixer" in text
    assert text.startswith(f"plugin {files[1]!r}: ")


def test_a_named_plugin_that_fails_is_an_error(tmp_path: Path) -> None:
    file = write(tmp_path, "sad.py", "import no_such_module\n")
    with pytest.raises(RegistryError, match=r"sad\.py' \(config key plugins\) .*no_such_module"):
        plugins.load_plugins([file])
    with pytest.raises(RegistryError, match=r"plugin 'not_there' .* Give an importable module"):
        plugins.load_plugins(["not_there"])
    with pytest.raises(RegistryError, match=r"FileNotFoundError: no file .*not_there\.py"):
        plugins.load_plugins(["not_there.py"])


def test_an_installed_plugin_that_fails_is_left_out(
    installed: importlib.metadata.EntryPoint, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="phalanx.plugins"):
        compose("qmix", "matrix")
        compose("qmix", "matrix")
    (record,) = caplog.records
    assert "plugin sad (sad_plugin) could not be imported and is left out" in record.getMessage()
    assert "No module named 'no_such_module'" in plugins.broken_plugins()["sad"]


@pytest.mark.usefixtures("installed")
def test_an_unknown_part_points_at_broken_plugins() -> None:
    with pytest.raises(ConfigError, match=r"unknown mixer 'sad_mixer'.*plugin .*: sad \(.*no_such"):
        compose("qmix", "matrix", ["mixer=sad_mixer"])


def test_a_missing_package_names_the_extra() -> None:
    with pytest.raises(
        MissingDependencyError,
        match=r"env lbf needs the package 'no_such_games', .* pip install -e '\.\[lbf\]'",
    ):
        require("no_such_games", "lbf", "env lbf")


def test_every_named_extra_exists() -> None:
    extras = importlib.metadata.metadata("phalanx").get_all("Provides-Extra") or []
    root = Path(plugins.__file__).parent
    named = [
        line.split('"')[3]
        for file in root.rglob("*.py")
        for line in file.read_text(encoding="utf-8").splitlines()
        if ' require("' in line
    ]
    assert named
    assert set(named) <= set(extras)


def test_a_part_needs_config_and_docstring() -> None:
    registry: Registry[object] = Registry("mixer", "modules.mixers", "")

    class Bare:
        pass

    class Silent:
        class Config(PartConfig):
            pass

    with pytest.raises(RegistryError, match="needs a class attribute Config"):
        registry.register("bare")(Bare)
    with pytest.raises(RegistryError, match="needs a docstring"):
        registry.register("silent")(Silent)
