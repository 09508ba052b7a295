"""Batches of single environments: many copies behind the batched protocol."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..errors import EnvError
from ..registry import PartConfig
from .copies import Copies, LocalCopies, ProcessCopies
from .gate import expected_fields
from .protocol import Discrete, Timestep
from .single import Seen, SingleEnv, episode_seed
from .worker import Failure

log = logging.getLogger("phalanx.envs")

_OUTPUTS = ("obs", "state", "avail_actions", "reward", "terminated", "truncated")
_OPTIONAL = ("alive", "visibility")


class LiftedConfig(PartConfig):
    """Keys of every environment that is lifted from single copies."""

    processes: bool = Field(
        False, description="one process per copy; survives games that crash or hang"
    )
    step_timeout: float = Field(60.0, gt=0, description="seconds a process may take for one step")
    start_timeout: float = Field(180.0, gt=0, description="seconds it may take to launch its game")
    starts_at_once: int = Field(4, ge=1, description="processes that launch at the same time")
    max_failures: int = Field(
        5, ge=1, description="episodes of one copy that may fail in a row before the run gives up"
    )


class LiftedEnv:
    """B copies of a :class:`SingleEnv` as one batched environment.

    An episode depends on its seed and the actions alone, and its seed on (seed, copy, episode
    number), so results are the same for every B and with or without processes.

    A copy that crashes or hangs in its process is killed. Its episode ends there: ``terminated``
    with ``info["broken"]`` set, which runners drop, and the next reset starts a new process. After
    ``max_failures`` failed episodes in a row the copy is given up with an :class:`EnvError`.

    ``state_dict`` keeps the actions of the open episodes and ``load_state_dict`` replays them, which
    is exact for every environment that a seed makes deterministic. Where the replay arrives
    elsewhere, that episode is reported as broken at the next step.

    Args:
        make: builds one copy; picklable where ``processes``.
        num_envs: B.
        seed: of the batch.
        config: time-outs and whether to use processes.
    """

    def __init__(
        self, make: Callable[[], SingleEnv], *, num_envs: int, seed: int, config: LiftedConfig
    ) -> None:
        if num_envs < 1:
            raise EnvError(f"num_envs must be at least 1, got {num_envs}")
        self._copies: Copies = (
            ProcessCopies(
                make,
                num_envs,
                config.start_timeout,
                config.step_timeout,
                config.starts_at_once,
            )
            if config.processes
            else LocalCopies(make, num_envs)
        )
        self.spec, self.num_envs = self._copies.spec, num_envs
        self._seed, self._max_failures = seed, config.max_failures
        self._first = 0
        # A crash inside this process has no process to restart.
        self._may_restart = config.processes
        self._allocate()

    def _allocate(self) -> None:
        B, N, spec = self.num_envs, self.spec.n_agents, self.spec
        self._obs = np.zeros((B, N, spec.obs_dim), np.float32)
        self._state = np.zeros((B, spec.state_dim), np.float32)
        self._avail_actions = np.zeros((B, N, spec.mask_dim), np.uint8)
        self._reward = np.zeros(B, np.float32)
        self._shapes = {
            name: expected.shape[1:]
            for name, expected in expected_fields(spec, B).items()
            if expected.shape[1:] or name == "reward"
        }
        # A copy that was never reset counts as finished.
        self._terminated = np.ones(B, bool)
        self._truncated = np.zeros(B, bool)
        self._alive = np.ones((B, N), bool) if spec.has_alive else None
        self._visibility = np.ones((B, N, N), bool) if spec.has_visibility else None
        self._info: dict[str, NDArray[Any]] = {"broken": np.zeros(B, bool)}
        self._episode = np.full(B, -1, np.int64)
        self._length = np.zeros(B, np.int64)
        kind = np.int64 if isinstance(spec.action, Discrete) else np.float32
        self._taken = np.zeros((B, spec.episode_limit, N, *spec.action_shape), kind)
        self._failures = np.zeros(B, np.int64)
        self._lost = np.zeros(B, bool)  # replay did not come back to where the episode was

    def number_from(self, first: int) -> None:
        """See :meth:`.Numbered.number_from`."""
        self._first = first

    def reset(self, mask: NDArray[np.bool_] | None = None) -> Timestep:
        """Start the next episode in the copies where ``mask`` (B,) is true, default all.

        Raises:
            EnvError: a copy has failed too often in a row.
        """
        waiting = np.flatnonzero(np.ones(self.num_envs, bool) if mask is None else mask)
        while waiting.size:
            self._episode[waiting] += 1
            answers = self._copies.reset({int(c): self._seed_of(int(c)) for c in waiting})
            for copy, answer in answers.items():
                if isinstance(answer, Failure):
                    self._count_failure(copy, "reset", answer)
                    continue
                self._length[copy], self._lost[copy] = 0, False
                self._write(copy, answer)
            waiting = np.array([c for c, a in answers.items() if isinstance(a, Failure)], np.int64)
        return self._timestep()

    def step(self, actions: NDArray[Any]) -> Timestep:
        """Advance all unfinished copies by one step with ``actions``, see :meth:`.Env.step`.

        Raises:
            EnvError: a copy has failed too often in a row, or runs beyond ``spec.episode_limit``.
        """
        expected = self._taken[:, 0].shape
        if actions.shape != expected:
            axes = "(B, N, numbers)" if self.spec.action_shape else "(B, N)"
            raise EnvError(
                f"step() expects actions of shape {axes} = {expected}, got {actions.shape}"
            )
        going = np.flatnonzero(~(self._terminated | self._truncated))
        for copy in going[self._lost[going]].tolist():
            self._break(copy)
        going = going[~self._lost[going]]
        self._record(going, actions)
        answers = self._copies.step({int(c): actions[c].tolist() for c in going})
        for copy, answer in answers.items():
            if isinstance(answer, Failure):
                self._break(copy)
                self._count_failure(copy, f"step {self._length[copy]}", answer)
                continue
            self._write(copy, answer)
            if answer.terminated or answer.truncated:
                self._failures[copy] = 0
        return self._timestep()

    def _record(self, going: NDArray[np.int64], actions: NDArray[Any]) -> None:
        over = going[self._length[going] >= self.spec.episode_limit]
        if over.size:
            raise EnvError(
                f"copy {over[0]} is still going after episode_limit = {self.spec.episode_limit} "
                "steps. Its spec must name the most steps an episode can last."
            )
        self._taken[going, self._length[going]] = actions[going]
        self._length[going] += 1

    def _seed_of(self, copy: int) -> int:
        return episode_seed(self._seed, self._first + copy, int(self._episode[copy]))

    def _write(self, copy: int, seen: Seen) -> None:
        # Into rows of an array numpy would spread whatever is too small, without a word.
        for name, shape in self._shapes.items():
            given = np.shape(getattr(seen, name))
            if given != shape:
                raise EnvError(
                    f"environment {self._first + copy} (episode {self._episode[copy]}, "
                    f"step {self._length[copy]}): "
                    f"{name} has shape {given}, but its spec says {shape}."
                )
        self._obs[copy] = seen.obs
        self._state[copy] = seen.state
        self._avail_actions[copy] = seen.avail_actions
        self._reward[copy] = seen.reward
        self._terminated[copy] = seen.terminated
        self._truncated[copy] = seen.truncated
        if self._alive is not None and seen.alive is not None:
            self._alive[copy] = seen.alive
        if self._visibility is not None and seen.visibility is not None:
            self._visibility[copy] = seen.visibility
        for key in seen.info.keys() - self._info.keys():
            self._info[key] = np.zeros(self.num_envs, np.float32)
        # A number counts from when it is told to the end of its episode.
        started = not self._length[copy]
        for key, column in self._info.items():
            if started or key in seen.info:
                column[copy] = seen.info.get(key, 0)

    def _break(self, copy: int) -> None:
        """End the episode where it is; its last observation stays."""
        self._reward[copy] = 0
        self._terminated[copy], self._truncated[copy] = True, False
        self._info["broken"][copy] = True

    def _count_failure(self, copy: int, when: str, failure: Failure) -> None:
        self._failures[copy] += 1
        what = (
            f"environment {self._first + copy} (episode {self._episode[copy]}, seed {self._seed_of(copy)}) "
            f"failed at {when}: {failure.reason.strip()}"
        )
        if not self._may_restart:
            raise EnvError(f"{what}. With processes=True a failing copy is restarted instead.")
        if self._failures[copy] >= self._max_failures:
            raise EnvError(
                f"{what}. That was failure {self._failures[copy]} in a row of this copy "
                f"(max_failures={self._max_failures}), so the run stops. If it is slow rather than "
                "broken, raise step_timeout or start_timeout."
            )
        log.warning("%s. The episode is dropped and the copy restarted.", what)

    def _timestep(self) -> Timestep:
        return Timestep(
            obs=self._obs,
            state=self._state,
            avail_actions=self._avail_actions,
            reward=self._reward,
            terminated=self._terminated,
            truncated=self._truncated,
            alive=self._alive,
            visibility=self._visibility,
            info=self._info,
        )

    def describe(self) -> dict[str, Any]:
        """Facts about the environment, as its first copy tells them."""
        return dict(self._copies.facts)

    def state_dict(self) -> dict[str, Any]:
        """What was last seen, and how each open episode came about."""
        longest = int(self._length.max())
        return {
            "seed": self._seed,
            "first": self._first,
            "episode": self._episode.copy(),
            "length": self._length.copy(),
            "taken": self._taken[:, :longest].copy(),
            "failures": self._failures.copy(),
            "lost": self._lost.copy(),
            "seen": {name: array.copy() for name, array in self._outputs()},
            "info": {name: array.copy() for name, array in self._info.items()},
        }

    def _outputs(self) -> Iterable[tuple[str, NDArray[Any]]]:
        for name in (*_OUTPUTS, *_OPTIONAL):
            array = getattr(self, f"_{name}")
            if array is not None:
                yield name, array

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state_dict`: replay the open episodes."""
        self._seed, self._first = state["seed"], state.get("first", 0)
        for name in ("episode", "length", "failures", "lost"):
            getattr(self, f"_{name}")[:] = state[name]
        self._taken[:, : state["taken"].shape[1]] = state["taken"]
        seen = state["seen"]
        over = seen["terminated"] | seen["truncated"] | state["lost"]
        reached = self._replay(np.flatnonzero(~over))
        for name, array in self._outputs():
            array[:] = seen[name]
        self._info = {name: array.copy() for name, array in state["info"].items()}
        for copy, answer in reached.items():
            if not self._agrees(copy, answer):
                self._lost[copy] = True
                log.warning(
                    "environment %d: replaying the checkpointed episode (seed %d, %d steps) did "
                    "not lead back to the saved observation, so the episode is dropped",
                    self._first + copy,
                    self._seed_of(copy),
                    self._length[copy],
                )

    def _replay(self, copies: NDArray[np.int64]) -> Mapping[int, Seen | Failure]:
        """Where the recorded actions lead, all copies side by side."""
        reached = self._copies.reset({int(c): self._seed_of(int(c)) for c in copies})
        for t in range(int(self._length[copies].max(initial=0))):
            going = [c for c, a in reached.items() if t < self._length[c] and isinstance(a, Seen)]
            reached |= self._copies.step({c: self._taken[c, t].tolist() for c in going})
        return reached

    def _agrees(self, copy: int, answer: Seen | Failure) -> bool:
        return isinstance(answer, Seen) and all(
            np.array_equal(getattr(answer, name), getattr(self, f"_{name}")[copy])
            for name in ("obs", "state", "avail_actions")
        )

    def close(self) -> None:
        """End all copies and their processes; safe to call twice."""
        self._copies.close()
