"""How far a sweep is: its rows, what became of them, and how long the rest will take."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table as RichTable

from ..errors import ConfigError
from ..tracking.console import duration
from ..tracking.plots import DEFAULT_METRICS
from ..tracking.record import SpooledRun
from ..tracking.stats import interquartile_mean
from ..tracking.views import console
from .claims import DONE, FAILED, PRUNED, Claims, Standing
from .rows import Row
from .table import Table
from .tuning import trials
from .worker import last_step

RUNNING, WAITING = "running", "waiting"
_SHOWN_ROWS = 12


@dataclass(frozen=True)
class RowState:
    """One row now.

    Attributes:
        row: which.
        phase: waiting, running, done, failed or pruned.
        step: environment steps done.
        rate: steps per second of whoever has or had it last; 0 where that is unknown.
        sentence: what it failed with.
        scores: last value of each metric.
    """

    row: Row
    phase: str
    step: int
    rate: float
    sentence: str
    scores: dict[str, float]

    @property
    def left(self) -> int:
        """Steps to go."""
        return max(self.row.t_max - self.step, 0) if self.phase in (RUNNING, WAITING) else 0


def states(table: Table) -> list[RowState]:
    """Every row of a sweep."""
    claims = Claims(table.directory, table.stale_after)
    standings = claims.standings()
    now = claims.time()
    return [_state(table, row, standings.get(row.number, Standing()), now) for row in table.rows]


def _state(table: Table, row: Row, standing: Standing, now: float) -> RowState:
    folder = table.run_folder(row)
    if standing.number < 0:
        return RowState(row, WAITING, 0, 0.0, "", {})
    said, owner = standing.said or {}, standing.owner or {}
    recorded = SpooledRun.read(folder)
    summary = {} if recorded is None else recorded.info.get("summary", {})
    scores = {
        name: float(value)
        for name, value in summary.get("last", {}).items()
        if isinstance(value, int | float)
    }
    if standing.alive:
        step = max(int(summary.get("steps", 0)), last_step(folder))
        seconds = now - float(owner.get("began", now))
        rate = (step - int(owner.get("step", 0))) / seconds if seconds > 0 else 0.0
        return RowState(row, RUNNING, step, max(rate, 0.0), "", scores)
    phase = WAITING if standing.free else standing.end
    step = row.t_max if phase == DONE else last_step(folder)
    seconds = float(said.get("seconds") or 0)
    rate = float(said.get("steps") or 0) / seconds if seconds > 0 else 0.0
    sentence = str(said.get("sentence") or "") if phase == FAILED else ""
    return RowState(row, phase, step, max(rate, 0.0), sentence, scores)


def seconds_left(rows: Sequence[RowState]) -> float:
    """How long the rest takes with the workers there are, or one: steps to go by steps per second.

    A row that has no rate of its own is taken to be as fast as others of its group, else as all others; NaN
    where nothing is known yet.
    """
    known = [state for state in rows if state.rate > 0]
    if not known:
        return 0.0 if not any(state.left for state in rows) else math.nan
    everywhere = statistics.median(state.rate for state in known)
    of_group: dict[int, float] = {}
    for group in {state.row.group for state in known}:
        of_group[group] = statistics.median(s.rate for s in known if s.row.group == group)
    work = [
        state.left / (state.rate or of_group.get(state.row.group, everywhere))
        for state in rows
        if state.left
    ]
    workers = max(sum(state.phase == RUNNING for state in rows), 1)
    return max(sum(work) / workers, max(work, default=0.0))


def in_a_line(table: Table, rows: Sequence[RowState]) -> str:
    """Counts and the time left."""
    counts = Counter(state.phase for state in rows)
    phases = [DONE, RUNNING, FAILED, PRUNED, WAITING]
    told = [f"{counts[phase]} {phase}" for phase in phases if counts[phase] or phase == DONE]
    line = f"{table.name}: {len(rows)} rows, {', '.join(told)}"
    if not counts[RUNNING] and not counts[WAITING]:
        return line
    workers = counts[RUNNING]
    at_work = f"{workers} at work" if workers else "nobody at work"
    return f"{line}; about {duration(seconds_left(rows))} left with {max(workers, 1)} ({at_work})"


def picture(table: Table, rows: Sequence[RowState]) -> RenderableType:
    """All of it as a table, for the terminal."""
    parts: list[RenderableType] = [in_a_line(table, rows)]
    parts.append(_groups(rows) if table.plan.tune is None else _trials(table))
    running = [state for state in rows if state.phase == RUNNING]
    if running:
        shown = _grid("row", "running", "steps", "steps/s", "left")
        for state in running[:_SHOWN_ROWS]:
            left = state.left / state.rate if state.rate else math.nan
            shown.add_row(
                str(state.row.number),
                state.row.label,
                f"{state.step:,}/{state.row.t_max:,}",
                f"{state.rate:,.0f}" if state.rate else "?",
                duration(left),
            )
        parts.append(shown)
    failed = [state for state in rows if state.phase == FAILED]
    if failed:
        shown = _grid("row", "failed", "with")
        for state in failed[:_SHOWN_ROWS]:
            shown.add_row(str(state.row.number), state.row.label, state.sentence)
        parts.append(shown)
        if len(failed) > _SHOWN_ROWS:
            parts.append(f"and {len(failed) - _SHOWN_ROWS} more")
        parts.append(f"Run them again with: phalanx sweep status {table.directory} --rerun failed")
    return Group(*parts)


def print_status(table: Table) -> None:
    """:func:`picture` of now."""
    console().print(picture(table, states(table)), markup=False, highlight=False)


def rerun_rows(table: Table, which: str) -> list[Row]:
    """Let rows that failed run again, from their last checkpoint if they have one.

    Args:
        table: of the sweep.
        which: ``failed``, or numbers of rows with commas between.

    Raises:
        ConfigError: neither; or a row has not failed.
    """
    failed = {state.row.number: state.row for state in states(table) if state.phase == FAILED}
    chosen = list(failed)
    if which != FAILED:
        numbers = which.split(",")
        if not all(number.isdigit() for number in numbers):
            raise ConfigError(f"--rerun {which}: expected `failed`, or numbers of rows as 3,7")
        chosen = [int(number) for number in numbers]
        if wrong := [number for number in chosen if number not in failed]:
            raise ConfigError(
                f"--rerun {which}: row {wrong[0]} has not failed; nothing was changed"
            )
    claims = Claims(table.directory, table.stale_after)
    standings = claims.standings()
    return [failed[number] for number in chosen if claims.free(number, standings[number])]


def _groups(rows: Sequence[RowState]) -> RichTable:
    metric = next((m for m in DEFAULT_METRICS if any(m in s.scores for s in rows)), "")
    shown = _grid("runs", DONE, RUNNING, FAILED, "of", *([f"last {metric}, IQM"] if metric else []))
    groups: dict[int, list[RowState]] = {}
    for state in rows:
        groups.setdefault(state.row.group, []).append(state)
    for members in groups.values():
        counts = Counter(state.phase for state in members)
        values = [s.scores[metric] for s in members if s.phase == DONE and metric in s.scores]
        score = f"{interquartile_mean(np.array(values)):.3f}" if values else ""
        shown.add_row(
            without_seed(members[0].row.label) or "all",
            *(str(counts[phase] or "") for phase in (DONE, RUNNING, FAILED)),
            str(len(members)),
            *([score] if metric else []),
        )
    return shown


def _trials(table: Table) -> RichTable:
    found = trials(table)
    shown = _grid(*(found[0] if found else ("no trial yet",)))
    for trial in found[:_SHOWN_ROWS]:
        shown.add_row(
            *(
                "" if v is None else f"{v:.4g}" if isinstance(v, float) else str(v)
                for v in trial.values()
            )
        )
    return shown


def without_seed(label: str) -> str:
    """What a group of rows is called."""
    return " ".join(word for word in label.split() if not word.startswith("seed="))


def _grid(*columns: str) -> RichTable:
    table = RichTable(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
