"""Where compiled kernels are kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from phalanx.envs.battle import jit


def test_kernels_lie_where_the_user_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jit._NUMBA, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    occupied = tmp_path / "file"
    occupied.touch()
    monkeypatch.setattr(jit, "_HERE", occupied)  # no folder can be made in a file
    folder = jit.cache_folder.__wrapped__()
    assert folder == tmp_path / "phalanx" / "kernels" / jit.source_hash()
    assert folder.is_dir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(occupied))
    assert jit.cache_folder.__wrapped__() is None


def test_only_the_latest_kernels_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit._NUMBA, "CACHE_DIR", str(tmp_path))
    for name in "abcdefg":
        (tmp_path / "phalanx_battle" / name).mkdir(parents=True)
    jit.cache_folder.__wrapped__()
    kept = list((tmp_path / "phalanx_battle").iterdir())
    assert len(kept) == jit.KEPT_VERSIONS
    assert jit.source_hash() in {path.name for path in kept}


def test_the_first_start_says_that_it_compiles_and_later_ones_do_not(tmp_path: Path) -> None:
    script = tmp_path / "start.py"
    script.write_text(
        "import logging\n"
        "logging.basicConfig(level=logging.INFO, format='%(message)s')\n"
        "from phalanx.envs.battle.jit import kernel\n"
        "@kernel\n"
        "def double(x):\n"
        "    return 2 * x\n"
        "assert double(21) == 42\n"
    )
    said = []
    for _ in range(2):
        run = subprocess.run(
            [sys.executable, str(script)],
            env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "kernels")},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        said.append(run.stderr)
    assert "compiling, once on this machine, for about a minute" in said[0]
    assert "compiled double in" in said[0]
    assert said[1] == ""
