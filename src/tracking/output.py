"""Capture of what a run prints."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import IO, Any

# The whole run document, output included, is sent to MongoDB at each beat and may not pass 16 MB.
OUTPUT_LIMIT = 200_000
_HEAD, _TAIL = OUTPUT_LIMIT // 4, OUTPUT_LIMIT // 2
_LONGEST_CHARACTER = 4  # bytes, in UTF-8
CUT_MARK = "\n[... cut here; the whole output is in cout.txt of the run's folder ...]\n"


class _Tee:
    """A text stream that also records what goes through. ``__wrapped__`` is the stream itself.

    A stream that is gone (closed terminal, ended pipe) is passed over: no run should end for that.
    """

    def __init__(self, stream: IO[str], output: Output) -> None:
        self.__wrapped__ = stream
        self._output = output

    def write(self, text: str) -> int:
        self._output.add(text)
        with contextlib.suppress(OSError):
            self.__wrapped__.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self.__wrapped__.flush()

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__wrapped__, name)


def unwrapped(stream: Any) -> Any:
    """The stream below all captures: what is written there is seen, but not recorded."""
    while hasattr(stream, "__wrapped__"):
        stream = stream.__wrapped__
    return stream


class Output:
    """Everything printed by a run: all of it once, for the file, and a short form for the database.

    Sacred's own capture can lose text: it moves the position of a buffer that other threads write
    to, and drops what a failing run printed since the last beat.

    Args:
        earlier: output of the run before it was resumed.
    """

    def __init__(self, earlier: str = "") -> None:
        self._lock = threading.Lock()
        self._new: list[str] = []
        self._pieces = [earlier]
        self._length = len(earlier)  # of the pieces
        self._head = ""  # of what was cut away in front of the pieces
        self._teeing = False
        self._returned = ""

    def add(self, text: str) -> None:
        """Record text."""
        with self._lock:
            self._new.append(text)
            self._pieces.append(text)
            self._length += len(text)
            if self._length > 4 * OUTPUT_LIMIT:
                self._cut()

    def take(self) -> str:
        """What was printed since the last call."""
        with self._lock:
            text = "".join(self._new)
            self._new.clear()
            return text

    def text(self) -> str:
        """Beginning and end of the output, with a mark where something was cut out."""
        with self._lock:
            text = "".join(self._pieces)
            if self._head:
                return self._head + CUT_MARK + text[-_TAIL:]
            return shorten(text)

    def _cut(self) -> None:
        text = "".join(self._pieces)
        self._head = self._head or text[:_HEAD]
        self._pieces = [text[-_TAIL:]]
        self._length = _TAIL

    @contextlib.contextmanager
    def capture(self) -> Iterator[None]:
        """Record ``sys.stdout`` and ``sys.stderr`` while they keep working as before."""
        stdout, stderr = sys.stdout, sys.stderr
        self._teeing = True
        sys.stdout, sys.stderr = _Tee(stdout, self), _Tee(stderr, self)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = stdout, stderr

    def sacred_filter(self, captured: str) -> str:
        """Sacred's hook on captured output: gets our last answer and what Sacred captured since."""
        if not self._teeing:
            self.add(captured[len(self._returned) :])
        self._returned = self.text()
        return self._returned


def shorten(text: str) -> str:
    """The text itself, or its beginning and end where it is longer than ``OUTPUT_LIMIT`` characters."""
    if len(text) <= OUTPUT_LIMIT:
        return text
    return text[:_HEAD] + CUT_MARK + text[-_TAIL:]


def read_shortened(file: IO[bytes]) -> str:
    """What :func:`shorten` makes of a file's text, without reading more of it than that takes."""
    size = file.seek(0, 2)
    file.seek(0)
    if size <= _LONGEST_CHARACTER * OUTPUT_LIMIT:
        return shorten(file.read().decode("utf-8", "replace"))
    head = file.read(_LONGEST_CHARACTER * _HEAD).decode("utf-8", "replace")
    file.seek(-_LONGEST_CHARACTER * (_TAIL + 1), 2)
    tail = file.read().decode("utf-8", "replace")
    return head[:_HEAD] + CUT_MARK + tail[-_TAIL:]
