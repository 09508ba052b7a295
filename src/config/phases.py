"""Runs of several phases: what each is composed of, and whether one can go on from another."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..registry import REGISTRIES, needs
from .schema import RunConfig
from .sources import Entry

if TYPE_CHECKING:
    from .compose import Composed

SHARED = (
    "name",
    "label",
    "sweep",
    "seed",
    "device",
    "torch_threads",
    "save_model",
    "checkpoint_path",
    "resume",
    "local_results_path",
    "mongo_url",
    "mongo_db",
    "plugins",
    "sinks",
)
"""Keys of a run that all of its phases have the same values of."""

_NEW = {"runner", "buffer", "learner", "behaviour"}
"""Kinds of which every phase has its own; their parts begin anew."""


def phases_of(entries: Sequence[Entry]) -> tuple[list[str], str]:
    """Names of the phases, none where there are none, and where they were written.

    Raises:
        ConfigError: they cannot be names, or a phase is chosen besides.
    """
    entry = next((e for e in reversed(entries) if e.key == "phases"), None)
    if entry is None or entry.value in (None, [], ""):
        return [], ""
    names = entry.value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"phases={names!r} ({entry.origin}) must be a list of names")
    for name in names:
        taken = name in REGISTRIES or name in RunConfig.model_fields
        if taken or not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name.endswith("_args"):
            raise ConfigError(
                f"phases={names!r} ({entry.origin}): {name!r} cannot be a phase's name. Take lower-case "
                "letters that are no key of a run, e.g. phases: [offline, online]."
            )
    if len(set(names)) < len(names):
        raise ConfigError(f"phases={names!r} ({entry.origin}) has a name twice")
    for word in entries:
        if word.key == "phase" and word.from_command_line:
            raise ConfigError(
                f"phase={word.value} ({word.origin}): this run has the phases {', '.join(names)}. For one of "
                "them alone add phases=[]."
            )
    return names, entry.origin


def told(
    typed: Sequence[Entry], phase: str, names: Sequence[str]
) -> tuple[list[Entry], list[Entry]]:
    """Words for every phase, and those for this one alone (``offline.lr=0.1``) without its name."""
    everywhere, here = [], []
    for entry in typed:
        name, dot, key = entry.key.partition(".")
        if not dot or name not in names:
            everywhere.append(entry)
        elif name == phase:
            here.append(replace(entry, key=key))
    return everywhere, here


def refuse_unfit(phases: Sequence[Composed]) -> None:
    """That each phase can go on from the one before.

    Raises:
        ConfigError: it cannot; says what differs.
    """
    for one, other in itertools.pairwise(phases):
        names = f"phases {one.run.phase} and {other.run.phase} do not fit"
        for key in SHARED:
            mine, theirs = getattr(one.run, key), getattr(other.run, key)
            if mine != theirs:
                raise ConfigError(
                    f"{names}: {key} is {mine!r} in one and {theirs!r} in the other. It is the "
                    "whole run's: set it outside of the phases' overrides."
                )
        if (where := _difference(one, other, ["env"])) is not None:
            raise ConfigError(
                f"{names}: {where}, and a run has one environment. Leave it the same in both."
            )
        if (where := _difference(one, other, _below("policy", one.chosen))) is not None:
            raise ConfigError(
                f"{names}: {where}. What is learnt in one phase acts in the next, so the policy and what it "
                "is made of must be the same parts with the same keys in both."
            )


def handed_on(one: Composed, other: Composed) -> list[str]:
    """Kinds whose part goes on from phase ``one`` to ``other`` as it is, weights and all.

    These are the parts under a learner (policy, critic, mixer, world model ...) that both phases choose alike
    with the same keys, if what such a part is made of goes on too.
    """
    kinds = [k for k in one.chosen if k in other.chosen and k not in {*_NEW, "env"}]
    return [
        kind
        for kind in kinds
        if _difference(one, other, _below(kind, one.chosen)) is None
        and _below(kind, one.chosen) == _below(kind, other.chosen)
    ]


def _below(kind: str, chosen: Mapping[str, str]) -> list[str]:
    """A kind and all kinds that its part is made of."""
    found: list[str] = []
    queue = [kind]
    while queue:
        if (kind := queue.pop(0)) not in found:
            found.append(kind)
            queue += needs(REGISTRIES[kind].get(chosen[kind]))
    return found


def _difference(one: Composed, other: Composed, kinds: Sequence[str]) -> str | None:
    """Where the choice or a key of these kinds differs, in words."""
    for kind in kinds:
        mine, theirs = one.chosen.get(kind), other.chosen.get(kind)
        if mine != theirs:
            return f"{kind} is {mine} in one and {theirs} in the other"
        a: dict[str, Any] = one.parts[kind].model_dump()
        b: dict[str, Any] = other.parts[kind].model_dump()
        for key in a:
            if a[key] != b[key]:
                return f"{kind}_args.{key} is {a[key]!r} in one and {b[key]!r} in the other"
    return None
