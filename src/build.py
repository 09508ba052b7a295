"""From a composed config to living parts."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from .checkpoint import restoring
from .config import Composed
from .config.phases import handed_on
from .data.buffer import Buffer
from .data.dataset.recorder import RecordedBuffer, Recorder
from .envs.gate import gated
from .envs.protocol import Env, EnvSpec
from .errors import ConfigError
from .modules.behaviours.base import Behaviour
from .recording import recorder_of
from .registry import ENVS, RUNNERS, Assembler, reachable_kinds
from .runners.base import Runner
from .seeding import named_seed


@dataclass(frozen=True)
class Parts:
    """The parts of one run, or of one of its phases.

    The learner holds what it asked for (policy, mixer, world model ...); ``built`` has all of them by kind.
    """

    env: Env
    spec: EnvSpec
    policy: Any
    behaviour: Behaviour
    learner: Any
    buffer: Buffer
    runner: Runner
    device: torch.device
    recorder: Recorder | None = None
    built: Mapping[str, Any] = field(default_factory=dict)


def choose_device(wanted: str) -> torch.device:
    """``auto`` is CUDA where there is any.

    Raises:
        ConfigError: CUDA is wanted and there is none.
    """
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise ConfigError(
            "device=cuda, but torch sees no CUDA device here. Use device=auto or device=cpu, "
            "or install a torch build with CUDA."
        )
    return torch.device("cuda" if wanted != "cpu" and available else "cpu")


def seed_of(composed: Composed) -> int:
    """What the random streams of a run, or of the phase it is in, follow from."""
    run = composed.run
    if not composed.phases or run.phase == composed.phases[0].run.phase:
        return run.seed
    return named_seed(run.seed, f"phase {run.phase}")


def make_env(composed: Composed, copies: int, purpose: str) -> Env:
    """A batch of ``copies`` of the chosen environment.

    Its seed comes from the run's, or from ``env_args.seed`` where the environment has that key and it is
    set, and from ``purpose`` (``env``, ``test_env``): tests never replay the battles of training.
    """
    part: Any
    part, config = ENVS.get(composed.chosen["env"]), composed.parts["env"]
    own = getattr(config, "seed", None)
    seed = named_seed(seed_of(composed) if own is None else own, purpose)
    make = functools.partial(part, config, num_envs=copies, seed=seed)
    return gated(make, composed.chosen["env"])


def num_envs(composed: Composed) -> int:
    """Environments stepped together."""
    return int(getattr(composed.parts["runner"], "batch_size_run", 1))


def build_player(
    composed: Composed, spec: EnvSpec, device: torch.device, state: Mapping[str, Any]
) -> Behaviour:
    """What plays, with its policy, as a checkpoint's ``state`` has it: all that acting and testing need.

    Args:
        composed: the config that was stored with it.

    Raises:
        CheckpointError: it does not fit the config or the environment.
    """
    behaviour = _untrained(composed, spec, device)
    with restoring():
        policy: Any = behaviour.policy
        policy.load_state_dict(state["policy"])
        behaviour.load_state_dict(state.get("behaviour", {}))
    return behaviour


def _untrained(composed: Composed, spec: EnvSpec, device: torch.device) -> Behaviour:
    """What plays, and no more of a run's parts than that takes."""
    torch.set_num_threads(composed.run.torch_threads)
    assembler = Assembler(
        composed.chosen, composed.parts, spec=spec, seed=seed_of(composed), device=device
    )
    behaviour: Behaviour = assembler.build("behaviour")
    behaviour.to(device)
    return behaviour


@dataclass(frozen=True)
class Elsewhere:
    """Makes what a run plays with in other processes, to which it is sent."""

    composed: Composed

    def env(self, copies: int, purpose: str) -> Env:
        """Copies of the run's environment, see :func:`make_env`."""
        return make_env(self.composed, copies, purpose)

    def behaviour(self, spec: EnvSpec) -> Behaviour:
        """What plays, on the CPU, before it has learnt anything."""
        behaviour = _untrained(self.composed, spec, torch.device("cpu"))
        _prepare(behaviour)
        return behaviour


def _prepare(behaviour: Behaviour) -> None:
    """Compile what acting needs, where a policy has such, before anybody counts the time."""
    if hasattr(behaviour.policy, "prepare"):
        behaviour.policy.prepare()


def build(composed: Composed, before: tuple[Composed, Parts] | None = None) -> Parts:
    """Build the environments and all parts around them, the same way for the same seed.

    Whatever is wrong with the map, the memory or an optional dependency shows here.

    Args:
        composed: the run, in one of its phases if it has some.
        before: the phase before and its parts, of which some go on in this one.

    Raises:
        ConfigError: what goes on cannot be gone on with.
    """
    torch.set_num_threads(composed.run.torch_threads)
    runner = RUNNERS.get(composed.chosen["runner"])
    env = make_env(composed, num_envs(composed) if runner.plays and runner.here else 1, "env")
    seed = seed_of(composed)
    torch.manual_seed(named_seed(seed, "init"))
    device = choose_device(composed.run.device)
    # What the world model asks for decides which optional fields are kept, so it is built first.
    assembler = Assembler(
        composed.chosen,
        composed.parts,
        env=env,
        spec=env.spec,
        seed=seed,
        device=device,
        optional_fields=frozenset(),
        elsewhere=Elsewhere(composed),
    )
    if before is not None:
        going_on = handed_on(before[0], composed)
        assembler.give(**{k: v for k, v in before[1].built.items() if k in going_on})
    learner = assembler.build("learner")
    if before is not None:
        learner.go_on_from(before[1].learner)
    if "world_model" in composed.chosen:
        world_model = assembler.build("world_model")
        assembler.give(optional_fields=getattr(world_model, "optional_fields", frozenset()))
    seeing = [assembler.build(kind) for kind in ("agent", "critic") if kind in composed.chosen]
    assembler.give(frames=max((getattr(part, "frames", 1) for part in seeing), default=1))
    behaviour = assembler.build("behaviour")
    behaviour.to(device)
    _prepare(behaviour)
    assembler.give(optional_fields=assembler.build("optional_fields") | behaviour.optional_fields)
    buffer = assembler.build("buffer")
    _refuse_states_that_nobody_has(composed, assembler)
    recorder = recorder_of(composed, env, assembler.build("optional_fields"))
    if recorder is not None:
        assembler.give(buffer=RecordedBuffer(buffer, recorder))
    return Parts(
        env=env,
        spec=env.spec,
        policy=behaviour.policy,
        behaviour=behaviour,
        learner=learner,
        buffer=buffer,
        runner=assembler.build("runner"),
        device=device,
        recorder=recorder,
        built=assembler.parts(composed.chosen),
    )


def _refuse_states_that_nobody_has(composed: Composed, assembler: Assembler) -> None:
    """Stop before a part learns from states that the buffer's batches do not have."""
    if getattr(assembler.build("buffer"), "gives_state", True):
        return
    chosen = composed.chosen
    for kind in reachable_kinds(chosen):
        if kind != "runner" and getattr(assembler.build(kind), "reads_state", False):
            raise ConfigError(
                f"buffer={chosen['buffer']} gives observations, not the states that {kind}={chosen[kind]} "
                "reads: choose one that reads none (critic=attention, critic=normed with see_state=False; "
                "mixer=vdn or none), an environment whose state is all observations (sc2 with "
                "obs_instead_of_state=True), or another buffer."
            )
