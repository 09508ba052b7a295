"""Compiling the engine's kernels once per machine.

Numba's on-disk cache notices a changed function only when the file of that very function changes. The
kernels here call each other across files, so their cache is keyed on a hash of all engine sources
instead, and lies where the user can write: next to the sources, else in the user's cache folder.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import time
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import caching, cgutils, config
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

LOG = logging.getLogger("phalanx.envs.battle")
F = TypeVar("F", bound=Callable[..., Any])
_HERE = Path(__file__).resolve().parent


@cache
def source_hash() -> str:
    """Hash of the engine's sources, Python and numba versions: what compiled code depends on."""
    digest = hashlib.sha256(f"{sys.version_info[:3]} {numba.__version__}".encode())
    for path in sorted(_HERE.glob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def cache_folder() -> Path:
    """First writable folder among NUMBA_CACHE_DIR, the package's own and the user's cache."""
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    choices = [Path(config.CACHE_DIR) / "phalanx_battle"] if config.CACHE_DIR else []
    choices += [_HERE / "__pycache__" / "kernels", user / "phalanx" / "kernels"]
    for folder in choices:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".write-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError:
            continue
        return folder
    return choices[-1]


class _Locator(caching._CacheLocator):  # type: ignore[misc]
    """Tells numba where the compiled kernels lie and when they are stale."""

    def __init__(self, py_func: Callable[..., Any]) -> None:
        self._line = py_func.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        return str(cache_folder())

    def get_source_stamp(self) -> str:
        return source_hash()

    def get_disambiguator(self) -> str:
        return str(self._line)


class _CacheImpl(caching.CompileResultCacheImpl):  # type: ignore[misc]
    def __init__(self, py_func: Callable[..., Any]) -> None:
        self._lineno = py_func.__code__.co_firstlineno
        self._locator = _Locator(py_func)
        abiflags = getattr(sys, "abiflags", "")
        self._filename_base = self.get_filename_base(f"battle.{py_func.__name__}", abiflags)


class _Cache(caching.Cache):  # type: ignore[misc]
    _impl_class = _CacheImpl


def inner(function: F) -> F:
    """Compile a helper that only other kernels call; it is cached inside its callers."""
    compiled: F = numba.njit(nogil=True, error_model="numpy")(function)
    return compiled


def inlined(function: F) -> F:
    """Like :func:`inner`, for what runs per unit and loop: made part of its caller's code.

    It doubles the speed of small battles, and costs compile time at every place of use.
    """
    compiled: F = numba.njit(nogil=True, error_model="numpy", inline="always")(function)
    return compiled


@intrinsic  # type: ignore[misc]
def borrowed(typing_context: Any, array: Any) -> Any:
    """The same array without its reference count; the caller of the kernel keeps it alive.

    Numba counts references atomically at every call that takes an array, which costs more than what
    small helpers do. Counting stops where there is nothing to count on.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        view = make_array(signature.args[0])(context, builder, args[0])
        view.meminfo = cgutils.get_null_value(view.meminfo.type)
        view.parent = cgutils.get_null_value(view.parent.type)
        return view._getvalue()

    return array(array), generate


def kernel(function: F) -> F:
    """Compile an entry point called from Python, with an on-disk cache and a word about waiting."""
    dispatcher = numba.njit(nogil=True, error_model="numpy")(function)
    dispatcher._cache = _Cache(function)
    dispatcher._can_compile = True
    known: set[int] = set()

    @wraps(function)
    def call(*args: Any) -> Any:
        if known:
            return dispatcher(*args)
        start = time.perf_counter()
        LOG.debug("loading kernel %s", function.__name__)
        result = dispatcher(*args)
        if sum(dispatcher.stats.cache_misses.values()):
            LOG.info(
                "compiled %s in %.0f s (once; kept in %s)",
                function.__name__, time.perf_counter() - start, cache_folder(),
            )  # fmt: skip
        known.add(1)
        return result

    return call  # type: ignore[return-value]
