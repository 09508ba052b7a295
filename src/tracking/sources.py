"""Source files of a run, each content stored once."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path
from typing import Any


def digest(path: Path) -> str:
    """MD5 of a file, the digest Sacred's tools use to tell files apart."""
    md5 = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            md5.update(block)
    return md5.hexdigest()


def imported_sources(package: str, root: Path) -> list[tuple[str, str]]:
    """Path below ``root`` and digest of every imported module of a package, sorted."""
    found = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and (name == package or name.startswith(package + ".")) and file.endswith(".py"):
            path = Path(file).resolve()
            if root in path.parents:
                found[path.relative_to(root).as_posix()] = digest(path)
    return sorted(found.items())


def store_sources(experiment: dict[str, Any], store: Path) -> list[list[str]]:
    """Copy the sources named in Sacred's experiment entry into a folder shared by all runs.

    Returns pairs of name and path of the copy, relative to the parent of ``store``.
    """
    stored = []
    for name, md5 in experiment["sources"]:
        source = Path(experiment["base_dir"], name)
        copy = store / f"{source.stem}_{md5}{source.suffix}"
        if not copy.exists():
            store.mkdir(parents=True, exist_ok=True)
            beside = copy.with_name(f"{copy.name}.{os.getpid()}.tmp")  # runs start at the same time
            shutil.copyfile(source, beside)
            beside.replace(copy)
        stored.append([name, copy.relative_to(store.parent).as_posix()])
    return stored
