"""Compiling the engine's kernels once per machine.

Numba's on-disk cache notices a changed function only when the file of that very function changes. The
kernels here call each other across files, so each hash of all kernel sources has a cache folder of its
own, where the user can write: next to the sources, else in the user's cache folder. Of processes that miss
the same kernel one compiles it, and the others wait for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numba.core.config
import numpy as np
from numba.core import caching

from ...locks import FileLock
from .inlining import quick_inlining

LOG = logging.getLogger("phalanx.envs.battle")
F = TypeVar("F", bound=Callable[..., Any])
_HERE = Path(__file__).resolve().parent
KEPT_VERSIONS = 4
REMINDER_SECONDS = 10.0

# No kernel depends on these files.
_INTERPRETED = (
    "__init__",
    "arrays",
    "bots",
    "capability_wrapper",
    "door",
    "feature_names",
    "maps",
    "scene",
    "smac",
    "snapshot",
    "tactics",
    "teams",
    "vec",
)

# Without numba's reference counts (_nrt): kernels allocate nothing, and counting at every call of a small
# helper took longer than the helpers. Division by zero gives infinity, as in numpy; no fast-math.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}

# Numba's insides are not annotated.
_NUMBA: Any = numba.core.config
_CacheBase: Any = caching.Cache
_CacheImplBase: Any = caching.CompileResultCacheImpl
_LocatorBase: Any = caching._CacheLocator


@cache
def source_hash() -> str:
    """Hash of the kernels' sources, Python and numba versions: what compiled code depends on."""
    digest = hashlib.sha256(f"{sys.version_info[:3]} {numba.__version__}".encode())
    for path in sorted(_HERE.glob("*.py")):
        if path.stem in _INTERPRETED:
            continue
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def cache_folder() -> Path | None:
    """Where compiled kernels of just these sources lie, if anything is writable.

    First choice NUMBA_CACHE_DIR, then the package's own folder, then the user's cache.
    """
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    choices = [Path(_NUMBA.CACHE_DIR) / "phalanx_battle"] if _NUMBA.CACHE_DIR else []
    choices += [_HERE / "__pycache__" / "kernels", user / "phalanx" / "kernels"]
    for folder in choices:
        own = folder / source_hash()
        try:
            own.mkdir(parents=True, exist_ok=True)
            probe = own / f".write-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError:
            continue
        _forget_others(own)
        return own
    return None


def _forget_others(own: Path) -> None:
    """Remove kernels of other sources but for the few used last."""
    others = [path for path in own.parent.iterdir() if path != own and path.is_dir()]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for stale in others[KEPT_VERSIONS - 1 :]:
        shutil.rmtree(stale, ignore_errors=True)


class _Locator(_LocatorBase):  # type: ignore[misc]
    """Tells numba where the compiled kernels lie and when they are stale."""

    def __init__(self, py_func: Callable[..., Any]) -> None:
        self._line = py_func.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        return str(cache_folder())

    def get_source_stamp(self) -> str:
        return source_hash()

    def get_disambiguator(self) -> str:
        return str(self._line)


class _CacheImpl(_CacheImplBase):  # type: ignore[misc]
    def __init__(self, py_func: Callable[..., Any]) -> None:
        self._lineno = py_func.__code__.co_firstlineno
        self._locator = _Locator(py_func)
        abiflags = getattr(sys, "abiflags", "")
        self._filename_base = self.get_filename_base(f"battle.{py_func.__name__}", abiflags)


class _Cache(_CacheBase):  # type: ignore[misc]
    """Kernels on disk; who finds none has the lock until it is released, and others wait for that."""

    _impl_class = _CacheImpl

    def __init__(self, function: Callable[..., Any], folder: Path, progress: Progress) -> None:
        super().__init__(function)
        self._progress = progress
        self.lock = FileLock(folder / f"{function.__name__}.lock")

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """What is on disk, after whoever compiles it has put it there; None if that is now up to us."""
        found = super().load_overload(sig, target_context)
        if found is None and self._somebody_compiles():
            self._progress.turn("loading")
            found = super().load_overload(sig, target_context)
        if found is None:
            _announce("once on this machine")
            self._progress.turn("still compiling")
        return found

    def _somebody_compiles(self) -> bool:
        """Take the lock; whether somebody else had it until now."""
        try:
            if self.lock.acquire(task="compiling"):
                return False
            who = self.lock.holder().get("pid", "of somebody else")
            self._progress.turn(f"waiting for process {who}, which compiles", now=True)
            return self.lock.acquire(timeout=math.inf, task="compiling")
        except OSError:  # nothing can be written, so nothing can be kept for others either
            return False


