"""Run the program the way a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAIN = ROOT / "src" / "main.py"


def environment() -> dict[str, str]:
    """Nothing of the test run's own settings, no colours, a fixed width."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PHALANX", "PYTHONPATH"))}
    return {**kept, "COLUMNS": "200", "NO_COLOR": "1"}


def phalanx(
    *words: str, cwd: Path | None = None, status: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run ``python src/main.py`` with ``words`` and expect ``status``."""
    done = subprocess.run(
        [sys.executable, str(MAIN), *words],
        cwd=cwd or ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
    )
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
