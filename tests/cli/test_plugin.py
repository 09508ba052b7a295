"""The example plugin, installed and as a file, from its README."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from .command import ROOT, phalanx
from .conftest import FreshEnv

EXAMPLE = ROOT / "examples" / "plugin"
SHORT = (
    "t_max=400",
    "test_interval=200",
    "log_interval=200",
    "test_nepisode=4",
    "batch_size=4",
    "buffer_size=64",
    "save_model=False",
    "mongo_url=none",
)


@pytest.fixture(scope="module")
def env_with_plugin(
    wheel: Path, tmp_path_factory: pytest.TempPathFactory, fresh_env: Callable[[], FreshEnv]
) -> FreshEnv:
    """A fresh environment with Phalanx, the example, and a second plugin that is broken."""
    env = fresh_env()
    env.install(wheel)
    copy = tmp_path_factory.mktemp("example") / "plugin"
    shutil.copytree(EXAMPLE, copy)
    env.install(copy)
    broken = env.packages / "sad-0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: sad\nVersion: 0\n")
    (broken / "entry_points.txt").write_text("[phalanx.plugins]\nsad = no_such_module\n")
    return env


def stored_config(folder: Path) -> dict[str, object]:
    """Config of the one run recorded below ``folder``."""
    (stored,) = (folder / "results" / "runs").glob("*/config.json")
    config: dict[str, object] = json.loads(stored.read_text())
    return config


def test_installed_plugin_trains(env_with_plugin: FreshEnv, tmp_path: Path) -> None:
    words = (f"--config={EXAMPLE / 'state_weighted.yaml'}", "--env-config=matrix", "with")
    done = env_with_plugin.run("phalanx", *words, "min_weight=0.02", *SHORT, cwd=tmp_path)
    assert "test return" in done.stdout
    config = stored_config(tmp_path)
    assert (config["name"], config["mixer"]) == ("state_weighted", "state_weighted")
    assert config["mixer_args"] == {"hidden_dim": 32, "min_weight": 0.02}
    # The other plugin is broken, which is said once and stops nothing.
    assert done.stderr.count("plugin sad (no_such_module) could not be imported") == 1


def test_installed_plugin_is_listed_and_checked(env_with_plugin: FreshEnv, tmp_path: Path) -> None:
    listed = env_with_plugin.run("phalanx", "list", "mixer", "state_weighted", cwd=tmp_path)
    assert "no agent weighs less than this" in listed.stdout
    words = ("print_config", "--config=qmix", "--env-config=matrix", "with")
    wrong = env_with_plugin.run(
        "phalanx", *words, "mixer=state_weighted", "hidden_dim=0", cwd=tmp_path, status=1
    )
    assert "mixer_args.hidden_dim=0 (command line)" in wrong.stderr
    unknown = env_with_plugin.run("phalanx", *words, "mixer=joyful", cwd=tmp_path, status=1)
    assert "could not be imported: sad (ModuleNotFoundError" in unknown.stderr


def test_plugin_file_trains(tmp_path: Path) -> None:
    words = (f"--config={EXAMPLE / 'state_weighted.yaml'}", "--env-config=matrix", "with")
    phalanx(*words, f"plugins=[{EXAMPLE}/phalanx_state_weighted.py]", *SHORT, cwd=tmp_path)
    assert stored_config(tmp_path)["mixer"] == "state_weighted"


def test_plugin_that_fails_stops_the_run_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "sad.py").write_text("1 / 0\n")
    words = ("--config=qmix", "--env-config=matrix", "with", "plugins=[sad.py]")
    done = phalanx(*words, cwd=tmp_path, status=1)
    assert (
        f"error: plugin '{tmp_path / 'sad.py'}' (config key plugins) could not be imported"
        in done.stderr
    )
    assert "ZeroDivisionError" in done.stderr
    assert not (tmp_path / "results").exists()
