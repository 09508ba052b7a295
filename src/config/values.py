"""From what somebody wrote to what a key's type takes, and what a stored config can keep."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Union

_LARGEST_INT = 2**63 - 1
"""More a database cannot keep."""


def fitted(annotation: Any, value: Any, text: str | None = None) -> Any:
    """``value`` as a key of type ``annotation`` takes it, where it means that without a doubt.

    Text is taken as it was written (``label=007``), whole floats count as integers (``t_max=2e6``), tuples
    as lists. Anything else comes back as it is, for the type check to judge.

    Args:
        text: what was written, where that was one word.
    """
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return fitted(inner[0], value, text)
    if origin in (Union, types.UnionType):
        return _fitted_to_one(inner, value, text)
    if annotation is str or (
        origin is Literal and all(isinstance(choice, str) for choice in inner)
    ):
        return text if text is not None and not isinstance(value, str) else value
    if annotation is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if origin in (list, tuple) and isinstance(value, list | tuple):
        element = inner[0] if inner else Any
        return origin(fitted(element, item) for item in value)
    return value


def _fitted_to_one(choices: tuple[Any, ...], value: Any, text: str | None) -> Any:
    if value is None and types.NoneType in choices:
        return None
    candidates = [fitted(choice, value, text) for choice in choices if choice is not types.NoneType]
    # A number stays one where numbers are taken; text comes last.
    unchanged = [c for c in candidates if type(c) is type(value)]
    return (unchanged or candidates or [value])[0]


def not_plain(value: Any, where: str) -> Iterator[str]:
    """A sentence for each thing that would come back otherwise from a stored config."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                yield f"{where} has the key {key!r}: keys must be text, write {str(key)!r}"
            elif "." in key or key.startswith("$") or "\0" in key:
                yield f"{where} has the key {key!r}: dots and $ have a meaning in stored configs"
            else:
                yield from not_plain(inner, f"{where}.{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from not_plain(inner, f"{where}[{number}]")
    elif isinstance(value, tuple):
        yield f"{where}={value!r} is a tuple, which a stored config cannot keep: write {list(value)!r}"
    elif isinstance(value, bool) or value is None or isinstance(value, str):
        return
    elif isinstance(value, int):
        if abs(value) > _LARGEST_INT:
            yield f"{where} is a number of {value.bit_length()} bits: at most 63 can be kept"
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield f"{where}={value} is not finite"
    else:
        yield (
            f"{where}={value!r} is a {type(value).__name__}, which a stored config cannot keep: write text "
            f"in quotes, e.g. {str(value)!r}"
        )
