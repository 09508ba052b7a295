"""Where compiled kernels are kept."""

from __future__ import annotations

import copy
import gc
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from numba.core import inline_closurecall, ir

from phalanx.envs.battle import jit
from phalanx.envs.battle.inlining import quick_inlining

from ....patience import HANGS


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
            timeout=HANGS,
            check=True,
        )
        said.append(run.stderr)
    assert "compiling, once on this machine, for about a minute" in said[0]
    assert "compiled double in" in said[0]
    # On a busy machine loading may take long enough for a reminder.
    assert [line for line in said[1].splitlines() if "still compiling double" not in line] == []


def test_a_long_kernel_is_not_compiled_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="phalanx.envs.battle")
    said = threading.Event()
    jit.LOG.addFilter(lambda record: said.set() or True)
    try:
        with jit.reminding("step_battles", every=0.001):
            assert said.wait(HANGS)
    finally:
        jit.LOG.filters.clear()
    assert "still compiling step_battles, 0 s so far" in caplog.messages[0]


def test_the_inliner_copies_blocks_but_not_their_scopes_and_is_left_as_it_was() -> None:
    place = ir.Loc("file.py", 1)
    scope = ir.Scope(None, place)
    block = ir.Block(scope, place)
    block.append(ir.Assign(ir.Const(1, place), scope.define("a", place), place))
    with quick_inlining():
        assert not gc.isenabled()
        twin = inline_closurecall.copy.deepcopy(block)
    assert gc.isenabled()
    assert inline_closurecall.copy is copy
    assert not hasattr(ir.Loc, "__deepcopy__")
    assert twin.scope is scope
    assert twin.body[0] is not block.body[0]
    assert twin.body[0].target.scope is scope
    assert copy.deepcopy(block).scope is not scope
