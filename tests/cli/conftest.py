"""Fresh environments that hold the packages of this one, built and filled without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ..patience import HANGS
from .command import ROOT, environment

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
OFFLINE = ("--no-index", "--no-deps", "--no-build-isolation")


@dataclass(frozen=True)
class FreshEnv:
    """A virtual environment of a test.

    Attributes:
        folder: its root.
    """

    folder: Path

    @property
    def scripts(self) -> Path:
        """Where its programs are."""
        return self.folder / ("Scripts" if os.name == "nt" else "bin")

    @property
    def packages(self) -> Path:
        """Where what is installed lands."""
        prefix = {"base": str(self.folder), "platbase": str(self.folder)}
        return Path(sysconfig.get_path("purelib", "venv", vars=prefix))

    def install(self, what: Path, *options: str) -> None:
        """Install a wheel or a folder, from disk alone."""
        # pip sees what this interpreter has; it must install a second copy regardless.
        again = ("--ignore-installed", "--no-compile")
        command = (*PIP, "--python", str(self.scripts / "python"), "install")
        checked((*command, *OFFLINE, *again, *options, str(what)))

    def run(self, *words: str, cwd: Path, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run one of its programs and expect ``status``."""
        return checked((str(self.scripts / words[0]), *words[1:]), cwd=cwd, status=status)


def checked(
    command: tuple[str, ...], cwd: Path | None = None, status: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run a command and expect ``status``."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert done.returncode == status, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a wheel is made of: building in place would leave files behind."""
    folder = tmp_path_factory.mktemp("sources")
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    skipped = shutil.ignore_patterns("__pycache__", "*.egg-info", ".numba_cache")
    shutil.copytree(ROOT / "src", folder / "src", ignore=skipped)
    return folder


@pytest.fixture(scope="session")
def wheel(sources: Path) -> Path:
    """Phalanx as a wheel."""
    checked((*PIP, "wheel", *OFFLINE, "--wheel-dir", str(sources / "dist"), str(sources)))
    (built,) = (sources / "dist").glob("phalanx-*.whl")
    return built


@pytest.fixture(scope="session")
def fresh_env(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], FreshEnv]:
    """Makes environments that can import everything installed here, except Phalanx."""

    def make() -> FreshEnv:
        env = FreshEnv(tmp_path_factory.mktemp("env"))
        venv.create(env.folder, system_site_packages=True, symlinks=os.name != "nt")
        # A path file adds the folder alone; the editable Phalanx in it stays invisible, since it is
        # a hook in a path file of its own.
        paths = {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}
        (env.packages / "packages_of_the_tests.pth").write_text("\n".join(sorted(paths)))
        return env

    return make
