"""What of this machine Phalanx can use, and the line that mends what it cannot."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from .errors import PhalanxError

OLDEST, NEWEST = (3, 10), (3, 13)
LEAST_DISK = 2**30


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes:
        what: its name.
        state: ``ok``, ``without`` (runs go on without it) or ``broken`` (no run can).
        found: what is there.
        fix: a line that mends it, if anything is amiss.
    """

    what: str
    state: str
    found: str
    fix: str = ""


def examine(results: Path) -> Iterator[Finding]:
    """Look at everything that runs depend on; nothing is installed, started or compiled.

    Args:
        results: folder that holds runs, which need not exist.
    """
    yield _python(sys.version_info[:2])
    yield _torch()
    yield _sacred()
    yield _database(results)
    yield _game()
    yield from _extras()
    yield _disk(results)
    yield _kernels()


def _python(version: tuple[int, int]) -> Finding:
    found = f"{sys.version.split()[0]} ({sys.executable})"
    if OLDEST <= version <= NEWEST:
        return Finding("Python", "ok", found)
    return Finding("Python", "broken", found, "rm -rf .venv && make setup PYTHON=python3.13")


def _torch() -> Finding:
    try:
        import torch
    except ImportError as error:
        return Finding("torch", "broken", str(error), "pip install -e .")
    if torch.cuda.is_available():
        return Finding(
            "torch", "ok", f"{torch.__version__}, CUDA on {torch.cuda.get_device_name()}"
        )
    if shutil.which("nvidia-smi"):
        fix = (
            "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu128"
        )
        return Finding("torch", "without", f"{torch.__version__}, which does not see the GPU", fix)
    return Finding("torch", "ok", f"{torch.__version__}, on the CPU")


def _sacred() -> Finding:
    try:
        from .tracking import experiment  # noqa: F401
    except (ImportError, PhalanxError) as error:
        return Finding(
            "Sacred", "broken", str(error), "pip install sacred 'setuptools>=77.0.3,<82'"
        )
    return Finding("Sacred", "ok", metadata.version("sacred"))


def _database(results: Path) -> Finding:
    from .tracking import server
    from .tracking.target import choose_target

    try:
        target = choose_target(mongo_url=None, results_dir=results)
        if target is None:
            return Finding("database", "without", "none, files only", "pip install -e '.[server]'")
        if target.server_dir is not None:
            running = server.status(target.server_dir)
            state = f"runs on port {running.port}" if running else "starts with the first run"
            return Finding("database", "ok", f"{target.label}, {state}")
        with target.connected():
            return Finding("database", "ok", target.label)
    except PhalanxError as error:
        return Finding("database", "without", str(error), "unset PHALANX_MONGO_URL, or mend it")


def _game() -> Finding:
    from .envs.starcraft2 import find_game

    try:
        return Finding("StarCraft II", "ok", str(find_game("3m")))
    except PhalanxError as error:
        found = "not used: the embedded engine plays SMAC's maps"
        return Finding("StarCraft II", "without", found, str(error))


def _extras() -> Iterator[Finding]:
    try:
        wanted = metadata.requires("phalanx") or []
    except metadata.PackageNotFoundError:
        yield Finding("extras", "without", "Phalanx itself is not installed", "pip install -e .")
        return
    for extra, packages in _by_extra(wanted).items():
        missing = [name for name in packages if not _installed(name)]
        if missing:
            lacks = f"lacks {', '.join(missing)}"
            yield Finding(f"extra {extra}", "without", lacks, f"pip install -e '.[{extra}]'")
        else:
            yield Finding(f"extra {extra}", "ok", ", ".join(packages))


def _by_extra(wanted: list[str]) -> dict[str, list[str]]:
    """Names of packages by extra, as ``importlib.metadata.requires`` gives them; developers' left out."""
    extras: dict[str, list[str]] = {}
    for line in wanted:
        name = re.match(r"[\w.-]+", line)
        extra = re.search(r"extra\s*==\s*['\"](\w+)['\"]", line)
        if name and extra and extra[1] not in ("dev", "docs"):
            extras.setdefault(extra[1], []).append(name[0])
    return extras


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _disk(results: Path) -> Finding:
    folder = results.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    found = f"{free / 2**30:.1f} GiB free for {results}"
    if not os.access(folder, os.W_OK):
        fix = "phalanx ... with local_results_path=A_FOLDER_OF_YOURS"
        return Finding("disk", "broken", f"{folder} may not be written", fix)
    if free < LEAST_DISK:
        return Finding("disk", "without", found, "du -sh results/* | sort -h   # and remove some")
    return Finding("disk", "ok", found)


def _kernels() -> Finding:
    from .envs.battle.jit import cache_folder

    folder = cache_folder()
    if folder is None:
        found = "no folder can be written: they are compiled at each start"
        return Finding("kernels", "without", found, "export NUMBA_CACHE_DIR=A_FOLDER_OF_YOURS")
    if any(folder.glob("*step_battles*.nbc")):
        return Finding("kernels", "ok", f"compiled, in {folder}")
    found = "the first run on SMAC compiles them, once, for about a minute"
    return Finding("kernels", "without", found, "make run")
