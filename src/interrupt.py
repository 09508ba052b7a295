"""Stop a run between two steps, when the user or a scheduler asks for it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

# What a scheduler sends before it takes the machine away; SLURM the second, where it is asked to.
TAKEN_AWAY = (signal.SIGTERM, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else []))
TRY_AGAIN = 75
"""Exit status of what was told to make room: EX_TEMPFAIL of sysexits.h, on which schedulers requeue."""
_SAID = b"\nstopping after the step in progress%s; Ctrl-C again stops at once.\n"


class Preempted(KeyboardInterrupt):
    """A scheduler asked the run to make room: it is to go on later."""


def _stopped_by(number: int) -> KeyboardInterrupt:
    return Preempted() if number in TAKEN_AWAY else KeyboardInterrupt()


class Interrupt:
    """Turns the first SIGINT, SIGTERM or SIGUSR1 into a flag; a second one interrupts at once.

    So does the first, as long as the run is not :attr:`patient`. Outside the main thread, where Python allows
    no handlers, it does nothing.

    Args:
        saves: the run then writes a checkpoint.

    Attributes:
        asked: somebody wants the run to end; what to raise then.
        patient: the run has done something that is worth saving. Before that it may be compiling for minutes.
    """

    def __init__(self, *, saves: bool) -> None:
        self._said = _SAID % (b", with a checkpoint" if saves else b"")
        self.asked: KeyboardInterrupt | None = None
        self.patient = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for name in (signal.SIGINT, *TAKEN_AWAY):
                self._before[name] = signal.signal(name, self._handle)
        return self

    def __exit__(self, *raised: object) -> None:
        for name, handler in self._before.items():
            signal.signal(name, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again, self.asked = self.asked, self.asked or _stopped_by(number)
        if again or not self.patient:
            raise self.asked
        # Past sys.stderr, which the step may be in the middle of writing to.
        with contextlib.suppress(OSError):
            os.write(2, self._said)


@contextlib.contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM and SIGUSR1 end what is done inside the way Ctrl-C does: with its record closed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise _stopped_by(number)

    before = {name: signal.signal(name, end) for name in TAKEN_AWAY}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
