"""Run the program the way a user does."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from ..patience import HANGS

ROOT = Path(__file__).resolve().parents[2]
MAIN = ROOT / "src" / "main.py"


def environment() -> dict[str, str]:
    """Nothing of the test run's own settings, no colours, a fixed width."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PHALANX", "PYTHONPATH"))}
    return {**kept, "COLUMNS": "200", "NO_COLOR": "1"}


def phalanx(
    *words: str, cwd: Path | None = None, status: int = 0, cold: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run ``python src/main.py`` with ``words`` and expect ``status``.

    In a process of its own, which is forked from one that has imported torch, where processes can be forked.

    Args:
        cold: by a new interpreter, where it matters how the program is started.
    """
    run = _from_nothing if cold or not hasattr(os, "fork") else _forked
    done = run(words, cwd or ROOT)
    assert done.returncode == status, f"{words}\n{done.stdout}\n{done.stderr}"
    return done


def start(*words: str, cwd: Path) -> subprocess.Popen[str]:
    """Start a run and leave it going; the caller ends it."""
    return subprocess.Popen(
        [sys.executable, str(MAIN), *words],
        cwd=cwd,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _from_nothing(words: tuple[str, ...], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(MAIN), *words],
        cwd=cwd,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HANGS,
    )


@functools.cache
def _server() -> subprocess.Popen[str]:
    """It ends with the tests, when nobody holds the other end of its input any more."""
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("warm.py"))],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _forked(words: tuple[str, ...], cwd: Path) -> subprocess.CompletedProcess[str]:
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "stdout"), Path(folder, "stderr")
        job = {
            "words": words,
            "main": str(MAIN),
            "cwd": str(cwd),
            "environment": environment(),
            "stdout": str(out),
            "stderr": str(err),
        }
        print(json.dumps(job), file=server.stdin, flush=True)
        child = int(server.stdout.readline())
        hangs = threading.Timer(HANGS, os.kill, (child, 9))
        hangs.start()
        try:
            status = int(server.stdout.readline())
        finally:
            hangs.cancel()
        return subprocess.CompletedProcess(list(words), status, out.read_text(), err.read_text())
