"""Battles shared by threads that stay awake between steps, since waking one can take as long as a step.

Every thread begins with shares of its own, the same in all steps, whose battles its cache still holds;
whoever is done with them helps with what others have not begun. Then it looks for the next step's shares
for a while, and the caller's thread returns once all are done. Other threads than the caller's may come late
or not at all: then the caller does their work.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from .jit import inlined, step_kernel

# Looks for more work before a thread goes to rest: about half a millisecond.
PATIENCE = 1_000_000

# A crew is a row of integers, each in a cache line of its own: number of the round (a step of all battles);
# shares done in all rounds; 1 to send all others home; for every thread 1 from when it is sent for until it
# goes to rest; then for every share the round in which it was last taken.
LINE = 8
ROUND, DONE, DISMISSED, PRESENT = 0, LINE, 2 * LINE, 3 * LINE

Crew = NDArray[np.int64]


def make_crew(shares: int, threads: int) -> Crew:
    """A crew of so many with nothing to do."""
    return np.zeros(PRESENT + LINE * (threads + shares), np.int64)


def deal(battles: int, threads: int) -> NDArray[np.int64]:
    """Where each share of so many battles begins, and the last one ends; a thread's own lie side by side.

    Each is a quarter of what its thread has left, so that little is to be waited for in the end.
    """
    if threads == 1:
        return np.array([0, battles])
    bounds = [0]
    for thread in range(1, threads + 1):
        last = thread * battles // threads
        while bounds[-1] < last:
            bounds.append(bounds[-1] + -(-(last - bounds[-1]) // 4))
    return np.array(bounds)


def _place(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Address of the integer that the first two arguments, an array and an index, name."""
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    locate: Any = cgutils.get_item_pointer
    return locate(context, builder, signature.args[0], array, [arguments[1]], wraparound=False)


def _atomic(operation: str) -> Any:
    """Change one integer at once for all threads, by LLVM's operation; returns what it was."""

    def change(_context: Any, array: Any, index: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            place = _place(context, builder, signature, arguments)
            return builder.atomic_rmw(operation, place, arguments[2], "acq_rel")

        return types.int64(array, types.intp, types.int64), generate

    return intrinsic(change)


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


add: Any = _atomic("add")
raise_to: Any = _atomic("max")  # never lowers
load: Any = intrinsic(_load)
store: Any = intrinsic(_store)


@inlined
def all_done(crew: Crew, shares: int) -> bool:
    """Whether every share of all rounds is finished."""
    return bool(load(crew, DONE) >= shares * load(crew, ROUND))


@step_kernel
def begin_round(crew: Crew) -> None:
    """Let all shares be taken once more.

    A call of its own, so that other threads start while the caller's still hands over its arrays.
    """
    add(crew, ROUND, 1)


@step_kernel
def round_over(crew: Crew, shares: int) -> bool:
    """Whether nothing is left to do. After an interrupted step there may be."""
    return all_done(crew, shares)


@inlined
def take_share(crew: Crew, this_round: int, shares: int, thread: int, threads: int) -> int:
    """Number of a share that nobody has taken in this round, the thread's own first, or -1."""
    first = thread * shares // threads
    for turn in range(shares):
        share = first + turn
        if share >= shares:
            share -= shares
        place = PRESENT + LINE * (threads + share)
        # Who comes late, with an old round, finds nothing, and must not lower what others have raised.
        if load(crew, place) < this_round and raise_to(crew, place, this_round) < this_round:
            return share
    return -1
