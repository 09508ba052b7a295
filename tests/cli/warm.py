"""A process that has imported what runs import, and forks for each command it is told.

Reads a line of JSON per command (words, cwd, environment, and files for what it says), writes the child's
process id, then its exit status. The child is the program as it is: ``src/main.py`` with these words, a
process of its own that ends as Python ends. Only the seconds of imports are shared.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any


def imported() -> None:
    """What every run imports."""
    from phalanx import session  # noqa: F401
    from phalanx.registry import load_builtin_parts

    load_builtin_parts()


def become(job: dict[str, Any]) -> None:
    """Turn this process into the command."""
    files = (os.devnull, job["stdout"], job["stderr"])
    for number, path in enumerate(files):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), number)
    os.environ.clear()
    os.environ.update(job["environment"])
    os.chdir(job["cwd"])
    sys.argv[:] = [job["main"], *job["words"]]
    sys.path[0] = str(Path(job["main"]).parent)  # as `python src/main.py` has it


def serve() -> None:
    """Answer until there is nobody who asks."""
    imported()
    gc.freeze()  # what is shared stays shared
    while line := sys.stdin.readline():
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            become(job)
            runpy.run_path(job["main"], run_name="__main__")
            raise SystemExit  # main.py never returns
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
