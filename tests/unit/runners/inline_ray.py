"""Ray's calls without Ray: actors live in this process, and what is sent is pickled there and back."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch


class RayTaskError(Exception):
    """An actor raised something."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class RayActorError(Exception):
    """An actor is dead."""


class ObjectLostError(Exception):
    """What an actor had made is gone with its machine."""


class InlineRay:
    """Stands in for the module; requests are carried out when somebody asks for what came of them.

    Args:
        dies: is told the name of a method before an actor carries it out, and says whether it dies of it.
    """

    exceptions = SimpleNamespace(
        RayTaskError=RayTaskError, RayActorError=RayActorError, ObjectLostError=ObjectLostError
    )

    def __init__(self, dies: Callable[[str], bool] = lambda method: False) -> None:
        self.dies = dies
        self.puts = self.most_in_flight = 0

    def is_initialized(self) -> bool:
        return True

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 4.0}

    def remote(self, **options: Any) -> Callable[[type], Any]:
        return lambda cls: SimpleNamespace(remote=lambda: _Handle(self, cls()))

    def put(self, value: Any) -> Any:
        self.puts += 1
        return _Ref(lambda: value, [])

    def get(self, ref: Any) -> Any:
        return ref.value()

    def wait(self, refs: list[Any], num_returns: int, timeout: float | None = None) -> Any:
        return refs[:num_returns], refs[num_returns:]

    def kill(self, handle: Any) -> None:
        handle.alive = False


class _Ref:
    def __init__(self, make: Callable[[], Any], queue: list[Any]) -> None:
        self._make, self._queue = make, queue
        self._done: Any = None

    def carry_out(self) -> None:
        if self._done is None:
            try:
                with torch.random.fork_rng(
                    devices=[]
                ):  # another process has a generator of its own
                    self._done = True, pickle.dumps(self._make())
            except (RayActorError, ObjectLostError) as error:
                self._done = False, error
            except Exception as error:
                self._done = False, RayTaskError(error)

    def value(self) -> Any:
        while self._done is None and self._queue:
            self._queue.pop(0).carry_out()
        self.carry_out()
        good, found = self._done
        if not good:
            raise found
        return pickle.loads(found)


class _Handle:
    """An actor: its requests are carried out in the order in which they were made."""

    def __init__(self, ray: InlineRay, actor: Any) -> None:
        self._ray, self._actor = ray, actor
        self._queue: list[_Ref] = []
        self.alive = True

    def __getattr__(self, method: str) -> Any:
        def call(*args: Any) -> _Ref:
            sent = [arg.value() if isinstance(arg, _Ref) else arg for arg in args]

            def carried_out() -> Any:
                if not self.alive or self._ray.dies(method):
                    self.alive = False
                    raise RayActorError("The actor is dead.")
                return getattr(self._actor, method)(*pickle.loads(pickle.dumps(sent)))

            self._queue.append(_Ref(carried_out, self._queue))
            self._ray.most_in_flight = max(self._ray.most_in_flight, len(self._queue))
            return self._queue[-1]

        return SimpleNamespace(remote=call)
