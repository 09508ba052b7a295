"""Files that survive a kill at any moment: whole JSON files and append-only files."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

Row = dict[str, Any]

_SPELLED = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def to_json(value: Any, **layout: Any) -> str:
    """JSON text of a value. Numbers that JSON has no word for become strings that ``float()`` reads.

    >>> to_json([1.5, float("nan"), float("-inf")])
    '[1.5, "NaN", "-Infinity"]'
    """
    try:
        return json.dumps(value, allow_nan=False, **layout)
    except ValueError:
        return json.dumps(_spelled(value), allow_nan=False, **layout)


def number(value: Any) -> Any:
    """Undo what :func:`to_json` did to one number; other values pass.

    >>> number("-Infinity"), number(2), number("x")
    (-inf, 2, 'x')
    """
    return _SPELLED.get(value, value) if isinstance(value, str) else value


def _spelled(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _spelled(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_spelled(item) for item in value]
    return value


def write_json(path: Path, value: Any) -> None:
    """Replace the file in one step, so that a reader or a kill never meets half of it."""
    beside = path.with_name(path.name + ".tmp")
    with open(beside, "w", encoding="utf-8") as f:
        f.write(to_json(value, sort_keys=True, indent=2))
        f.flush()
        os.fsync(f.fileno())
    os.replace(beside, path)


def read_json(path: Path, default: Any = None) -> Any:
    """Content of a JSON file, or ``default`` when it is missing or unreadable."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return default


def read_rows(
    path: Path,
    offset: int = 0,
    end: int | None = None,
    *,
    wanted: Callable[[bytes], bool] = bool,
) -> tuple[list[Row], int]:
    """Complete lines of a JSON-lines file between two byte offsets, and the offset behind them.

    A line cut short by a kill is left out; so is one that is no JSON object, or not ``wanted``.
    """
    try:
        with open(path, "rb") as f:
            f.seek(offset)
            data = f.read() if end is None else f.read(end - offset)
    except OSError:
        return [], offset
    complete = data[: data.rfind(b"\n") + 1]
    rows = []
    for line in filter(wanted, complete.splitlines()):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows, offset + len(complete)


class AppendFile:
    """A file that only grows, each append whole or not at all.

    Args:
        path: the file; made at the first append.
        lines: the file holds lines; a last one cut short by a kill is removed.
    """

    def __init__(self, path: Path, *, lines: bool) -> None:
        self.path = path
        self.size = path.stat().st_size if path.exists() else 0
        if lines and self.size:
            self.size = path.read_bytes().rfind(b"\n") + 1

    def append(self, data: bytes) -> None:
        """Write at the end and wait until the disk has it.

        Raises:
            OSError: nothing was appended; what a failed write left behind is cut off the next time.
        """
        if not data:
            return
        with open(self.path, "ab") as f:
            if f.tell() != self.size:
                f.truncate(self.size)
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        self.size += len(data)

    def append_rows(self, rows: list[Row]) -> None:
        """Append one JSON object per line."""
        self.append("".join(to_json(row) + "\n" for row in rows).encode())