def inner(function: F) -> F:
    """Compile a helper that only other kernels call; it is cached inside its callers."""
    compiled: Any = numba.njit(**_OPTIONS)(function)
    return cast(F, compiled)


def inlined(function: F) -> F:
    """Like :func:`inner`, for what runs per unit and loop: made part of its caller's code.

    It doubles the speed of small battles, and costs compile time at every place of use.
    """
    compiled: Any = numba.njit(**_OPTIONS, inline="always")(function)
    return cast(F, compiled)


@inlined
def count(first: int, last: int) -> Any:
    """``range`` of unsigned numbers: numba asks of every signed index whether it counts from the end."""
    return range(np.uint64(first), np.uint64(last))


def kernel(function: F) -> F:
    """Compile an entry point called from Python, with an on-disk cache and a word about waiting."""
    return _entry_point(function, same_types=False)


def step_kernel(function: F) -> F:
    """Like :func:`kernel`, for what is called at every step: types are looked at in the first call only.

    Numba's look at some fifty arrays takes as long as a step of two small battles. Later calls must bring
    arrays of the same types and layouts, contiguous ones that the engine made.
    """
    return _entry_point(function, same_types=True)


def _entry_point(function: F, same_types: bool) -> F:
    dispatcher: Any = numba.njit(**_OPTIONS)(function)
    compiled: Any = None

    @wraps(function)
    def call(*args: Any) -> Any:
        nonlocal compiled
        if compiled is not None:
            return compiled(*args)
        folder = cache_folder()
        start = time.perf_counter()
        with contextlib.ExitStack() as stack:
            stack.enter_context(quick_inlining())
            progress = stack.enter_context(reminding(function.__name__))
            if folder is None:
                _announce("in each start, since nothing can be written to a cache folder")
                progress.turn("still compiling")
            else:
                dispatcher._cache = _Cache(function, folder, progress)
                stack.callback(dispatcher._cache.lock.release)
            result = dispatcher(*args)
        if sum(dispatcher.stats.cache_misses.values()) or folder is None:
            seconds = time.perf_counter() - start
            LOG.info("battle engine: compiled %s in %.1f s", function.__name__, seconds)
        compiled = dispatcher
        if same_types:
            (overload,) = dispatcher.overloads.values()
            compiled = overload.entry_point
        return result

    return cast(F, call)


class Progress:
    """What is being done about a kernel, for those who wait.

    Args:
        kernel: its name.
    """

    def __init__(self, kernel: str) -> None:
        self._kernel = kernel
        self.turn("loading")

    def turn(self, doing: str, *, now: bool = False) -> None:
        """Something else is being done from here on; ``now`` says so at once."""
        self._doing, self._since = doing, time.perf_counter()
        if now:
            LOG.info("battle engine: %s %s ...", doing, self._kernel)

    def remind(self) -> None:
        """Say it again."""
        so_far = time.perf_counter() - self._since
        LOG.info("battle engine: %s %s, %.0f s so far ...", self._doing, self._kernel, so_far)


@contextmanager
def reminding(name: str, every: float = REMINDER_SECONDS) -> Iterator[Progress]:
    """Say again and again, until the end of the ``with`` block, what is being done about a kernel."""
    over = threading.Event()
    progress = Progress(name)

    def remind() -> None:
        while not over.wait(every):
            progress.remind()

    reminder = threading.Thread(target=remind, name="compile reminder", daemon=True)
    reminder.start()
    try:
        yield progress
    finally:
        over.set()
        reminder.join()


@cache
def _announce(when: str) -> None:
    LOG.info("battle engine: compiling, %s, for about a minute ...", when)
