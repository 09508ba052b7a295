"""One and the same package, however the program is started."""

from __future__ import annotations

import sys
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from .command import MAIN, ROOT, phalanx
from .conftest import FreshEnv, checked

PROBE = '''
"""A plugin that reports where modules come from, in this process and in a spawned one."""

import functools, importlib, multiprocessing, sys
from pathlib import Path

import phalanx
from phalanx.envs.adapter import LiftedConfig, LiftedEnv
from phalanx.envs.protocol import Discrete, EnvSpec


def report():
    stray = []
    for name in ("config", "data", "registry", "envs", "errors"):
        try:
            stray.append(importlib.import_module(name).__file__)
        except ImportError:
            pass
    here = Path(phalanx.__file__).resolve().parent
    return {
        "package": str(here),
        "stray": stray,
        "on_path": [p for p in sys.path if Path(p or ".").resolve() == here],
        "twice": [n for n, m in sys.modules.items() if n != "phalanx" and m is phalanx],
    }


class Probe:
    spec = EnvSpec(1, 1, 1, Discrete(1), 1)

    def describe(self):
        return report()

    def close(self):
        pass


if multiprocessing.parent_process() is None:
    env = LiftedEnv(Probe, num_envs=1, seed=0, config=LiftedConfig(processes=True))
    print("REPORT", [report(), env.describe()])
    env.close()
'''


@pytest.fixture
def probe(tmp_path: Path) -> Path:
    file = tmp_path / "probe.py"
    file.write_text(PROBE)
    return file


def reports(output: str) -> list[dict[str, object]]:
    """What the program and its worker said."""
    (line,) = (s for s in output.splitlines() if s.startswith("REPORT"))
    found: list[dict[str, object]] = eval(line.removeprefix("REPORT"))
    return found


def probing(probe: Path) -> tuple[str, ...]:
    return ("print_config", "--config=qmix", "--env-config=matrix", "with", f"plugins=[{probe}]")


def clean(package: Path) -> dict[str, object]:
    return {"package": str(package), "stray": [], "on_path": [], "twice": []}


@pytest.mark.parametrize("where", ["repository", "src", "elsewhere"])
def test_main_file_is_the_package(probe: Path, tmp_path: Path, where: str) -> None:
    """Also when the current folder is src/ itself, which Python then offers for imports."""
    cwd = {"repository": ROOT, "src": ROOT / "src", "elsewhere": tmp_path}[where]
    done = phalanx(*probing(probe), cwd=cwd, cold=True)
    assert reports(done.stdout) == [clean(ROOT / "src")] * 2


def test_module_and_script_are_the_package(probe: Path, tmp_path: Path) -> None:
    script = Path(sys.executable).parent / "phalanx"
    if not script.exists():
        pytest.skip("phalanx is not installed in this environment")
    for command in ((str(script),), (sys.executable, "-m", "phalanx.main")):
        done = checked((*command, *probing(probe)), cwd=tmp_path)
        assert reports(done.stdout) == [clean(ROOT / "src")] * 2


def test_main_file_needs_no_installation(
    probe: Path, tmp_path: Path, fresh_env: Callable[[], FreshEnv]
) -> None:
    env = fresh_env()
    missing = env.run("python", "-c", "import phalanx", cwd=tmp_path, status=1)
    assert "No module named 'phalanx'" in missing.stderr
    done = env.run("python", str(MAIN), *probing(probe), cwd=tmp_path)
    assert reports(done.stdout) == [clean(ROOT / "src")] * 2


def test_wheel_holds_all_that_is_needed(wheel: Path, sources: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    code = sources / "src"
    wanted = {
        f"phalanx/{path.relative_to(code).as_posix()}"
        for path in code.rglob("*")
        if path.suffix in (".py", ".yaml", ".json", ".js") or path.name == "py.typed"
        if not {"__pycache__", "phalanx.egg-info"} & set(path.parts)
    }
    assert wanted - packed == set()
    assert {name.split("/")[0] for name in packed} == {"phalanx", wheel.name[:13] + ".dist-info"}


def test_wheel_runs(
    probe: Path, wheel: Path, tmp_path: Path, fresh_env: Callable[[], FreshEnv]
) -> None:
    env = fresh_env()
    env.install(wheel)
    assert "state_weighted" not in env.run("phalanx", "list", cwd=tmp_path).stdout
    done = env.run("phalanx", *probing(probe), cwd=tmp_path)
    assert reports(done.stdout) == [clean(env.packages.resolve() / "phalanx")] * 2


def test_editable_install_is_the_source(
    sources: Path, tmp_path: Path, fresh_env: Callable[[], FreshEnv]
) -> None:
    env = fresh_env()
    env.install(sources, "--editable")
    where = textwrap.dedent("""
        import phalanx, phalanx.config.sources as sources
        print(phalanx.__file__)
        print(len(list(sources.CONFIG_DIR.glob("envs/*.yaml"))))
    """)
    done = env.run("python", "-c", where, cwd=tmp_path)
    file, configs = done.stdout.split()
    assert Path(file).resolve() == (sources / "src" / "__init__.py").resolve()
    assert int(configs) >= 1
