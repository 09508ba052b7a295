"""Battles dealt out to threads that stay awake between steps, since waking one can take as long as a step.

A step's shares are dealt by one counter, which every thread advances. Whoever finds none left looks again
for a while; the caller's thread returns once all shares are done. Threads other than the caller's may come
late or not at all: then the caller does their work.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from .jit import inlined, step_kernel

# Places in a crew's integers, each in a cache line of its own.
NEXT, DONE, DISMISSED = 0, 16, 32
PRESENT = 48  # and one for each thread: 1 from when it is sent for until it goes to rest

# Looks for more work before a thread goes to rest: about half a millisecond.
PATIENCE = 1_000_000

Crew = NDArray[np.int64]


def make_crew(threads: int) -> Crew:
    """A crew of so many with nothing to do."""
    crew = np.zeros(PRESENT + threads, np.int64)
    crew[NEXT] = np.iinfo(np.int64).max
    return crew


def deal(battles: int, threads: int) -> NDArray[np.int64]:
    """Where shares of so many battles begin, and the last one ends: large ones first, single ones last."""
    bounds = [0]
    while bounds[-1] < battles:
        left = battles - bounds[-1]
        bounds.append(bounds[-1] + (left if threads == 1 else -(-left // (2 * threads))))
    return np.array(bounds, np.int64)


def _place(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Address of the integer that the first two arguments, an array and an index, name."""
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    locate: Any = cgutils.get_item_pointer
    return locate(context, builder, signature.args[0], array, [arguments[1]], wraparound=False)


def _fetch_add(_context: Any, array: Any, index: Any, value: Any) -> Any:
    """Add to one integer at once for all threads; returns what it was."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature, arguments)
        return builder.atomic_rmw("add", place, arguments[2], "acq_rel")

    return types.int64(array, types.intp, types.int64), generate


def _load(_context: Any, array: Any, index: Any) -> Any:
    """One integer as other threads have written it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature, arguments)
        return builder.load_atomic(place, "acquire", 8)

    return types.int64(array, types.intp), generate


def _store(_context: Any, array: Any, index: Any, value: Any) -> Any:
    """Write one integer for other threads to see, with all that was written before it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature, arguments)
        builder.store_atomic(arguments[2], place, "release", 8)
        return context.get_constant(types.int64, 0)

    return types.int64(array, types.intp, types.int64), generate


fetch_add: Any = intrinsic(_fetch_add)
load: Any = intrinsic(_load)
store: Any = intrinsic(_store)


@step_kernel
def open_shares(crew: Crew) -> None:
    """Let all shares of a step be taken.

    A call of its own, so that other threads start while the caller's still hands over its arrays.
    """
    store(crew, DONE, 0)
    store(crew, NEXT, 0)


@inlined
def take_share(crew: Crew, shares: int) -> int:
    """Number of a share that nobody else works on, or -1."""
    if load(crew, NEXT) >= shares:
        return -1
    share: int = fetch_add(crew, NEXT, 1)
    return share if share < shares else -1


@inlined
def all_done(crew: Crew, shares: int) -> bool:
    """Whether every share of the step is finished."""
    return bool(load(crew, DONE) >= shares)
