"""Packages that others would import for nothing."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def absent(package: str) -> Iterator[None]:
    """Let importing ``package`` fail inside, as if it were not there. Once it is imported, no effect."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]
