"""Where compiled kernels are kept."""

from __future__ import annotations

import copy
import gc
import logging
import os
import queue
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from numba.core import inline_closurecall, ir

from phalanx.envs.battle import jit
from phalanx.envs.battle.inlining import quick_inlining
from phalanx.locks import FileLock

from ....patience import HANGS


def test_kernels_lie_where_the_user_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = jit.source_hash()  # remembered: it must be that of the sources as they are
    monkeypatch.setattr(jit._NUMBA, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    occupied = tmp_path / "file"
    occupied.touch()
    monkeypatch.setattr(jit, "_HERE", occupied)  # no folder can be made in a file
    folder = jit.cache_folder.__wrapped__()
    assert folder == tmp_path / "phalanx" / "kernels" / known
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


@pytest.fixture
def start(tmp_path: Path) -> Callable[[], subprocess.Popen[str]]:
    """Starts a process that doubles a number by a kernel; what it says comes through its stderr."""
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
    return lambda: subprocess.Popen(
        [sys.executable, str(script)],
        env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "kernels")},
        stderr=subprocess.PIPE,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> list[str]:
    """All lines of a process that must end well, but for loading that takes long on a busy machine."""
    lines = process.communicate(timeout=HANGS)[1].splitlines()
    assert process.returncode == 0, lines
    return [line for line in lines if "loading double" not in line]


def test_the_first_start_says_that_it_compiles_and_later_ones_do_not(
    start: Callable[[], subprocess.Popen[str]],
) -> None:
    first = said(start())
    assert first[0] == "battle engine: compiling, once on this machine, for about a minute ..."
    assert first[-1].startswith("battle engine: compiled double in ")
    assert said(start()) == []


def test_of_several_first_starts_one_compiles(
    start: Callable[[], subprocess.Popen[str]],
) -> None:
    together = [start() for _ in range(3)]
    lines = [line for process in together for line in said(process)]
    assert len([line for line in lines if "compiled double in" in line]) == 1, lines


def test_who_waits_says_for_whom_and_compiles_where_that_one_gives_up(
    start: Callable[[], subprocess.Popen[str]], tmp_path: Path
) -> None:
    folder = tmp_path / "kernels" / "phalanx_battle" / jit.source_hash()
    with FileLock(folder / "double.lock") as lock:
        assert lock.acquire(task="compiling")
        waiting = start()
        assert waiting.stderr is not None
        line = f"battle engine: waiting for process {os.getpid()}, which compiles double ...\n"
        assert waiting.stderr.readline() == line
    assert "compiled double in" in said(waiting)[-1]


def test_nothing_that_takes_long_is_done_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="phalanx.envs.battle")
    lines: queue.Queue[str] = queue.Queue()
    jit.LOG.addFilter(lambda record: lines.put(record.getMessage()) or True)
    try:
        with jit.reminding("step_battles", every=0.001) as progress:
            first = lines.get(timeout=HANGS)
            assert first == "battle engine: loading step_battles, 0 s so far ..."
            progress.turn("still compiling")
            later = "battle engine: still compiling step_battles, 0 s so far ..."
            while lines.get(timeout=HANGS) != later:
                pass
    finally:
        jit.LOG.filters.clear()


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
