"""The one place that checks what an environment hands over."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DivergedError, EnvError, PhalanxError, own_words
from .protocol import Env, EnvSpec, Film, Filmable, Numbered, Player, Scripted, Timestep

log = logging.getLogger("phalanx.envs")

_said: set[str] = set()


class Expected(NamedTuple):
    """What one field of a timestep has to be."""

    shape: tuple[int, ...]
    dtype: type[np.generic]
    axes: tuple[str, ...]  # what is counted behind the copies, for messages


def expected_fields(spec: EnvSpec, num_envs: int) -> dict[str, Expected]:
    """The arrays of a timestep of ``num_envs`` copies, by name."""
    B, N = num_envs, spec.n_agents
    fields = {
        "obs": Expected((B, N, spec.obs_dim), np.float32, ("agent", "number")),
        "state": Expected((B, spec.state_dim), np.float32, ("number",)),
        "avail_actions": Expected((B, N, spec.mask_dim), np.uint8, ("agent", "action")),
        "reward": Expected((B,), np.float32, ()),
        "terminated": Expected((B,), np.bool_, ()),
        "truncated": Expected((B,), np.bool_, ()),
    }
    if spec.has_alive:
        fields["alive"] = Expected((B, N), np.bool_, ("agent",))
    if spec.has_visibility:
        fields["visibility"] = Expected((B, N, N), np.bool_, ("agent", "other"))
    return fields


def wrong_fields(fields: dict[str, Expected], seen: Timestep) -> list[str]:
    """A sentence for each field of ``seen`` that is not as expected."""
    mistakes = []
    for name, (shape, dtype, _) in fields.items():
        array = getattr(seen, name)
        if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != dtype:
            given = (
                f"{array.dtype}{array.shape}"
                if isinstance(array, np.ndarray)
                else repr(type(array))
            )
            mistakes.append(f"{name} is {given}: it must be a numpy {dtype.__name__}{shape}")
    for name in ("alive", "visibility"):
        if name not in fields and getattr(seen, name) is not None:
            mistakes.append(f"{name} is given although spec.has_{name} is False: make it True")
    B = fields["reward"].shape
    for key, column in seen.info.items():
        if np.shape(column) != B:
            mistakes.append(
                f"info[{key!r}] has shape {np.shape(column)}: give one number per copy, {B}"
            )
    return mistakes


@contextmanager
def blamed(name: str, what: str) -> Iterator[None]:
    """Turn whatever an environment's own code raises into a sentence that names its file and line.

    Raises:
        EnvError: in place of any exception that is not one of ours.
    """
    try:
        yield
    except PhalanxError:
        raise
    except MemoryError as error:
        raise EnvError(
            f"env {name} {what}: there is not enough memory ({error}). Use fewer copies "
            "(batch_size_run) or a smaller task."
        ) from error
    except (Exception, SystemExit) as error:
        raise EnvError(
            f"env {name} {what}: {own_words(error)}. The fault lies in that code or in the arguments it "
            "was given."
        ) from error


def close_quietly(env: Any, name: str) -> None:
    """Close an environment; a fault of its own is said and ends nothing, since the work is done."""
    try:
        env.close()
    except (Exception, SystemExit) as error:
        said = (
            f"env {name} failed in close(): {own_words(error)}. Nothing of the run is lost by that."
        )
        if said not in _said:  # many copies, one line
            _said.add(said)
            log.warning("%s", said)


class Gate:
    """An environment whose every answer is checked before anything is learnt from it.

    Shapes and types must be those of ``spec``, observations, states and rewards finite, and every agent
    must have an available action. What the environment's own code raises becomes an :class:`EnvError`
    that names its file and line; from ``close()`` it is only reported.

    Args:
        env: the environment; see :func:`gated`.
        name: what messages call it.
    """

    def __init__(self, env: Env, name: str) -> None:
        self._env, self._name = env, name
        self.spec, self.num_envs = env.spec, env.num_envs
        self._fields = expected_fields(self.spec, self.num_envs)
        self._shapes = {field: expected.shape for field, expected in self._fields.items()}
        self._steps = np.zeros(self.num_envs, np.int64)

    def reset(self, mask: NDArray[np.bool_] | None = None) -> Timestep:
        """See :meth:`.Env.reset`.

        Raises:
            DivergedError: something seen is not finite.
            EnvError: something has not the shape or type that ``spec`` announces, an agent cannot act, or
                the environment's own code failed.
        """
        with blamed(self._name, "failed in reset()"):
            seen = self._env.reset(mask)
        self._steps[... if mask is None else mask] = 0
        return self._checked(seen)

    def step(self, actions: NDArray[Any]) -> Timestep:
        """See :meth:`.Env.step`; raises what :meth:`reset` does."""
        with blamed(self._name, "failed in step()"):
            seen = self._env.step(actions)
        self._steps += 1
        return self._checked(seen)

    def _checked(self, seen: Timestep) -> Timestep:
        if any(np.shape(getattr(seen, f)) != s for f, s in self._shapes.items()) or any(
            np.shape(column) != (self.num_envs,) for column in seen.info.values()
        ):
            raise EnvError(f"env {self._name}: {'; '.join(wrong_fields(self._fields, seen))}")
        for field in ("obs", "state", "reward"):
            if not np.isfinite(getattr(seen, field)).all():
                raise DivergedError(self._not_finite(field, getattr(seen, field)))
        C, masks = self.spec.choices, seen.avail_actions
        if C and not (can := masks[..., :C].any(axis=-1)).all():
            copy, agent = np.argwhere(~can)[0].tolist()
            raise EnvError(
                f"env {self._name}, {self._when(copy)}: agent {agent} has no available action. Leave one "
                "(e.g. `no-op`) to every agent at all times, dead or not."
            )
        return seen

    def _when(self, copy: int) -> str:
        steps = int(self._steps[copy])
        return f"copy {copy}, " + (f"step {steps}" if steps else "after reset()")

    def _not_finite(self, field: str, array: NDArray[Any]) -> str:
        at = np.argwhere(~np.isfinite(array))[0].tolist()
        value, copy, rest = array[tuple(at)], at[0], at[1:]
        where = "".join(
            f", {axis} {i}" for axis, i in zip(self._fields[field].axes, rest, strict=True)
        )
        what = "observation" if field == "obs" else field
        return (
            f"env {self._name}, {self._when(copy)}{where}: the {what} is {value}. Learning from it would "
            "spoil every network; look for the division, logarithm or overflow behind it."
        )

    def describe(self) -> dict[str, Any]:
        """See :meth:`.Env.describe`."""
        with blamed(self._name, "failed in describe()"):
            return self._env.describe()

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`.Env.state_dict`."""
        with blamed(self._name, "failed in state_dict()"):
            return {**self._env.state_dict(), "gate_steps": self._steps.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state_dict`."""
        inner = dict(state)
        self._steps[:] = inner.pop("gate_steps", 0)
        self._env.load_state_dict(inner)

    def close(self) -> None:
        """See :meth:`.Env.close`; what goes wrong is reported and nothing more."""
        close_quietly(self._env, self._name)


class _Films:
    """What a gate has more where episodes can be recorded."""

    _env: Any

    def start_filming(self, episodes: int, drawn_as: str) -> None:
        """See :meth:`.Filmable.start_filming`."""
        self._env.start_filming(episodes, drawn_as)

    def take_films(self) -> list[Film]:
        """See :meth:`.Filmable.take_films`."""
        films: list[Film] = self._env.take_films()
        return films


class _Players:
    """What a gate has more where there are players written by hand."""

    _env: Any
    _name: str

    def players(self) -> Mapping[str, str]:
        """See :meth:`.Scripted.players`."""
        with blamed(self._name, "failed in players()"):
            there: Mapping[str, str] = self._env.players()
        return there

    def player(self, name: str, seed: int) -> Player:
        """See :meth:`.Scripted.player`; what the player's own code raises is told like the environment's."""
        with blamed(self._name, f"could not make its player {name!r}"):
            play: Player = self._env.player(name, seed)

        def blamed_play() -> NDArray[Any]:
            with blamed(self._name, f"failed in its player {name!r}"):
                return play()

        return blamed_play


class _Numbers:
    """What a gate has more where copies can be some of a larger batch's."""

    _env: Any
    _name: str

    def number_from(self, first: int) -> None:
        """See :meth:`.Numbered.number_from`."""
        with blamed(self._name, "failed in number_from()"):
            self._env.number_from(first)


_OFFERS = ((Filmable, _Films), (Scripted, _Players), (Numbered, _Numbers))


def gated(make: Callable[[], Env], name: str) -> Gate:
    """Build an environment behind a gate.

    Raises:
        EnvError: it could not be built; names the file and line of its own code.
    """
    with blamed(name, "could not be built"):
        env = make()
        if not isinstance(getattr(env, "spec", None), EnvSpec):
            raise EnvError(
                f"env {name} has no attribute `spec` of type phalanx.envs.protocol.EnvSpec. Give it one, or "
                "derive from phalanx.envs.adapter.LiftedEnv, or write a PettingZoo environment."
            )
    more = [mixin for offer, mixin in _OFFERS if isinstance(env, offer)]
    kind = type("Gate", (*more, Gate), {}) if more else Gate
    gate: Gate = kind(env, name)
    return gate
