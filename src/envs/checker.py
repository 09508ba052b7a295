"""Find the usual mistakes of a custom environment before it is trained on."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import EnvError, MissingDependencyError, PhalanxError
from .gate import blamed, expected_fields, wrong_fields
from .protocol import Box, Discrete, Env, EnvSpec, Mixed, Numbered, Timestep

Snapshot = dict[str, NDArray[Any]]

_COPIES = 3


class EnvFactory(Protocol):
    """Builds a batch, e.g. ``functools.partial(MyEnv, MyEnv.Config())``."""

    def __call__(self, *, num_envs: int, seed: int) -> Env:
        """B copies."""
        ...


def check_env(make: EnvFactory) -> None:
    """Play an environment with random available actions and check it against the protocol.

    Args:
        make: builds the environment; called several times with different ``num_envs``.

    Raises:
        EnvError: lists every mistake found, each with what to do about it.
    """
    mistakes: list[str] = []
    checks: tuple[Callable[[EnvFactory], Iterator[str]], ...] = (
        _check_spec,
        _check_play,
        _check_masked_reset,
        _check_repeatable,
        _check_numbered,
        _check_continues,
    )
    for check in checks:
        try:
            with blamed(_name(make), "failed"):
                mistakes += check(make)
        except MissingDependencyError:
            raise
        except PhalanxError as error:
            # What the environment itself refuses or raises is a mistake like any other.
            mistakes.append(str(error))
        # Later checks compare arrays, which is pointless while their shapes are wrong.
        if mistakes and check in (_check_spec, _check_play):
            break
    if mistakes:
        raise EnvError(
            f"{_name(make)} breaks the environment protocol:\n"
            + "\n".join(f"  - {m}" for m in dict.fromkeys(mistakes))
        )


def _name(make: EnvFactory) -> str:
    target = make.func if isinstance(make, functools.partial) else make
    return getattr(target, "__name__", str(target))


def _check_spec(make: EnvFactory) -> Iterator[str]:
    env = make(num_envs=_COPIES, seed=0)
    try:
        spec = env.spec
        if env.num_envs != _COPIES:
            yield f"num_envs is {env.num_envs} after num_envs={_COPIES} was asked for: keep it"
        for key in ("n_agents", "obs_dim", "state_dim", "episode_limit"):
            value = getattr(spec, key)
            if not isinstance(value, int) or value < 1:
                yield f"spec.{key} is {value!r}: make it a Python int of at least 1"
        if not isinstance(spec.action, Discrete | Box | Mixed):
            yield (
                f"spec.action is {spec.action}: make it Discrete(n), Box(low, high), or "
                "Mixed(Discrete(n), Box(low, high))"
            )
        if spec.agent_groups is not None and len(spec.agent_groups) != spec.n_agents:
            yield (
                f"spec.agent_groups has {len(spec.agent_groups)} entries for {spec.n_agents} agents: "
                "give one group per agent"
            )
        try:
            json.dumps(env.describe())
        except TypeError as error:
            yield f"describe() cannot be stored as JSON ({error}): return plain numbers and strings"
    finally:
        env.close()
        env.close()


def _check_play(make: EnvFactory) -> Iterator[str]:
    """One episode per copy without restarts, and one step beyond."""
    env = make(num_envs=_COPIES, seed=0)
    try:
        seen = env.reset()
        yield from _look(env.spec, seen, "after reset()")
        if (seen.terminated | seen.truncated).any():
            yield "an episode is over right after reset(): clear terminated and truncated there"
        if wrong_fields(expected_fields(env.spec, _COPIES), seen):
            return
        players = [np.random.default_rng([0, b]) for b in range(_COPIES)]
        for t in range(env.spec.episode_limit + 1):
            if t == env.spec.episode_limit and not (seen.terminated | seen.truncated).all():
                yield (
                    f"an episode goes on after spec.episode_limit = {t} steps: set truncated there, "
                    "or raise the limit"
                )
                return
            actions = _act(env.spec, seen, players)
            if actions is None:
                return
            before = _snapshot(seen)
            seen = env.step(actions)
            yield from _look(env.spec, seen, "after step()")
            yield from _check_frozen(before, seen)
    finally:
        env.close()


def _look(spec: EnvSpec, seen: Timestep, when: str) -> Iterator[str]:
    """Mistakes visible in one timestep."""
    yield from (
        f"{mistake} ({when})" for mistake in wrong_fields(expected_fields(spec, _COPIES), seen)
    )
    for name in ("obs", "state", "reward"):
        array = getattr(seen, name)
        if isinstance(array, np.ndarray) and not np.isfinite(array).all():
            yield f"{name} holds nan or infinity {when}: find the division or logarithm behind it"
    if spec.state_is_obs and not np.array_equal(seen.state, seen.obs.reshape(len(seen.obs), -1)):
        yield (
            f"state is not all observations in a row {when}, as spec.state_is_obs says: leave that false"
        )
    masks = seen.avail_actions
    if isinstance(masks, np.ndarray) and masks.ndim == 3:
        if not np.isin(masks, (0, 1)).all():
            yield f"avail_actions holds other values than 0 and 1 {when}"
        C = spec.choices
        without = masks[..., :C].sum(axis=-1) == 0 if C else np.empty((0, 2))
        for b, n in np.argwhere(without)[:1].tolist():
            yield (
                f"agent {n} of copy {b} has no available action {when}: leave one (e.g. `no-op`) to "
                "every agent at all times, dead or not"
            )


def _act(spec: EnvSpec, seen: Timestep, players: list[np.random.Generator]) -> NDArray[Any] | None:
    """Random actions, available or within bounds, drawn copy by copy so that B does not matter."""
    B, N, _ = seen.avail_actions.shape
    chosen, vectors = np.zeros((B, N), np.int64), np.zeros((B, N, spec.dimensions), np.float32)
    if spec.choices:
        avail = seen.avail_actions[..., : spec.choices]
        if (avail.sum(axis=-1) == 0).any():
            return None
        for b, n in np.ndindex(B, N):
            chosen[b, n] = players[b].choice(np.flatnonzero(avail[b, n]))
    if isinstance(spec.action, Discrete):
        return chosen
    box = spec.action if isinstance(spec.action, Box) else spec.action.vector
    for b in range(B):
        vectors[b] = players[b].uniform(box.low, box.high, vectors[b].shape)
    if spec.mask_dim:
        vectors *= seen.avail_actions[..., spec.choices :]
    if isinstance(spec.action, Box):
        return vectors
    return np.concatenate([chosen[..., None].astype(np.float32), vectors], axis=-1)


def _snapshot(seen: Timestep) -> Snapshot:
    """Copies of everything seen, since the arrays change with the next step."""
    arrays = {k: v for k, v in seen._asdict().items() if k != "info" and v is not None}
    return {k: v.copy() for k, v in arrays.items()}


def _check_frozen(before: Snapshot, after: Timestep) -> Iterator[str]:
    over = before["terminated"] | before["truncated"]
    for name in ("obs", "state", "avail_actions", "terminated", "truncated"):
        if not np.array_equal(before[name][over], getattr(after, name)[over]):
            yield (
                f"{name} of a finished copy changes when others step: ignore the actions of finished "
                "copies and keep their last timestep until reset(mask)"
            )


def _check_masked_reset(make: EnvFactory) -> Iterator[str]:
    env = make(num_envs=_COPIES, seed=0)
    try:
        seen = env.reset()
        players = [np.random.default_rng([1, b]) for b in range(_COPIES)]
        actions = _act(env.spec, seen, players)
        assert actions is not None
        before = _snapshot(env.step(actions))
        after = env.reset(np.array([True] + [False] * (_COPIES - 1)))
        for name, array in before.items():
            if name != "reward" and not np.array_equal(array[1:], getattr(after, name)[1:]):
                yield f"reset(mask) changes {name} of copies outside the mask: leave them alone"
        if (after.terminated | after.truncated)[0]:
            yield "reset(mask) leaves terminated or truncated set in the copy it resets"
    finally:
        env.close()


class _Player:
    """Random available actions, with restarts; each copy draws from a generator of its own."""

    def __init__(self, env: Env, seen: Timestep, stream: int, first: int = 0) -> None:
        self._env, self.seen = env, seen
        numbers = range(first, first + env.num_envs)
        self._generators = [np.random.default_rng([stream, b]) for b in numbers]

    def step(self) -> Iterator[tuple[NDArray[np.bool_], Snapshot]]:
        """Which copies (B,) moved on, and what was seen then: after the step, after restarts."""
        actions = _act(self._env.spec, self.seen, self._generators)
        assert actions is not None, "_check_play comes first"
        self.seen = self._env.step(actions)
        yield np.ones(self._env.num_envs, bool), _snapshot(self.seen)
        over = self.seen.terminated | self.seen.truncated
        if over.any():
            self.seen = self._env.reset(over)
            yield over, _snapshot(self.seen)


def _one_copy(make: EnvFactory, num_envs: int, b: int = 0, first: int = 0) -> list[Snapshot]:
    """What copy ``b`` sees, whatever the others do meanwhile; copies are numbered from ``first``."""
    env = make(num_envs=num_envs, seed=5)
    try:
        if first and isinstance(env, Numbered):
            env.number_from(first)
        seen = env.reset()
        player, trace = _Player(env, seen, stream=2, first=first), [_snapshot(seen)]
        for _ in range(2 * env.spec.episode_limit):
            trace += [now for moved, now in player.step() if moved[b]]
        return [{name: array[b : b + 1] for name, array in now.items()} for now in trace]
    finally:
        env.close()


def _first_difference(left: list[Snapshot], right: list[Snapshot]) -> str:
    """Name of the first field that differs, or nothing."""
    for a, b in zip(left, right, strict=False):
        for name in a:
            if not np.array_equal(a[name], b[name]):
                return name
    return ""


def _check_repeatable(make: EnvFactory) -> Iterator[str]:
    first = _one_copy(make, _COPIES)
    if name := _first_difference(first, _one_copy(make, _COPIES)):
        yield (
            f"{name} differs between two environments with the same seed and actions: draw "
            "everything random from generators made of the seed"
        )
    elif name := _first_difference(first, _one_copy(make, 1)):
        yield (
            f"{name} of copy 0 depends on how many copies there are: give every copy and episode its "
            "own generator, e.g. numpy.random.SeedSequence([seed, copy, episode])"
        )


def _check_numbered(make: EnvFactory) -> Iterator[str]:
    env = make(num_envs=1, seed=5)
    env.close()
    if not isinstance(env, Numbered):
        return
    last = _COPIES - 1
    if name := _first_difference(_one_copy(make, _COPIES, last), _one_copy(make, 1, first=last)):
        yield (
            f"{name} of copy {last} of {_COPIES} is not that of a single copy after number_from({last}): "
            "count the copies from there wherever their generators are made"
        )


def _check_continues(make: EnvFactory) -> Iterator[str]:
    env, other = make(num_envs=_COPIES, seed=5), make(num_envs=_COPIES, seed=6)
    try:
        limit = env.spec.episode_limit
        player = _Player(env, env.reset(), stream=3)
        for _ in range(limit + limit // 2):
            list(player.step())
        # Runners keep what was seen last themselves; the arrays are overwritten by the next step.
        twins = [_Player(e, copy.deepcopy(player.seen), stream=4) for e in (env, other)]
        state = env.state_dict()
        yield from _not_plain(state, "state_dict()")
        other.load_state_dict(copy.deepcopy(state))
        traces = [[now for _ in range(limit) for _, now in twin.step()] for twin in twins]
        if name := _first_difference(*traces):
            yield (
                f"{name} differs after state_dict() was loaded into a new environment: keep whatever "
                "the next step depends on, generators included"
            )
    finally:
        env.close()
        other.close()


def _not_plain(value: Any, where: str) -> Iterator[str]:
    """Names values that a checkpoint should not hold."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _not_plain(inner, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _not_plain(inner, f"{where}[{index}]")
    elif not isinstance(value, np.ndarray | np.generic | int | float | str | bytes | None):
        yield f"{where} is a {type(value).__name__}: keep arrays, numbers, strings and lists of them"
