"""The command line: ``python src/main.py ...``, ``phalanx ...`` and ``python -m phalanx.main ...`` alike."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path


def _become_package() -> None:
    """Make this folder importable as ``phalanx``, and as nothing else.

    ``python src/main.py`` puts ``src/`` on sys.path, where ``config`` or ``data`` would become top-level
    modules and shadow others. Spawned workers import this file anew, so this runs on every import of it.
    """
    here = Path(__file__).resolve().parent
    sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != here]
    loaded = sys.modules.get("phalanx")
    if loaded is not None and Path(str(loaded.__file__)).resolve().parent == here:
        return
    spec = importlib.util.spec_from_file_location(
        "phalanx", here / "__init__.py", submodule_search_locations=[str(here)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["phalanx"] = module
    spec.loader.exec_module(module)


if __name__ in ("__main__", "__mp_main__"):
    _become_package()


def main(argv: list[str] | None = None) -> int:
    """Run a command line; its exit status: 0 good, 1 user's error, 75 told to make room, 130 interrupted."""
    cli = importlib.import_module("phalanx.cli")
    return int(cli.run(sys.argv[1:] if argv is None else argv))


if __name__ == "__main__":
    raise SystemExit(main())
