"""Locks between processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from phalanx.locks import FileLock

from ..patience import HANGS


def test_a_lock_keeps_others_out_until_its_holder_dies(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    code = (
        "import sys, pathlib; from phalanx.locks import FileLock\n"
        "lock = FileLock(pathlib.Path(sys.argv[1])); assert lock.acquire()\n"
        "print('locked', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    assert not FileLock(path).acquire()
    holder.kill()
    holder.communicate()
    with FileLock(path) as lock:
        assert lock.acquire(timeout=HANGS)
