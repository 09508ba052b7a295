"""Stop a run between two steps, when the user or a scheduler asks for it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SAID = b"\nstopping after the step in progress%s; Ctrl-C again stops at once.\n"


class Interrupt:
    """Turns the first SIGINT or SIGTERM into a flag; a second one interrupts at once.

    So does the first, as long as the run is not :attr:`patient`. Outside the main thread, where Python allows
    no handlers, it does nothing.

    Args:
        saves: the run then writes a checkpoint.

    Attributes:
        asked: somebody wants the run to end.
        patient: the run has done something that is worth saving. Before that it may be compiling for minutes.
    """

    def __init__(self, *, saves: bool) -> None:
        self._said = _SAID % (b", with a checkpoint" if saves else b"")
        self.asked = False
        self.patient = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for name in _SIGNALS:
                self._before[name] = signal.signal(name, self._handle)
        return self

    def __exit__(self, *raised: object) -> None:
        for name, handler in self._before.items():
            signal.signal(name, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again, self.asked = self.asked, True
        if again or not self.patient:
            raise KeyboardInterrupt
        # Past sys.stderr, which the step may be in the middle of writing to.
        with contextlib.suppress(OSError):
            os.write(2, self._said)


@contextlib.contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM ends what is done inside the way Ctrl-C does: with its record closed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
