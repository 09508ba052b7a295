"""Where the copies of a lifted environment run: in this process, or each in one of its own."""

from __future__ import annotations

import logging
import traceback
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from ..errors import EnvError, PhalanxError, own_words
from .gate import close_quietly
from .protocol import EnvSpec
from .single import Seen, SingleEnv
from .worker import Failure, Hello, Worker, close_all, collect, pickled

log = logging.getLogger("phalanx.envs")

T = TypeVar("T")


class Copies(Protocol):
    """B copies of a task, addressed by index."""

    spec: EnvSpec
    facts: dict[str, Any]

    def reset(self, seeds: Mapping[int, int]) -> dict[int, Seen | Failure]:
        """Start an episode with the given seed in each of these copies."""
        ...

    def step(self, actions: Mapping[int, list[Any]]) -> dict[int, Seen | Failure]:
        """Step each of these copies."""
        ...

    def close(self) -> None:
        """Free all copies; safe to call twice."""
        ...


class LocalCopies:
    """Copies in this process: no overhead, and no protection from a game that crashes or hangs."""

    def __init__(self, make: Callable[[], SingleEnv], num_envs: int) -> None:
        self.envs = [make() for _ in range(num_envs)]
        self.spec, self.facts = self.envs[0].spec, self.envs[0].describe()

    def reset(self, seeds: Mapping[int, int]) -> dict[int, Seen | Failure]:
        """Start an episode with the given seed in each of these copies."""
        return {c: _ask(self.envs[c].reset, seed) for c, seed in seeds.items()}

    def step(self, actions: Mapping[int, list[Any]]) -> dict[int, Seen | Failure]:
        """Step each of these copies."""
        return {c: _ask(self.envs[c].step, taken) for c, taken in actions.items()}

    def close(self) -> None:
        """Close every copy, also when one of them fails to."""
        while self.envs:
            env = self.envs.pop()
            close_quietly(env, type(env).__name__)


class ProcessCopies:
    """Copies in processes of their own; one that crashed or hung starts again at its next reset.

    Args:
        make: picklable callable that builds one copy.
        num_envs: B.
        start_timeout: seconds to build a copy, and for its first reset (when games are launched).
        step_timeout: seconds for any other command.
        starts_at_once: processes that may be launching at the same time.
    """

    def __init__(
        self,
        make: Callable[[], SingleEnv],
        num_envs: int,
        start_timeout: float,
        step_timeout: float,
        starts_at_once: int,
    ) -> None:
        self._start_timeout, self._step_timeout = start_timeout, step_timeout
        self._starts_at_once = starts_at_once
        self._workers = [Worker(copy, pickled(make)) for copy in range(num_envs)]
        self._fresh = set(range(num_envs))
        # Runs when this object is forgotten and when the interpreter exits, whichever comes first.
        self._finalizer = weakref.finalize(self, close_all, self._workers)
        first = self._launch([0])[0]
        if isinstance(first, Failure):
            self.close()
            raise EnvError(f"the environment could not be built in its process: {first.reason}")
        self.spec, self.facts = first.spec, first.facts

    def _launch(self, copies: list[int]) -> dict[int, Hello | Failure]:
        for copy in copies:
            self._workers[copy].start()
            self._fresh.add(copy)
        answers = collect({c: self._workers[c] for c in copies}, self._start_timeout)
        return {c: _expect_hello(a) for c, a in answers.items()}

    def reset(self, seeds: Mapping[int, int]) -> dict[int, Seen | Failure]:
        """Start an episode with the given seed in each of these copies."""
        answers: dict[int, Seen | Failure] = {}
        warm = [c for c in seeds if self._running(c) and c not in self._fresh]
        answers |= self._exchange("reset", {c: seeds[c] for c in warm}, self._step_timeout)
        cold = [c for c in seeds if c not in answers]
        # In small groups: games that all launch at once starve each other into their time-outs.
        for at in range(0, len(cold), self._starts_at_once):
            group = cold[at : at + self._starts_at_once]
            hellos = self._launch([c for c in group if not self._running(c)])
            answers |= {c: h for c, h in hellos.items() if isinstance(h, Failure)}
            ready = {c: seeds[c] for c in group if c not in answers}
            answers |= self._exchange("reset", ready, self._start_timeout)
        self._fresh -= set(seeds)
        return {c: answers[c] for c in seeds}

    def step(self, actions: Mapping[int, list[Any]]) -> dict[int, Seen | Failure]:
        """Step each of these copies, all at the same time."""
        return self._exchange("step", actions, self._step_timeout)

    def _running(self, copy: int) -> bool:
        return self._workers[copy].process is not None

    def _exchange(
        self, command: str, arguments: Mapping[int, Any], seconds: float
    ) -> dict[int, Seen | Failure]:
        for copy, argument in arguments.items():
            self._workers[copy].send(command, argument)
        answers = collect({c: self._workers[c] for c in arguments}, seconds)
        return {c: _expect_seen(a) for c, a in answers.items()}

    def close(self) -> None:
        """End every process."""
        self._finalizer()


def _ask(method: Callable[[T], Seen], argument: T) -> Seen | Failure:
    try:
        return method(argument)
    except PhalanxError:
        raise
    except (Exception, SystemExit) as error:
        log.debug("%s", traceback.format_exc())
        return Failure(own_words(error))


def _expect_hello(answer: Seen | Hello | Failure) -> Hello | Failure:
    assert not isinstance(answer, Seen)
    return answer


def _expect_seen(answer: Seen | Hello | Failure) -> Seen | Failure:
    assert not isinstance(answer, Hello)
    return answer
