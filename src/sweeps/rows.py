"""From a plan to runs, each of them composed and so known to be possible."""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..config import Composed, compose
from ..config.routing import known_somewhere
from ..config.sources import COMMAND_LINE, parse_value
from ..errors import ConfigError, PhalanxError
from ..tracking.identity import config_digest
from .plan import CHOICES, Block, Plan, Settings


@dataclass(frozen=True)
class Row:
    """One run of a sweep.

    Attributes:
        number: its place in the table.
        uid: of the run, and so the name of its folder; fixed before it starts.
        label: in what it differs from the others, ``lr=0.001 seed=0``.
        command: the words that make the same run by themselves.
        digest: the same for runs with the same numbers.
        t_max: environment steps it will do.
        group: rows that differ in their seed only share it.
        seed: of the run.
        params: what was tuned, see :mod:`.tuning`.
    """

    number: int
    uid: str
    label: str
    command: list[str]
    digest: str
    t_max: int
    group: int
    seed: int
    params: Settings = field(default_factory=dict)


@dataclass(frozen=True)
class Candidate:
    """A run that may become a row.

    Attributes:
        settings: as the plan has them, ``config``, ``env_config`` and ``seed`` among them.
        composed: what comes of them.
        group: number of its combination.
    """

    settings: Settings
    composed: Composed
    group: int

    @property
    def command(self) -> list[str]:
        """The words that make the run by themselves."""
        return command_of(self.settings)

    @property
    def digest(self) -> str:
        """The same for runs with the same numbers."""
        return config_digest(self.composed.nested())


def candidates(plan: Plan) -> list[Candidate]:
    """Every run of a plan, one seed of each combination after the other, each composed.

    Combinations that ``skip`` leaves out and repetitions are not among them.

    Raises:
        ConfigError: some cannot be composed; lists what is wrong, and with which.
    """
    found: list[Candidate] = []
    faults: dict[str, list[str]] = {}
    for group, settings in enumerate(plan.combinations()):
        try:
            found += composed_seeds(plan, settings, plan.seeds, group)
        except PhalanxError as error:
            shown = " ".join(words_of(settings, plan.varied)) or "every run"
            fault = str(error).replace(f"({COMMAND_LINE})", f"({plan.origin})")
            faults.setdefault(fault, []).append(shown)
    if faults:
        listed = "\n".join(f"{_first(names)}: {fault}" for fault, names in faults.items())
        raise ConfigError(
            f"{plan.origin}: nothing was made of it, as some runs cannot be.\n{listed}"
        )
    if not found:
        raise ConfigError(f"{plan.origin} asks for no run: `skip` leaves out every combination")
    order = {seed: i for i, seed in enumerate(plan.seeds)}
    found.sort(key=lambda c: order[c.settings["seed"]])
    different: dict[str, Candidate] = {}
    for candidate in found:
        different.setdefault(candidate.digest, candidate)
    return list(different.values())


def composed_seeds(
    plan: Plan, settings: Settings, seeds: Sequence[int], group: int
) -> list[Candidate]:
    """One combination with each of some seeds; none where ``skip`` leaves it out.

    Raises:
        ConfigError: it cannot be composed.
    """
    complete = with_blocks(settings, plan.blocks, plan.origin)
    if complete is None:
        return []
    made = ({**complete, "seed": seed} for seed in seeds)
    return [Candidate(own, _compose(own), group) for own in made]


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more}"


def as_rows(
    found: Iterable[Candidate],
    *,
    after: int,
    plan: Plan,
    now: dt.datetime,
    groups: Mapping[int, int],
) -> list[Row]:
    """Rows to be added behind the first ``after`` of a table.

    Args:
        found: the runs.
        after: rows there are.
        plan: where they come from.
        now: UTC; part of the runs' names.
        groups: number in the table of each combination.
    """
    batch = f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"
    rows: list[Row] = []
    for number, candidate in enumerate(found, after):
        settings = candidate.settings
        rows.append(
            Row(
                number=number,
                uid=f"{batch}-{number:04d}",
                label=" ".join(words_of(settings, [*plan.varied, "seed"])),
                command=candidate.command,
                digest=candidate.digest,
                t_max=candidate.composed.last.run.t_max,
                group=groups[candidate.group],
                seed=int(settings["seed"]),
                params={key: settings[key] for key in plan.tuned},
            )
        )
    return rows


def with_blocks(settings: Settings, blocks: Sequence[Block], origin: str) -> Settings | None:
    """Settings with those of the blocks that they agree with; None where one says to skip them.

    Conditions are compared with the complete run, defaults included.

    Raises:
        ConfigError: a condition is about a key that nobody reads, or about several.
    """
    if not blocks:
        return settings
    values = _compose(settings).full_keys()
    complete = dict(settings)
    for block in blocks:
        if all(_agrees(settings, values, key, want, origin) for key, want in block.when.items()):
            if block.skip:
                return None
            complete |= block.then
    return complete


def _agrees(
    settings: Settings, values: Mapping[str, tuple[Any, str, str]], key: str, want: Any, origin: str
) -> bool:
    wanted = want if isinstance(want, list) else [want]
    if key in CHOICES:
        return settings.get(key) in wanted
    full = [name for name in values if name == key or name.rpartition(".")[2] == key]
    if key in full:
        full = [key]
    if len(full) > 1:
        raise ConfigError(f"{origin}: `when: {key}` could mean {' or '.join(full)}: write which")
    if not full and not known_somewhere(key):
        raise ConfigError(f"{origin}: `when: {key}`: no part that there is reads that key")
    return bool(full) and values[full[0]][0] in wanted


def words_of(settings: Settings, keys: Sequence[str]) -> list[str]:
    """``key=value`` for those of ``keys`` that are set, as the command line takes them."""
    return [f"{key}={as_word(settings[key])}" for key in keys if key in settings]


def as_word(value: Any) -> str:
    """Text that the command line reads as this value.

    >>> as_word("3m"), as_word("1"), as_word(0.001), as_word(["a", 1]), as_word(None)
    ('3m', "'1'", '0.001', "['a', 1]", 'None')
    """
    return value if isinstance(value, str) and parse_value(value) == value else repr(value)


def command_of(settings: Settings) -> list[str]:
    """The words of a run's command line, without the program's name."""
    options = [f"--{key.replace('_', '-')}={settings[key]}" for key in CHOICES if key in settings]
    words = words_of(settings, [key for key in settings if key not in CHOICES])
    return [*options, *(["with", *words] if words else [])]


def _compose(settings: Settings) -> Composed:
    config, env_config = (settings.get(key) for key in CHOICES)
    words = words_of(settings, [key for key in settings if key not in CHOICES])
    return compose(config, env_config, words)
