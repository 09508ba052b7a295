"""Numba's inliner, without the copying that made up most of a first start.

For each call it makes part of the caller, numba copies the callee block by block, and with every block the
whole table of the callee's variables. The blocks of one callee share that table, which nothing reads again
once they are inlined, so a copy may share it too; places in source files never change. Names and code that
come out of it stay as they were.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numba.core import inline_closurecall, ir

# Numba's insides are not annotated.
_INLINER: Any = inline_closurecall
_PLACE: Any = ir.Loc


class _SharingCopy:
    """Stands in for the module ``copy`` in numba's inliner."""

    def __getattr__(self, name: str) -> Any:
        return getattr(copy, name)

    @staticmethod
    def deepcopy(thing: Any, memo: Any = None) -> Any:
        """A deep copy; that of a block keeps the block's scope."""
        if memo is None and isinstance(thing, ir.Block):
            memo = {id(thing.scope): thing.scope}
        return copy.deepcopy(thing, memo)


@contextmanager
def quick_inlining() -> Iterator[None]:
    """Compile with these copies, and without looking for garbage, of which compiling makes little.

    A numba whose inliner copies in another way is left as it is.
    """
    known = getattr(_INLINER, "copy", None) is copy and not hasattr(_PLACE, "__deepcopy__")
    collects = gc.isenabled()
    gc.disable()
    if known:
        _INLINER.copy = _SharingCopy()
        _PLACE.__deepcopy__ = lambda place, memo: place
    try:
        yield
    finally:
        if known:
            _INLINER.copy = copy
            del _PLACE.__deepcopy__
        if collects:
            gc.enable()
