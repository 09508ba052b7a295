"""Choosing runs by what is on record about them: ``map_name=MMM2 last.return_mean>=10``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import TrackingError, did_you_mean

if TYPE_CHECKING:
    from .queries import RunRecord

_WORD = re.compile(r"(?P<key>[\w.@-]+)(?P<op>!=|>=|<=|=|>|<|~)(?P<value>.*)$", re.DOTALL)
_MISSING = object()


@dataclass(frozen=True)
class Filter:
    """One condition: ``key`` compared with the text ``value`` by ``op`` (= != < <= > >= ~)."""

    key: str
    op: str
    value: str


def parse_filter(word: str) -> Filter | None:
    """The condition in a word of the command line; None if it is none.

    >>> parse_filter("status!=FAILED")
    Filter(key='status', op='!=', value='FAILED')
    """
    match = _WORD.match(word)
    return None if match is None else Filter(match["key"], match["op"], match["value"])


def select(runs: Sequence[RunRecord], filters: Iterable[Filter]) -> list[RunRecord]:
    """Runs that meet all conditions, in their order.

    A key is a column of :func:`columns`, a dotted path such as ``config.env_args.map_name`` or
    ``info.engine``, ``last.METRIC``, ``min.METRIC``, ``max.METRIC``, or a config key without the
    part before it (``map_name``). ``a,b`` after ``=`` or ``!=`` means any of them; ``~`` searches for
    a regular expression.

    Raises:
        TrackingError: no run has the key, a short key fits several, or the expression is wrong.
    """
    chosen = list(runs)
    for condition in filters:
        paths = _resolve(condition.key, runs)
        test = _test(condition)
        chosen = [run for run in chosen if test(_value(run, paths))]
    return chosen


def sort(runs: Sequence[RunRecord], key: str, *, reverse: bool = False) -> list[RunRecord]:
    """Runs ordered by a key as for :func:`select`; those without it come last.

    Raises:
        TrackingError: no run has the key, or a short key fits several.
    """
    path = _resolve(key, runs)
    found = [(_value(run, path), run) for run in runs]
    known = [(value, run) for value, run in found if not _is_missing(value)]
    known.sort(key=lambda pair: _order(pair[0]), reverse=reverse)
    return [run for _, run in known] + [run for value, run in found if _is_missing(value)]


def value(run: RunRecord, key: str, runs: Sequence[RunRecord]) -> Any:
    """What a run has under a key as for :func:`select`; None if nothing."""
    found = _value(run, _resolve(key, runs))
    return None if found is _MISSING else found


def columns(run: RunRecord) -> dict[str, Any]:
    """What every run has, by name of its column."""
    return {
        "id": run.run_id,
        "uid": run.uid,
        "name": run.name,
        "task": run.task,
        "seed": run.config.get("seed"),
        "status": run.status,
        "steps": run.steps,
        "result": run.result,
        "duration": run.seconds,
        "started": run.start_time.isoformat(sep=" ", timespec="seconds"),
        "engine": run.info.get("engine"),
        "tags": list(run.tags),
    }


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values of nested dicts under dotted keys, sorted."""
    found: dict[str, Any] = {}
    for key, item in sorted(nested.items()):
        if isinstance(item, dict) and item:
            found |= flat(item, f"{prefix}{key}.")
        else:
            found[prefix + key] = item
    return found


def _document(run: RunRecord) -> dict[str, Any]:
    summary = run.info.get("summary", {})
    numbers = {kind: summary.get(kind, {}) for kind in ("last", "min", "max")}
    return {**columns(run), "config": run.config, "info": run.info, **numbers}


def _resolve(key: str, runs: Sequence[RunRecord]) -> str:
    """The full path a key stands for."""
    if not runs or any(_at(_document(run), key) is not _MISSING for run in runs):
        return key
    known = {name for run in runs for name in flat(run.config)}
    full = sorted(name for name in known if name.endswith("." + key) or name == key)
    if len(full) == 1:
        return f"config.{full[0]}"
    if full:
        raise TrackingError(f"{key!r} could be any of {', '.join('config.' + k for k in full)}")
    words = {*columns(runs[0]), *known, *(name.rpartition(".")[2] for name in known)}
    words |= {f"{kind}.{name}" for kind in ("last", "max") for run in runs for name in run.latest}
    raise TrackingError(
        f"no run has {key!r}.{did_you_mean(key, words)} Keys are {', '.join(columns(runs[0]))}, "
        "config keys, info.KEY, and last.METRIC, min.METRIC or max.METRIC"
    )


def _value(run: RunRecord, path: str) -> Any:
    return _at(_document(run), path)


def _at(nested: Any, path: str) -> Any:
    """The item at a dotted path; keys may hold dots themselves."""
    if not isinstance(nested, Mapping):
        return _MISSING
    if path in nested:
        return nested[path]
    for at in (i for i, letter in enumerate(path) if letter == "."):
        if path[:at] in nested:
            found = _at(nested[path[:at]], path[at + 1 :])
            if found is not _MISSING:
                return found
    return _MISSING


def _is_missing(item: Any) -> bool:
    return item is _MISSING or item is None or (isinstance(item, float) and math.isnan(item))


def _order(item: Any) -> tuple[int, Any]:
    # Numbers before words: the two cannot be compared with each other.
    return (0, item) if isinstance(item, (int, float)) else (1, str(item))


def _test(condition: Filter) -> Any:
    if condition.op == "~":
        try:
            pattern = re.compile(condition.value)
        except re.error as error:
            raise TrackingError(
                f"{condition.key}~{condition.value}: not a regular expression ({error})"
            ) from None
        return lambda item: item is not _MISSING and bool(pattern.search(_text(item)))
    if condition.op in ("=", "!="):
        wanted = [condition.value, *condition.value.split(",")]
        if condition.op == "=":
            return lambda item: any(_equals(item, text) for text in wanted)
        return lambda item: not any(_equals(item, text) for text in wanted)
    return lambda item: _compares(item, condition.op, condition.value)


def _equals(item: Any, text: str) -> bool:
    if item is _MISSING:
        return False
    if isinstance(item, list) and text in map(_text, item):
        return True
    number = _number(text)
    if number is not None and isinstance(item, (int, float)) and not isinstance(item, bool):
        return item == number or (math.isnan(item) and math.isnan(number))
    return _text(item).lower() == text.lower()


def _compares(item: Any, op: str, text: str) -> bool:
    if _is_missing(item):
        return False
    left: Any
    right: Any
    number = _number(text)
    if isinstance(item, (int, float)):
        if number is None:
            return False
        left, right = item, number
    else:
        left, right = _text(item), text
    return bool(
        {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[op]
    )


def _text(item: Any) -> str:
    return "none" if item is None else str(item)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
