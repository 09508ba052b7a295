"""Environments and acting in processes of a Ray cluster, learning in this one."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import pickle
import signal
import threading
import time
from dataclasses import dataclass, field, replace
from operator import itemgetter
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from ..build import Elsewhere
from ..data.buffer import Buffer
from ..envs.protocol import Env, Numbered
from ..errors import CheckpointError, ConfigError, EnvError, PhalanxError
from ..modules.behaviours.base import Behaviour
from ..plugins import loaded_plugin_files
from ..registry import RUNNERS, require
from .actor import Answer, Task, weights_of
from .base import Runner
from .rollout import EpisodeStats
from .vector import VectorRunner, segment

log = logging.getLogger("phalanx.runners")

_MAIN = str(Path(__file__).resolve().parents[1] / "main.py")
_GRACE_SECONDS = 3.0


@dataclass
class Member:
    """An actor as the learner knows it.

    Attributes:
        task: what it does.
        handle: Ray's, of the present process.
        asked: requests that it has not answered, in order.
        version: of the weights that it was sent last; 0: none.
        failures: lives in a row that ended without an answer.
    """

    task: Task
    handle: Any = None
    asked: list[Any] = field(default_factory=list)
    version: int = 0
    failures: int = 0


@RUNNERS.register("ray")
class RayRunner(Runner):
    """The vector runner's environments shared out to actors on a Ray cluster; this process learns.

    Collected by ``index``, all actors step together and n of them make the very run that ``runner=vector``
    makes. Collected by ``arrival``, whoever is done first is learnt from first, and all play on meanwhile,
    with weights that are a few updates old; what comes when is then up to the machines.

    An actor that dies takes its open episodes along; another one begins new ones in its place.
    """

    class Config(VectorRunner.Config):
        actors: int = Field(2, ge=1, description="processes that share the environments")
        collect: Literal["index", "arrival"] = Field(
            "index",
            description="index: all step together, as in one process; arrival: the first to be done",
        )
        steps_per_request: int = Field(
            8, ge=1, description="steps of every copy per request, when collected by arrival"
        )
        requests_in_flight: int = Field(
            2, ge=1, le=64, description="of one actor at most, when collected by arrival"
        )
        max_deaths: int = Field(
            5, ge=1, description="deaths in a row of one actor after which the run gives up"
        )
        address: str = Field(
            "local",
            description="of the cluster, or auto; local: one on this machine, for this run",
        )
        cpus_per_actor: float = Field(1.0, gt=0, description="cores an actor asks Ray for")
        object_store_mb: int = Field(
            256, ge=80, description="shared memory of a local cluster, for weights and episodes"
        )

    plays: ClassVar[bool] = True
    here: ClassVar[bool] = False

    def __init__(
        self,
        config: Config,
        *,
        env: Env,
        behaviour: Behaviour,
        buffer: Buffer,
        seed: int,
        optional_fields: frozenset[str],
        elsewhere: Elsewhere,
        frames: int = 1,
    ) -> None:
        super().__init__()
        self._ray = require("ray", "ray", "runner ray")
        self._config, self._buffer, self._behaviour = config, buffer, behaviour
        self._steps = segment(config, buffer)
        if not self._steps:
            self._steps = 1 if config.collect == "index" else config.steps_per_request
        _refuse(config, env, behaviour, buffer)
        bounds = np.linspace(0, config.batch_size_run, config.actors + 1).astype(int).tolist()
        whole = Task(
            elsewhere=elsewhere,
            batch=config.batch_size_run,
            copies=config.batch_size_run,
            exact=config.collect == "index",
            seed=seed,
            episode_length=config.episode_length,
            takes_pieces=buffer.takes_pieces,
            optional_fields=optional_fields,
            frames=frames,
        )
        self._members = [
            Member(replace(whole, index=index, first=first, copies=end - first))
            for index, (first, end) in enumerate(itertools.pairwise(bounds))
        ]
        self._turns = list(self._members)
        self.seconds = {"actors": 0.0}
        self._stats = EpisodeStats()
        self._counts = {"env_restarts": 0, "actor_restarts": 0, "episodes_dropped": 0}
        # Steps of what was handed on for a checkpoint; the next collect() counts them.
        self._uncounted = 0
        self._version = 0
        self._sent: list[Any] = []
        self._sent_ref: Any = None
        self._states: list[dict[str, Any] | None] = [None] * config.actors
        self._running = self._owns_cluster = False

    # --- collecting ---

    def collect(self, t_env: int) -> int:
        """A step, or a segment, of all actors; or what one of them has done."""
        began = time.perf_counter()
        self._start()
        steps, self._uncounted = self._uncounted, 0
        if not steps:
            self._send_weights_if_new()
            self._behaviour.acted(t_env)
            by_index = self._config.collect == "index"
            steps = self._all_together(t_env) if by_index else self._first_to_be_done(t_env)
        self.seconds["actors"] += time.perf_counter() - began
        return steps

    def _all_together(self, t_env: int) -> int:
        for member in self._members:
            self._ask(member, t_env)
        answers = [self._next_answer(member) for member in self._members]
        return self._file([answer for answer in answers if answer is not None])

    def _first_to_be_done(self, t_env: int) -> int:
        for member in self._members:
            while len(member.asked) < self._config.requests_in_flight:
                self._ask(member, t_env)
        owners = {member.asked[0]: member for member in self._turns}
        (done,), _ = self._ray.wait(list(owners), num_returns=1)
        member = owners[done]
        # It goes to the end of the line, so that nobody waits for ever behind a faster one.
        self._turns.sort(key=lambda each: each is member)
        answer = self._next_answer(member)
        return 0 if answer is None else self._file([answer])

    def _send_weights_if_new(self) -> None:
        """Put what plays into the object store, once for all actors, unless it is there already."""
        now = weights_of(self._behaviour)
        if len(now) != len(self._sent) or not all(map(np.array_equal, now, self._sent)):
            self._version += 1
            self._sent_ref = self._ray.put(now)
            self._sent = self._ray.get(self._sent_ref)  # the store's own memory

    def _ask(self, member: Member, t_env: int) -> None:
        weights = None if member.version == self._version else self._sent_ref
        member.version = self._version
        member.asked.append(member.handle.play.remote(weights, t_env, self._steps))

    def _file(self, answers: list[Answer]) -> int:
        """Hand on what actors, in this order, have done: step by step, as one process would have."""
        first = itemgetter(0)
        for _, store in sorted((e for a in answers for e in a.episodes), key=first):
            self._buffer.insert(store, np.arange(store.capacity))
        for _, ended in sorted((e for a in answers for e in a.ended), key=first):
            self._stats.add(*ended)
        self._counts["env_restarts"] += sum(answer.broken for answer in answers)
        return sum(answer.steps for answer in answers)

    # --- actors, and their deaths ---

    def _start(self) -> None:
        """Start the cluster where there is none yet, and all actors at once."""
        if self._running:
            return
        self._running = True
        if not self._ray.is_initialized():
            self._owns_cluster = True
            _start_cluster(self._ray, self._config)
        _refuse_too_few_cores(self._ray, self._config)
        begun = [self._begin(*each) for each in zip(self._members, self._states, strict=True)]
        for member, ref in zip(self._members, begun, strict=True):
            self._got(member, ref)

    def _begin(self, member: Member, state: dict[str, Any] | None) -> Any:
        actor = self._ray.remote(num_cpus=self._config.cpus_per_actor)(_sent_class())
        member.handle, member.version, member.asked = actor.remote(), 0, []
        task = pickle.dumps(member.task)
        return member.handle.begin.remote(_MAIN, loaded_plugin_files(), task, state)

    def _next_answer(self, member: Member) -> Answer | None:
        answer: Answer | None = self._got(member, member.asked.pop(0))
        if answer is not None:
            member.failures = 0
        return answer

    def _got(self, member: Member, ref: Any) -> Any:
        """What came of a request; None where its actor has died and another one is in its place.

        Raises:
            PhalanxError: what the actor raised; or it died too often.
        """
        lost = self._ray.exceptions.RayActorError, self._ray.exceptions.ObjectLostError
        try:
            return self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, PhalanxError):
                raise error.cause from None
            raise
        except lost as error:
            self._replace(member, str(error).strip().splitlines()[0])
            return None

    def _replace(self, member: Member, why: str) -> None:
        task = member.task
        member.failures += 1
        who = f"actor {task.index} (environments {task.first} to {task.first + task.copies - 1})"
        if member.failures >= self._config.max_deaths:
            raise EnvError(
                f"{who} has died {member.failures} times in a row (max_deaths): {why} Look for what ends "
                "its process (memory, a game that crashes); processes=True keeps games apart from actors."
            )
        log.warning(
            "%s has died: %s Its open episodes are dropped and it is started again.", who, why
        )
        self._counts["actor_restarts"] += 1
        self._counts["episodes_dropped"] += task.copies
        with contextlib.suppress(Exception):  # it is gone, or this makes it so
            self._ray.kill(member.handle)
        member.task = replace(task, lives=task.lives + 1)
        self._got(member, self._begin(member, None))

    def close(self) -> None:
        """End all actors, and the cluster if it was started for them."""
        if not self._running:
            return
        self._running = False
        with contextlib.suppress(Exception):  # there is nobody left who needs them
            handles = [member.handle for member in self._members if member.handle is not None]
            closing = [handle.close.remote() for handle in handles]
            self._ray.wait(closing, num_returns=len(closing), timeout=_GRACE_SECONDS)
            for handle in handles:
                self._ray.kill(handle)
        if self._owns_cluster:
            self._owns_cluster = False
            self._ray.shutdown()

    # --- numbers and checkpoints ---

    def metrics(self) -> dict[str, float]:
        """Means over the episodes that ended since the last call, and what was lost in all."""
        means = self._stats.means()
        self._stats.clear()
        return means | {name: float(count) for name, count in self._counts.items() if count}

    def state_dict(self) -> dict[str, Any]:
        """All actors' open episodes and generators. What is under way is waited for and handed on first."""
        self._start()
        for member in self._members:
            while member.asked:
                answer = self._next_answer(member)
                self._uncounted += 0 if answer is None else self._file([answer])
        return {
            "actors": [
                {
                    "copies": member.task.copies,
                    "lives": member.task.lives,
                    "state": self._state_of(member),
                }
                for member in self._members
            ],
            "stats": self._stats.rows,
            "conditions": self._stats.conditions,
            "counts": dict(self._counts),
            "uncounted": self._uncounted,
        }

    def _state_of(self, member: Member) -> dict[str, Any]:
        state: dict[str, Any] | None = None
        while state is None:
            state = self._got(member, member.handle.state_dict.remote())
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state_dict`; actors begin with it.

        Raises:
            CheckpointError: it is of other actors.
        """
        shares = [saved["copies"] for saved in state["actors"]]
        if shares != [member.task.copies for member in self._members]:
            raise CheckpointError(
                f"the checkpoint is of actors with {shares} environments, and this run has "
                f"actors={len(self._members)} and batch_size_run={self._config.batch_size_run}. Go on with "
                f"actors={len(shares)} and batch_size_run={sum(shares)}."
            )
        self.close()
        for member, saved in zip(self._members, state["actors"], strict=True):
            member.task = replace(member.task, lives=saved["lives"])
        self._states = [saved["state"] for saved in state["actors"]]
        self._stats.rows, self._stats.conditions = list(state["stats"]), list(state["conditions"])
        self._counts, self._uncounted = dict(state["counts"]), state["uncounted"]


def _sent_class() -> type[Any]:
    """What Ray makes an actor of: sent by value, so that this package need not be installed over there."""

    class PhalanxActor:
        def begin(
            self, main: str, plugin_files: list[str], task: bytes, state: dict[str, Any] | None
        ) -> None:
            import importlib
            import pickle
            import runpy
            import sys

            if "phalanx" not in sys.modules:
                runpy.run_path(main, run_name="__mp_main__")
            importlib.import_module("phalanx.plugins").load_plugin_files(plugin_files)
            actor = importlib.import_module("phalanx.runners.actor")
            self.actor = actor.Actor(pickle.loads(task), state)

        def play(self, weights: list[Any] | None, t_env: int, steps: int) -> Any:
            return self.actor.play(weights, t_env, steps)

        def state_dict(self) -> Any:
            return self.actor.state_dict()

        def close(self) -> None:
            self.actor.close()

    return PhalanxActor


def _refuse(config: RayRunner.Config, env: Env, behaviour: Behaviour, buffer: Buffer) -> None:
    """Stop before anything starts that could not be what was asked for.

    Raises:
        ConfigError: keys that do not go together, or with these parts.
        EnvError: the environment cannot be shared out.
    """
    if config.actors > config.batch_size_run:
        raise ConfigError(
            f"actors={config.actors} share batch_size_run={config.batch_size_run} environments, and each "
            "needs one: lower actors, or raise batch_size_run."
        )
    if not isinstance(env, Numbered):
        raise EnvError(
            "runner ray needs an environment whose copies can be some of a larger batch's, so that no two "
            "actors play the same episodes: give it number_from(first), see "
            "phalanx.envs.protocol.Numbered (LiftedEnv has it)."
        )
    if config.collect == "arrival" and buffer.on_policy:
        raise ConfigError(
            "collect=arrival brings episodes of older policies, and this run's buffer gives all it gets to a "
            "learner of the policy as it is: set collect=index."
        )
    if config.collect == "index" and config.actors > 1:
        generator = torch.Generator()
        before = generator.get_state()
        behaviour.init_carry(1, torch.device("cpu"), generator)
        if not torch.equal(before, generator.get_state()):
            raise ConfigError(
                "collect=index makes the run that one process would make, and here something is drawn when "
                "an episode begins (e.g. random_agent_order), which no actor knows of the others: set "
                "collect=arrival, or actors=1."
            )


def _start_cluster(ray: Any, config: RayRunner.Config) -> None:
    """Join the cluster, or start one on this machine that is as large as the actors need."""
    local: dict[str, Any] = {
        "num_cpus": math.ceil(config.actors * config.cpus_per_actor),
        "object_store_memory": config.object_store_mb * 2**20,
    }
    on_sigterm = signal.getsignal(signal.SIGTERM)
    ray.init(
        address=config.address,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.WARNING,
        **(local if config.address == "local" else {}),
    )
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray's would end the run without a checkpoint


def _refuse_too_few_cores(ray: Any, config: RayRunner.Config) -> None:
    """Actors for whom there is no room would be waited for without end."""
    wanted, there = config.actors * config.cpus_per_actor, ray.cluster_resources().get("CPU", 0)
    if there < wanted:
        raise ConfigError(
            f"actors={config.actors} of cpus_per_actor={config.cpus_per_actor:g} ask Ray for {wanted:g} "
            f"cores, and its cluster (address={config.address}) has {there:g}. Lower one of them."
        )
