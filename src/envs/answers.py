"""What another library's environment answers, taken apart with a sentence for whatever does not fit."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EnvError

log = logging.getLogger("phalanx.envs")

MASK = "action_mask"
"""Where an agent's info or observation says what it may do."""

_RESERVED = ("broken", "return", "return_std", "ep_length")


def reset_of(name: str, env: Any, seed: int) -> tuple[Any, Any]:
    """Observations and infos of a reset with ``seed``.

    Raises:
        EnvError: ``reset`` takes no seed, or answers as Gym did before 0.26.
    """
    try:
        inspect.signature(env.reset).bind(seed=seed)
    except TypeError:
        raise EnvError(
            f"env {name}: reset() takes no `seed`, so episodes could not be repeated. Write "
            "`def reset(self, seed=None, options=None)` and return (observations, infos)."
        ) from None
    except ValueError:  # no signature to look at
        pass
    answer = env.reset(seed=seed)
    if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], Mapping)):
        raise EnvError(
            f"env {name}: reset() returned {_kind(answer)}, not (observations, infos) with a dict of "
            "infos. That was Gym's way before 0.26."
        )
    return answer


def step_of(name: str, env: Any, actions: Any) -> tuple[Any, Any, Any, Any, Any]:
    """Observations, rewards, terminated, truncated and infos of a step.

    Raises:
        EnvError: there are not these five.
    """
    answer = env.step(actions)
    if not (isinstance(answer, tuple) and len(answer) == 5 and isinstance(answer[4], Mapping)):
        raise EnvError(
            f"env {name}: step() returned {_kind(answer)}, not (observations, rewards, terminated, "
            "truncated, infos) with a dict of infos. Four values were Gym's way before 0.26."
        )
    return answer


def number(name: str, what: str, value: Any) -> float:
    """A single number, however it is wrapped.

    Raises:
        EnvError: it is none.
    """
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.size != 1:
        raise EnvError(f"env {name}: {what} is {_kind(value)}, not a number.")
    return float(array.reshape(()))


def shared_or_each(name: str, what: str, values: Any, n_agents: int) -> list[float]:
    """One number for the team, or one per agent.

    Raises:
        EnvError: it is neither.
    """
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    flat = array.reshape(-1)
    if flat.size not in (1, n_agents):
        raise EnvError(
            f"env {name}: step() returned {what} {_kind(values)}; one number, or one for each of the "
            f"{n_agents} agents is needed."
        )
    each: list[float] = flat.tolist()
    return each


def masked(
    name: str, agent: str, available: NDArray[np.uint8], choices: int, mask: Any
) -> NDArray[np.uint8]:
    """What an agent may do of ``available`` (A,), given the environment's own ``mask``.

    Args:
        choices: how many choices this agent has.

    Raises:
        EnvError: the mask has another length, or leaves nothing.
    """
    array = np.asarray(mask)
    if array.dtype == object or array.shape != (choices,):
        raise EnvError(
            f"env {name}: the action_mask of {agent} is {_kind(mask)}, but it has {choices} actions: one "
            "entry for each is needed."
        )
    masked_: NDArray[np.uint8] = available.copy()
    masked_[:choices] &= array.astype(bool)
    if not masked_[:choices].any():
        raise EnvError(
            f"env {name}: the action_mask of {agent} rules out every action. Leave one, e.g. a no-op."
        )
    return masked_


class Metrics:
    """Picks the numbers out of an environment's infos; they are logged as means over episodes.

    Args:
        name: of the environment, for messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._told: set[str] = set()

    def of(self, *infos: Mapping[Any, Any]) -> dict[str, float]:
        """Finite numbers by name, each the mean over the ``infos`` that have it.

        What is no number is left out, and said once. A name the run uses itself gets ``env_`` before it.
        """
        found: dict[str, list[float]] = {}
        for info in infos:
            for key, value in info.items():
                if key == MASK:
                    continue
                plain = _plain_number(value)
                if plain is None:
                    self._skip(str(key), value)
                elif math.isfinite(plain):
                    text = str(key)
                    found.setdefault(f"env_{text}" if text in _RESERVED else text, []).append(plain)
        return {key: sum(values) / len(values) for key, values in found.items()}

    def _skip(self, key: str, value: Any) -> None:
        if key not in self._told and value is not None:
            self._told.add(key)
            _say_skipped(self._name, key, _kind(value))


_skipped: set[tuple[str, str]] = set()


def _say_skipped(name: str, key: str, kind: str) -> None:
    if (name, key) not in _skipped:  # many copies, one line
        _skipped.add((name, key))
        log.info("env %s: info %r is %s, not a number, and is not recorded", name, key, kind)


def _plain_number(value: Any) -> float | None:
    if isinstance(value, (bool, int, float, np.number, np.bool_)):
        return float(value) if not isinstance(value, np.complexfloating) else None
    if isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind in "biuf":
        return float(value.reshape(()))
    return None


def _kind(value: Any) -> str:
    """What something is, in a few words."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if isinstance(value, Mapping) or (isinstance(value, Sequence) and not isinstance(value, str)):
        return f"a {type(value).__name__} of {len(value)}"
    return repr(value) if isinstance(value, (int, float, str)) else f"a {type(value).__name__}"
