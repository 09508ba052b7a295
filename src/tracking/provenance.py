"""Where the code of a run comes from: versions and git state."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "numpy", "numba", "sacred", "pymongo", "einops", "pydantic")
_GIT_SECONDS = 5.0


def versions(own_version: str) -> dict[str, str]:
    """Versions of Python, of this package and of those that results depend on."""
    found = {"python": platform.python_version(), "phalanx": own_version}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_state(package_dir: Path) -> dict[str, Any] | None:
    """Repository, commit and dirty flag of the code; None without git or outside a checkout."""
    # Installed inside somebody else's repository we must not report theirs: ask for a file of ours.
    tracked = _git(package_dir, "ls-files", "--error-unmatch", "__init__.py")
    commit = _git(package_dir, "rev-parse", "HEAD")
    if tracked is None or commit is None:
        return None
    changes = _git(package_dir, "status", "--porcelain", "--untracked-files=no")
    origin = _git(package_dir, "config", "--get", "remote.origin.url")
    top = _git(package_dir, "rev-parse", "--show-toplevel")
    return {"url": _without_user(origin or f"git:/{top}"), "commit": commit, "dirty": bool(changes)}


def _git(directory: Path, *arguments: str) -> str | None:
    # Without optional locks a run never gets in the way of the user's own git command.
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            env=environment,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _without_user(url: str) -> str:
    scheme, mark, rest = url.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}" if mark else url
