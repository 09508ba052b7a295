"""Blocks of a config that apply to some runs only, e.g. to one map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..errors import ConfigError
from .routing import Faults, Router, known_somewhere
from .sources import Entry


def matching(
    overrides: Sequence[Entry],
    router: Router,
    values: Mapping[str, Entry],
    faults: Faults,
    notes: list[str],
) -> list[Entry]:
    """Entries of the blocks whose ``when`` agrees with the run, defaults included.

    Blocks that do not match are checked for keys that nobody reads; a file of one's own of which no block
    matches is noted.

    Args:
        overrides: entries with the key ``overrides``.
        router: of the run without them.
        values: the run's entries by full key.
        faults: takes what is wrong with a block.
        notes: takes a line for each file without a match.
    """
    matched: list[Entry] = []
    for entry in overrides:
        blocks = entry.value if isinstance(entry.value, list) else [entry.value]
        applied = 0
        for block in blocks:
            with faults.collected():
                when, then = _taken_apart(block, entry)
                if _agrees(when, entry, router, values):
                    applied += 1
                    matched += [replace(entry, key=k, value=v, text=None) for k, v in then.items()]
        if blocks and not applied and not entry.shipped and not entry.inherited:
            notes.append(
                f"{entry.origin}: no block of these overrides ({len(blocks)}) matches this run"
            )
    return matched


def _taken_apart(block: Any, entry: Entry) -> tuple[dict[str, Any], dict[str, Any]]:
    """Conditions and settings of a block."""
    when = block.get("when") if isinstance(block, dict) else None
    if not isinstance(when, dict):
        raise ConfigError(
            f"overrides ({entry.origin}) must be a list of blocks like "
            f"{{when: {{map_name: MMM2}}, lr: 0.001}}, got {block!r}"
        )
    then = {key: value for key, value in block.items() if key != "when"}
    for key in (*when, *then):
        if not isinstance(key, str):
            raise ConfigError(f"overrides ({entry.origin}): the key {key!r} must be text")
        if not known_somewhere(key):
            raise ConfigError(
                f"overrides ({entry.origin}): no part that there is reads {key!r}, in {block!r}"
            )
    return when, then


def _agrees(
    when: Mapping[str, Any], entry: Entry, router: Router, values: Mapping[str, Entry]
) -> bool:
    for key, value in when.items():
        condition = replace(entry, key=key, value=value, text=None, inherited=True)
        routed = router.route(condition, [])
        if routed is None:
            return False
        if router.value_of(routed.key, values) != router.fits(routed.key, routed):
            return False
    return True
