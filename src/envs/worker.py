"""One copy of a task in a process of its own: started, timed, killed and never left behind."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from ..errors import EnvError, PhalanxError, own_words
from ..plugins import load_plugin_files, loaded_plugin_files
from .gate import close_quietly
from .protocol import EnvSpec
from .single import Seen, SingleEnv

GRACE_SECONDS = 3.0
"""How long a process may take to close its game before it is killed."""


class Failure(NamedTuple):
    """Why a copy has no answer; its process is gone."""

    reason: str


class Hello(NamedTuple):
    """What a process says once its environment exists."""

    spec: EnvSpec
    facts: dict[str, Any]


Answer = Seen | Hello | Failure


class Worker:
    """The parent's handle on the process of one copy.

    Args:
        copy: index of the copy, for messages.
        make: pickled callable that builds the environment.
    """

    def __init__(self, copy: int, make: bytes) -> None:
        self.copy, self._make = copy, make
        self.process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None

    def start(self) -> None:
        """Launch the process; its first answer is a :class:`Hello`."""
        # spawn: forking a process that runs torch or CUDA threads deadlocks.
        context = multiprocessing.get_context("spawn")
        self._pipe, far = context.Pipe()
        self.process = context.Process(
            target=_serve,
            args=(far, self._make, loaded_plugin_files()),
            name=f"env-{self.copy}",
            daemon=True,
        )
        self.process.start()
        # Only they may hold the far end: their death is then read as the end of the pipe.
        far.close()

    def send(self, command: str, argument: Any = None) -> None:
        """Ask for something; a dead process is noticed by :meth:`receive`."""
        assert self._pipe is not None
        with contextlib.suppress(OSError):
            self._pipe.send((command, argument))

    def waitables(self) -> list[Any]:
        """Handles that become ready when there is an answer or the process has died."""
        assert self._pipe is not None
        assert self.process is not None
        return [self._pipe, self.process.sentinel]

    def receive(self) -> Answer:
        """The answer that is waiting.

        Raises:
            EnvError: the environment refused with a message meant for the user.
        """
        assert self._pipe is not None
        try:
            kind, content = self._pipe.recv()
        except (EOFError, OSError):
            return self.fail(f"its process died ({self._exit_words()})")
        except Exception:
            return self.fail(f"its answer could not be read:\n{traceback.format_exc()}")
        if kind == "refused":
            self.kill()
            raise EnvError(content)
        if kind == "failed":
            return self.fail(content)
        answer: Answer = content
        return answer

    def fail(self, reason: str) -> Failure:
        """Give the process up."""
        self.kill()
        return Failure(reason)

    def _exit_words(self) -> str:
        assert self.process is not None
        self.process.join(GRACE_SECONDS)
        code = self.process.exitcode
        if code is None:
            return "it closed its pipe"
        return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

    def kill(self) -> None:
        """End the process and whatever games it started; safe at any time."""
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        process, self.process = self.process, None
        if process is None or process.pid is None:
            return
        # The process leads a group of its own, and the group outlives a leader that crashed.
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if process.pid != os.getpgrp():
                    os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join(GRACE_SECONDS)


def close_all(workers: list[Worker]) -> None:
    """Let every process close its game, then kill those that did not."""
    alive = [w for w in workers if w.process is not None]
    for worker in alive:
        worker.send("close")
    deadline = time.monotonic() + GRACE_SECONDS
    for worker in alive:
        if worker.process is not None:
            worker.process.join(max(0.0, deadline - time.monotonic()))
        worker.kill()


def collect(workers: Mapping[int, Worker], seconds: float) -> dict[int, Answer]:
    """One answer of each worker, in the order of ``workers``; who is late is killed.

    Args:
        seconds: from now, for all together.
    """
    answers: dict[int, Answer] = {}
    deadline = time.monotonic() + seconds
    missing = dict(workers)
    while missing:
        owners = {handle: copy for copy, w in missing.items() for handle in w.waitables()}
        ready = wait(list(owners), max(0.0, deadline - time.monotonic()))
        if not ready:
            for copy, worker in missing.items():
                answers[copy] = worker.fail(f"it gave no answer within {seconds:g} s")
            break
        for copy in {owners[handle] for handle in ready}:
            answers[copy] = missing.pop(copy).receive()
    return {copy: answers[copy] for copy in workers}


def pickled(make: Callable[[], SingleEnv]) -> bytes:
    """``make`` as bytes, which a process unpickles after it has loaded the plugins.

    Raises:
        EnvError: it cannot be pickled.
    """
    try:
        return pickle.dumps(make)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise EnvError(
            f"{make!r} cannot be sent to a worker process ({error}). Build environments with a "
            "module-level class or function (functools.partial is fine), or use processes=False."
        ) from error


def _serve(pipe: Connection, make: bytes, plugin_files: list[str]) -> None:
    """Body of the process: build, answer commands, close."""
    if hasattr(os, "setpgid"):
        # A group of its own: Ctrl-C reaches the parent only, and one kill takes games along.
        os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _exit_cleanly)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    env: SingleEnv | None = None
    try:
        load_plugin_files(plugin_files)
        env = pickle.loads(make)()
        pipe.send(("ok", Hello(env.spec, env.describe())))
        while True:
            command, argument = pipe.recv()
            if command == "close":
                break
            pipe.send(("ok", env.reset(argument) if command == "reset" else env.step(argument)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    except PhalanxError as error:
        _say(pipe, "refused", str(error))
    except Exception as error:
        _say(pipe, "failed", own_words(error))
    finally:
        if env is not None:
            close_quietly(env, type(env).__name__)


def _say(pipe: Connection, kind: str, text: str) -> None:
    with contextlib.suppress(OSError):
        pipe.send((kind, text))


def _exit_cleanly(_signal: int, _frame: Any) -> None:
    raise SystemExit(0)


def _die_with_parent() -> None:
    """End this process and its games when the parent is gone, even in the middle of a hung step."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    time.sleep(GRACE_SECONDS)
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
