"""Ctrl-C and SIGTERM: at once while nothing is done yet, after the step in progress later."""

from __future__ import annotations

import os
import signal

import pytest

from phalanx.interrupt import Interrupt, terminated_like_interrupted

BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


@BOTH
def test_before_the_first_step_is_done_a_stop_is_immediate(number: signal.Signals) -> None:
    """There, kernels may compile for minutes, and nothing would be saved."""
    with Interrupt(saves=True), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)


@BOTH
def test_later_it_is_said_at_once_and_the_step_finished(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    with Interrupt(saves=True) as interrupt:
        interrupt.patient = True
        os.kill(os.getpid(), number)
        assert interrupt.asked
        assert "stopping after the step in progress, with a checkpoint" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


def test_sigterm_closes_what_it_ends() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), terminated_like_interrupted():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before
