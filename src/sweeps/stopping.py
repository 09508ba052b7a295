"""Signals that ask a worker, and whoever it has started, to end: none is lost, none comes at a bad time."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from ..interrupt import TAKEN_AWAY, TRY_AGAIN, Preempted

_PR_SET_PDEATHSIG = 1
_HANGUP = [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []
_SIGNALS = (signal.SIGINT, *TAKEN_AWAY, *_HANGUP)


def _heard() -> list[signal.Signals]:
    """All of them, but a hang-up that ``nohup`` has switched off stays so."""
    off = [name for name in _HANGUP if signal.getsignal(name) == signal.SIG_IGN]
    return [name for name in _SIGNALS if name not in off]


@contextlib.contextmanager
def on_stop(act: Callable[[int], None]) -> Iterator[list[int]]:
    """Signals that ask for an end call ``act`` and are listed in what the context gives."""
    asked: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        # A terminal that is gone is no Ctrl-C: nobody is there to say it twice.
        asked.append(signal.SIGTERM if number in _HANGUP else number)
        act(asked[-1])

    before = {name: signal.signal(name, handle) for name in _heard()}
    _let_through()
    try:
        yield asked
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def exit_status(asked: list[int]) -> int:
    """Of a program that ended after such signals, in their order."""
    if not asked:
        return 0
    return 130 if asked[0] == signal.SIGINT else TRY_AGAIN


class Stop:
    """A context that lets such signals raise while it is armed, and remembers them at all other times.

    They raise :class:`~..interrupt.Preempted`, or KeyboardInterrupt after Ctrl-C.
    """

    def __init__(self) -> None:
        self._armed = False
        self._asked: KeyboardInterrupt | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stop:
        self._before = {name: signal.signal(name, self._handle) for name in _heard()}
        _let_through()
        return self

    def __exit__(self, *raised: object) -> None:
        for name, handler in self._before.items():
            signal.signal(name, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._asked = KeyboardInterrupt() if number == signal.SIGINT else Preempted()
        if self._armed:
            raise self._asked

    @contextlib.contextmanager
    def armed(self) -> Iterator[None]:
        """Raise what comes, and what came before."""
        try:
            self._armed = True
            if self._asked is not None:
                raise self._asked
            yield
        finally:
            self._armed = False


def start(process: Any) -> None:
    """Start a process of ``multiprocessing``, whose signals wait until it is ready for them.

    Its body begins with :func:`stop_with_parent` and then hears signals by :func:`on_stop` or :class:`Stop`.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def stop_with_parent(parent: int) -> None:
    """Leave the terminal's signals to the parent, and be asked to stop when it dies, where Linux helps."""
    os.setpgid(0, 0)
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:  # it died before
            os.kill(os.getpid(), signal.SIGTERM)


def _let_through() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
