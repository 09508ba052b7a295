"""Ctrl-C and a scheduler's signals: at once while nothing is done yet, after the step in progress later."""

from __future__ import annotations

import os
import signal

import pytest

from phalanx.interrupt import Interrupt, Preempted, terminated_like_interrupted

ANY = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])


@ANY
def test_before_the_first_step_is_done_a_stop_is_immediate(number: signal.Signals) -> None:
    """There, kernels may compile for minutes, and nothing would be saved."""
    with Interrupt(saves=True), pytest.raises(KeyboardInterrupt) as stopped:
        os.kill(os.getpid(), number)
    assert isinstance(stopped.value, Preempted) == (number != signal.SIGINT)


@ANY
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_what_a_scheduler_ends_is_closed(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Preempted), terminated_like_interrupted():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before
