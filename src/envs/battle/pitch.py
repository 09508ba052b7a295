"""Rows of one length, known when kernels are compiled: what lets them work on several units at once.

A battle's quantities lie in rows, one number per unit. Were the length of a row known at run time only, the
compiler could not tell that writing to one row leaves the others alone, and every row would take a register
for its address. So all rows are PITCH long, however many units there are.
"""

from __future__ import annotations

from typing import Any

from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np import arrayobj

from .jit import inlined

PITCH = 136
"""Most units in one battle, a multiple of LANES. Rows of 64-bit numbers are an odd number of cache lines
long, so that they do not compete for the same ones."""

LANES = 4
"""Units that are worked on at once, as far as numbers of 64 bits go."""


def _with_pitch(_context: Any, array: Any) -> Any:
    """The same rows (R, PITCH), whose length the compiler now knows; it is not checked."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        given = context.make_array(signature.args[0])(context, builder, arguments[0])
        rows = context.make_array(signature.return_type)(context, builder)
        item = context.get_abi_sizeof(context.get_data_type(array.dtype))
        length, size, pitch = (
            context.get_constant(types.intp, value) for value in (PITCH, item, PITCH * item)
        )
        unpack: Any = cgutils.unpack_tuple
        populate: Any = arrayobj.populate_array
        populate(
            rows, given.data, shape=[unpack(builder, given.shape, 2)[0], length],
            strides=[pitch, size], itemsize=size, meminfo=None,
        )  # fmt: skip
        return rows._getvalue()

    return array(array), generate


with_pitch: Any = intrinsic(_with_pitch)


@inlined
def lanes(n: int) -> int:
    """n rounded up to how many units are worked on at once; those that do not exist are done in vain."""
    return (n + LANES - 1) // LANES * LANES
