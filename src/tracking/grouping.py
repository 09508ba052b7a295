"""Which runs are seeds of one experiment, and what to call experiments so that they are told apart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .filters import flat
from .identity import BOOKKEEPING, OF_NO_EFFECT
from .queries import RunRecord

_MISSING = object()
# How copies of an environment are kept, not what happens in them.
_ENVIRONMENTS_UPKEEP = {
    f"env_args.{key}"
    for key in (
        "processes",
        "step_timeout",
        "start_timeout",
        "starts_at_once",
        "max_failures",
        "seed",
    )
}


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing with an effect but the seed.

    Attributes:
        runs: at least one.
        task: of the runs, with the keys of the environment in which this group differs from others of the
            same environment and task, ``3m, episode_limit=30``.
        name: of the experiment, with the other keys in which it differs likewise, ``qmix, lr=0.001``.
    """

    runs: tuple[RunRecord, ...]
    task: str
    name: str


def group_by_config(runs: Sequence[RunRecord]) -> list[Group]:
    """Runs that are seeds of one experiment together, in the order of their first."""
    by_config: dict[str, list[RunRecord]] = {}
    for run in runs:
        key = json.dumps([run.name, _effective(run)], sort_keys=True, default=str)
        by_config.setdefault(key, []).append(run)
    members = list(by_config.values())
    facts = [_effective(group[0]) for group in members]
    tasks = [(group[0].config.get("env"), group[0].task) for group in members]
    names = [group[0].name for group in members]
    found = []
    for i, group in enumerate(members):
        same_task = [facts[j] for j in range(len(members)) if tasks[j] == tasks[i]]
        alike = [
            facts[j] for j in range(len(members)) if (tasks[j], names[j]) == (tasks[i], names[i])
        ]
        of_task = _distinction(facts[i], same_task, environment=True)
        of_name = _distinction(facts[i], alike, environment=False)
        found.append(
            Group(
                tuple(group), ", ".join([group[0].task, *of_task]), ", ".join([names[i], *of_name])
            )
        )
    return found


def differing(groups: Sequence[Group]) -> dict[str, list[Any]]:
    """Keys of the config with an effect that are not the same in all groups, with their value in each."""
    facts = [_effective(group.runs[0]) for group in groups]
    # A part without keys has an empty slice, which says nothing that the part's name does not.
    keys = sorted({key for fact in facts for key, value in fact.items() if value != {}})
    values = {key: [fact.get(key, "unset") for fact in facts] for key in keys}
    return {key: v for key, v in values.items() if any(item != v[0] for item in v)}


def _effective(run: RunRecord) -> dict[str, Any]:
    """The run's config under dotted keys, without what does not tell experiments apart."""
    return {
        key: value
        for key, value in flat(run.config).items()
        if key.partition(".")[0] not in (*BOOKKEEPING, *OF_NO_EFFECT, "name")
        and key not in _ENVIRONMENTS_UPKEEP
    }


def _distinction(
    own: dict[str, Any], others: Sequence[dict[str, Any]], *, environment: bool
) -> list[str]:
    """``key=value`` of the keys that are not the same in all: those of the environment, or the rest."""
    keys = sorted({key for facts in others for key in facts})
    return [
        f"{key.rpartition('.')[2]}={own.get(key, 'unset')}"
        for key in keys
        if (key == "env" or key.startswith("env_args.")) == environment
        and any(facts.get(key, _MISSING) != own.get(key, _MISSING) for facts in others)
    ]
