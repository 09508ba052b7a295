"""Agents that do not learn: who they are, and how they act."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EnvError
from .answers import MASK, number, reset_of, step_of
from .team import TeamConfig

_PROBED_STEPS = 300
_PROBED_EPISODE = 25
_OPPOSED = -0.4
"""Correlation of the changes in two groups' rewards below which they are taken for opponents."""


class RandomPlayers:
    """Agents outside the team: they choose evenly among what is available, by the episode's seed.

    Args:
        env: PettingZoo's parallel API.
        names: of these agents.
    """

    def __init__(self, env: Any, names: set[str]) -> None:
        self._spaces = {
            agent: env.action_space(agent) for agent in env.possible_agents if agent in names
        }
        self._masks: dict[str, Any] = {}

    def reset(self, seed: int, observations: Mapping[str, Any], infos: Mapping[str, Any]) -> None:
        """A new episode."""
        for n, space in enumerate(self._spaces.values()):
            space.seed(int(np.random.SeedSequence([seed, n]).generate_state(1)[0]) & 0x7FFFFFFF)
        self.see(observations, infos)

    def see(self, observations: Mapping[str, Any], infos: Mapping[str, Any]) -> None:
        """Remember what each may do next."""
        self._masks = {}
        for agent in self._spaces:
            observation = observations.get(agent)
            mask = infos.get(agent, {}).get(MASK)
            if isinstance(observation, Mapping) and MASK in observation:
                mask = observation[MASK]
            if mask is not None:
                self._masks[agent] = np.asarray(mask, np.int8)

    def actions(self, playing: set[str]) -> dict[str, Any]:
        """An action for each of them that is still there."""
        return {
            agent: space.sample(self._masks[agent]) if agent in self._masks else space.sample()
            for agent, space in self._spaces.items()
            if agent in playing
        }


def refuse_opposing(env: Any, name: str, agents: list[str], config: TeamConfig) -> None:
    """Refuse to sum the rewards of groups that are paid against each other.

    Groups are agents whose names differ in their number alone (``adversary_0``, ``adversary_1``). Where there
    are several, random play shows whether what one earns another loses. Rewards that stay zero there show
    nothing, and are let pass.

    Raises:
        EnvError: names the groups and how to choose one.
    """
    groups: dict[str, list[str]] = {}
    for agent in agents:
        groups.setdefault(re.sub(r"_?\d+$", "", agent), []).append(agent)
    if len(groups) > 1 and (pair := _opposing(_Probe(env, name, groups, repr(config.make_args)))):
        one, other, correlation = pair
        patterns = {g: f"{g}_*" if len(groups[g]) > 1 else groups[g][0] for g in (one, other)}
        raise EnvError(
            f"env {name}: the groups {one} ({len(groups[one])}) and {other} ({len(groups[other])}) are paid "
            f"against each other (correlation {correlation:.2f} in random play): their sum is nobody's aim. "
            f"Choose who learns: team={patterns[one]} or team={patterns[other]}, the others "
            "then act at random; team=* sums them all the same."
        )


class _Probe:
    """What a probe needs, compared by what decides its outcome: one per task and process."""

    def __init__(self, env: Any, name: str, groups: dict[str, list[str]], arguments: str) -> None:
        self.env, self.name, self.groups = env, name, groups
        self._identity = (name, arguments, tuple(map(tuple, groups.values())))

    def __hash__(self) -> int:
        return hash(self._identity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Probe) and self._identity == other._identity


@functools.lru_cache(maxsize=32)
def _opposing(probe: _Probe) -> tuple[str, str, float] | None:
    """The two groups whose rewards are most opposed in random play, if any are."""
    paid = _random_play(probe)
    names = list(probe.groups)
    worst = (0.0, "", "")
    for i, one in enumerate(names):
        for j in range(i):
            if len(paid) > 1 and paid[:, i].std() > 0 and paid[:, j].std() > 0:
                correlation = float(np.corrcoef(paid[:, i], paid[:, j])[0, 1])
                worst = min(worst, (correlation, names[j], one))
    return (worst[1], worst[2], worst[0]) if worst[0] < _OPPOSED else None


def _random_play(probe: _Probe) -> NDArray[np.float64]:
    """(steps, groups) how much more each group earns than a step before, summed over its agents.

    Changes, because rewards that drift for reasons of their own look related in so few episodes.
    """
    env, name = probe.env, probe.name
    players = RandomPlayers(env, set(env.possible_agents))
    changes: list[NDArray[np.float64]] = []
    for episode in range(_PROBED_STEPS // _PROBED_EPISODE):
        observations, infos = reset_of(name, env, episode)
        players.reset(episode, observations, infos)
        paid = []
        for _ in range(_PROBED_EPISODE):
            if not env.agents:
                break
            actions = players.actions(set(env.agents))
            observations, rewards, _, _, infos = step_of(name, env, actions)
            players.see(observations, infos)
            earned = [
                sum(number(name, f"the reward of {a}", rewards.get(a, 0.0)) for a in group)
                for group in probe.groups.values()
            ]
            paid.append(earned)
        changes.append(np.diff(np.array(paid, np.float64).reshape(-1, len(probe.groups)), axis=0))
    return np.concatenate(changes)
