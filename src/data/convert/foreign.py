"""What readers of published formats hand over, and how it becomes a dataset.

Axes: T steps, N agents, O observation, S state, A actions, D numbers of an action.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...envs.protocol import Box, EnvSpec
from ...errors import DatasetError
from ..dataset.description import Description
from ..dataset.reader import Dataset
from ..dataset.writer import DatasetWriter, appearing_whole

log = logging.getLogger("phalanx.data")

Episode = dict[str, NDArray[Any]]
"""Our fields of one. What is seen has (T + 1, ...) entries, or (T, ...) where a format keeps no last one."""

_SEEN = ("obs", "state", "avail_actions", "alive")


@dataclass(frozen=True)
class Found:
    """Episodes as a published format has them.

    Attributes:
        format: its name.
        spec: of their environment as far as the files say it; the step limit is 0 where they do not.
        files: what they are read from.
        episodes: one after the other, each with its name for messages.
    """

    format: str
    spec: EnvSpec
    files: Sequence[Path]
    episodes: Iterator[tuple[str, Episode]]


@dataclass(frozen=True)
class Place:
    """The environment that the user says episodes were played in.

    Attributes:
        spec: its description.
        environment: its name, options and facts, as a dataset has them.
    """

    spec: EnvSpec
    environment: Mapping[str, Any]

    @property
    def name(self) -> str:
        """With the options that tell which task it is."""
        options = self.environment["options"]
        named = ("map_name", "layout", "key", "scenario", "agent_conf")
        told = [f"{key}={options[key]}" for key in named if key in options]
        return " ".join([self.environment["name"], *told])


def write(found: Found, source: Path, destination: Path, place: Place | None) -> None:
    """File what was found as a new dataset, an episode at a time.

    Raises:
        DatasetError: it is not what ``place`` shows, or an episode does not hold what it must; says which.
    """
    spec = found.spec
    facts: dict[str, Any] = {"format": found.format}
    environment: dict[str, Any] = {"name": "", "options": {}, "facts": facts}
    if place is not None:
        _refuse_another_place(found, source, place)
        spec = place.spec
        # Whatever played them, it was not the engine that is here.
        told = {"engine"} & place.environment["facts"].keys()
        facts |= dict.fromkeys(told, f"that of the {found.format} data")
        environment = {**place.environment, "facts": facts}
    parent = {"name": source.resolve().name, "checksum": _digest(found.files)}
    description = Description.of(spec, np.float32, environment, parents=[parent])
    with appearing_whole(destination) as beside:
        with DatasetWriter(beside, description) as writer:
            for name, episode in found.episodes:
                writer.append(_completed(episode, spec, name))
        made = Dataset.open(beside)
        if not len(made):
            raise DatasetError(f"{source} holds no whole episode.")
        if not spec.episode_limit:
            known = replace(spec, episode_limit=int(made.lengths.max()))
            replace(made.description, spec=known).write(beside, made.returns, made.lengths)


def ends(length: int, *, terminated: bool, truncated: bool) -> Episode:
    """``terminated`` and ``truncated`` (T,) of an episode that ended so."""
    last = np.arange(length) == length - 1
    return {"terminated": last & terminated, "truncated": last & truncated}


def team_reward(rewards: NDArray[Any], name: str) -> NDArray[Any]:
    """The one reward (T,) of rewards (T, N) that are the same for all agents.

    Raises:
        DatasetError: they are not.
    """
    rewards = rewards.reshape(len(rewards), -1)
    unequal = ~np.isclose(rewards, rewards[:, :1]).all(axis=1)
    if unequal.any():
        t = int(unequal.argmax())
        raise DatasetError(
            f"{name}: at step {t} its agents' rewards are {', '.join(f'{r:g}' for r in rewards[t])}; a "
            "dataset has one reward for the team."
        )
    return rewards[:, 0]


def within_one(dimensions: int) -> Box:
    """Vectors of numbers from -1 to 1, as MuJoCo's robots take them; the formats do not say it."""
    return Box((-1.0,) * dimensions, (1.0,) * dimensions)


def left_out(source: Path, steps: int) -> None:
    """Tell of steps at the end of a file whose episode does not end there."""
    if steps:
        log.warning(
            "%s: its last %d steps are of an episode without an end: left out.", source, steps
        )


def _completed(episode: Episode, spec: EnvSpec, name: str) -> Episode:
    """With the entries that a format does not have.

    What is seen after the last action is the entry before it again: learners look at it only where an episode
    is cut off, and there it is the best that is known.
    """
    length = len(episode["reward"])
    if spec.episode_limit and length > spec.episode_limit:
        raise DatasetError(
            f"{name} has {length} steps, more than the {spec.episode_limit} that the environment allows."
        )
    episode = {
        key: np.concatenate([array, array[-1:]]) if key in _SEEN and len(array) == length else array
        for key, array in episode.items()
    }
    if isinstance(spec.action, Box):
        # Robots' motors do no more than they can, whatever they were told.
        low, high = (np.array(x, np.float32) for x in (spec.action.low, spec.action.high))
        episode["actions"] = np.clip(episode["actions"], low, high)
        episode["avail_actions"] = np.zeros((length + 1, spec.n_agents, spec.mask_dim), bool)
        return episode
    masks = _with_what_was_done(episode, spec, name)
    # Who may do nothing but action 0 is dead: SMAC's rule.
    alive = ~(masks[..., 0] & (masks.sum(axis=-1) == 1))
    return {"alive": alive, **episode, "avail_actions": masks}


def _with_what_was_done(episode: Episode, spec: EnvSpec, name: str) -> NDArray[np.bool_]:
    """Masks (T + 1, N, A); of an agent for whom none is set, what it did, or action 0 at the end."""
    actions = episode["actions"]
    outside = (actions < 0) | (actions >= spec.n_actions)
    if outside.any():
        t, i = np.argwhere(outside)[0]
        raise DatasetError(
            f"{name}: agent {i} does {actions[t, i]} at step {t}, and there are actions 0 to "
            f"{spec.n_actions - 1}."
        )
    masks: NDArray[np.bool_] = episode["avail_actions"] != 0
    done = np.zeros_like(masks)
    np.put_along_axis(done[:-1], actions[..., None].astype(np.int64), True, axis=-1)
    done[-1, :, 0] = True
    stuck = ~masks.any(axis=-1, keepdims=True)
    return masks | (done & stuck)


def _refuse_another_place(found: Found, source: Path, place: Place) -> None:
    theirs, ours = _sizes(found.spec), _sizes(place.spec)
    differs = [f"{key} {theirs[key]} / {ours[key]}" for key in ours if theirs[key] != ours[key]]
    if differs:
        raise DatasetError(
            f"{source} was not recorded in {place.name} (files / environment): {'; '.join(differs)}."
        )


def _sizes(spec: EnvSpec) -> dict[str, str]:
    """What files and an environment both say of themselves."""
    actions = f"of {spec.dimensions} numbers" if spec.dimensions else str(spec.choices)
    return {
        "agents": str(spec.n_agents),
        "obs_dim": str(spec.obs_dim),
        "state_dim": str(spec.state_dim),
        "actions": actions,
    }


def _digest(files: Sequence[Path]) -> str:
    found = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            while block := content.read(1 << 20):
                found.update(block)
    return found.hexdigest()
