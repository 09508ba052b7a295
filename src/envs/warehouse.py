"""A dispatcher for the multi-robot warehouse: an honest expert, written by hand.

It looks at the whole warehouse, as a person with a map would, and moves robots by the same five actions as
everyone else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Cell = tuple[int, int]
"""x and y."""

NOOP, FORWARD, LEFT, RIGHT, TOGGLE = range(5)
AHEAD: tuple[Cell, ...] = ((0, -1), (0, 1), (-1, 0), (1, 0))
"""Up, down, left, right, in the library's order of directions."""
TURNED_LEFT = (2, 3, 1, 0)
TURNED_RIGHT = (3, 2, 0, 1)

FAR = 1 << 20
"""Steps to where no path leads."""


def steps_to(goals: Iterable[Cell], free: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Fewest actions from every place and direction to one of ``goals``, (width, height, 4).

    Args:
        free: (width, height) where one may go; goals are free in any case.
    """
    width, height = free.shape
    found = np.full((width, height, 4), FAR, np.int64)
    waiting: deque[tuple[int, int, int]] = deque()
    for x, y in goals:
        found[x, y] = 0
        waiting.extend((x, y, d) for d in range(4))
    while waiting:
        x, y, d = waiting.popleft()
        so_far = found[x, y, d] + 1
        # Who stands a cell back goes forward to here, who looks elsewhere turns.
        before = [(x, y, TURNED_LEFT[d]), (x, y, TURNED_RIGHT[d])]
        bx, by = x - AHEAD[d][0], y - AHEAD[d][1]
        if 0 <= bx < width and 0 <= by < height and free[bx, by]:
            before.append((bx, by, d))
        for place in before:
            if found[place] > so_far:
                found[place] = so_far
                waiting.append(place)
    return found


@dataclass
class _Errand:
    """What a robot is about."""

    shelf: Any = None  # which it is to fetch
    place: Cell | None = None  # where it is to leave the one it carries
    steps: int = 0  # for which it has been about it
    waited: int = 0  # steps since it last did anything


class Dispatcher:
    """Sends every robot of one warehouse where it is needed.

    A robot without a load takes the nearest requested shelf that nobody else is about to fetch, and drives
    below the other shelves. With a requested shelf it drives to a goal, with another one to the nearest empty
    place. Who has been on its errand for longest chooses its next cell first and pushes others out of it, who
    push on in turn (PIBT; Okumura et al., 2022); who has no errand is pushed by all.

    Args:
        game: ``rware.warehouse.Warehouse``.
        seed: decides who goes first where nobody has been under way for longer.
    """

    def __init__(self, game: Any, seed: int) -> None:
        self._game = game
        self._random = np.random.default_rng(seed)
        self._errands: list[_Errand] = []
        height, width = game.grid_size
        self._everywhere = np.ones((width, height), bool)
        self._storage = ~np.asarray(game.highways, bool).T
        self._known: dict[tuple[frozenset[Cell], bytes], NDArray[np.int64]] = {}

    def __call__(self) -> list[int]:
        """An action for each robot (N)."""
        agents = self._game.agents
        if not self._game._cur_steps or len(self._errands) != len(agents):
            self._errands = [_Errand() for _ in agents]
            self._first = self._random.permutation(len(agents))
        goals = [self._goals(i) for i in range(len(agents))]
        free = [self._free(agent) for agent in agents]
        steps = [self._steps(there, where) for there, where in zip(goals, free, strict=True)]
        cells = _Cells(agents, steps, free, [errand.waited for errand in self._errands])
        order = sorted(
            range(len(agents)),
            key=lambda i: (not goals[i], -self._errands[i].steps, self._first[i]),
        )
        for i in order:
            if cells.next[i] is None:
                cells.choose(i, None)
        return [self._action(i, goals[i], cells.next[i]) for i in range(len(agents))]

    def _action(self, i: int, goals: list[Cell], cell: Cell | None) -> int:
        agent, errand = self._game.agents[i], self._errands[i]
        here, shelf = (agent.x, agent.y), agent.carrying_shelf
        errand.steps += 1
        if here in goals and (shelf is None or shelf not in self._game.request_queue):
            self._errands[i] = _Errand()
            return TOGGLE
        errand.waited = errand.waited + 1 if cell in (None, here) else 0
        if cell is None or cell == here:
            return NOOP
        wanted = AHEAD.index((cell[0] - here[0], cell[1] - here[1]))
        if wanted == agent.dir.value:
            return FORWARD
        return LEFT if TURNED_LEFT[agent.dir.value] == wanted else RIGHT

    def _goals(self, i: int) -> list[Cell]:
        """Where a robot is to go; nowhere without an errand."""
        agent, errand = self._game.agents[i], self._errands[i]
        if agent.carrying_shelf is None:
            self._choose_shelf(i)
            return [] if errand.shelf is None else [(errand.shelf.x, errand.shelf.y)]
        errand.shelf = None
        if agent.carrying_shelf in self._game.request_queue:
            errand.place = None
            return list(self._game.goals)
        self._choose_place(i)
        return [] if errand.place is None else [errand.place]

    def _choose_shelf(self, i: int) -> None:
        agent, errand = self._game.agents[i], self._errands[i]
        carried = [a.carrying_shelf for a in self._game.agents]
        others = [e.shelf for j, e in enumerate(self._errands) if j != i]
        there = [s for s in self._game.request_queue if s not in carried and s not in others]
        if errand.shelf not in there:
            pose = _pose(agent)
            far = {s.id: self._steps([(s.x, s.y)], self._everywhere)[pose] for s in there}
            errand.shelf = min(there, key=lambda s: far[s.id], default=None)

    def _choose_place(self, i: int) -> None:
        """The nearest empty place for a shelf that nobody else is about to use."""
        agent, errand = self._game.agents[i], self._errands[i]
        standing = np.asarray(self._game.grid[1], bool).T
        others = {e.place for j, e in enumerate(self._errands) if j != i}
        empty = [c for c in _cells(self._storage & ~standing) if c not in others]
        if (agent.x, agent.y) in _cells(self._storage):
            empty.append((agent.x, agent.y))
        if errand.place not in empty:
            free, pose = self._free(agent), _pose(agent)
            far = {cell: self._steps([cell], free)[pose] for cell in empty}
            errand.place = min(empty, key=lambda cell: far[cell], default=None)

    def _free(self, agent: Any) -> NDArray[np.bool_]:
        """(width, height) where a robot can go: with a load, where no shelf stands that nobody carries."""
        if agent.carrying_shelf is None:
            return self._everywhere
        free: NDArray[np.bool_] = ~np.asarray(self._game.grid[1], bool).T
        for other in self._game.agents:
            if other.carrying_shelf is not None:
                free[other.x, other.y] = True
        return free

    def _steps(self, goals: list[Cell], free: NDArray[np.bool_]) -> NDArray[np.int64]:
        key = (frozenset(goals), free.tobytes())
        if key not in self._known:
            if len(self._known) > 2000:
                self._known.clear()
            self._known[key] = steps_to(goals, free)
        return self._known[key]


class _Cells:
    """The cells in which robots are to be next, no two in one and no two changing places."""

    def __init__(
        self,
        agents: list[Any],
        steps: list[NDArray[np.int64]],
        free: list[NDArray[np.bool_]],
        waited: list[int],
    ) -> None:
        self._agents, self._steps, self._free, self._waited = agents, steps, free, waited
        self._at = {(agent.x, agent.y): i for i, agent in enumerate(agents)}
        self._reserved: dict[Cell, int] = {}
        self.next: list[Cell | None] = [None] * len(agents)

    def choose(self, i: int, pusher: int | None) -> bool:
        """Reserve the best cell that robot ``i`` can have; whether it makes way for its ``pusher``."""
        here = (self._agents[i].x, self._agents[i].y)
        for cell in self._by_steps(i):
            swap = pusher is not None and cell == (self._agents[pusher].x, self._agents[pusher].y)
            if cell in self._reserved or swap:
                continue
            self._reserved[cell], self.next[i] = i, cell
            other = self._at.get(cell, i)
            waits = other != i and self.next[other] is None
            if not waits or self.choose(other, i):
                return True
        self._reserved[here], self.next[i] = i, here
        return False

    def _by_steps(self, i: int) -> list[Cell]:
        """Cells that a robot can be in next, those first that leave the fewest actions to its goal."""
        agent, steps, free = self._agents[i], self._steps[i], self._free[i]
        x, y, d = _pose(agent)
        # The longer it has waited, the longer a way around may be.
        found = [(int(steps[x, y, d]) + 1 + self._waited[i], 0, (x, y))]
        for wanted, (dx, dy) in enumerate(AHEAD):
            cell = x + dx, y + dy
            if not (0 <= cell[0] < free.shape[0] and 0 <= cell[1] < free.shape[1] and free[cell]):
                continue
            turns = 0 if wanted == d else 1 if wanted in (TURNED_LEFT[d], TURNED_RIGHT[d]) else 2
            left = turns + 1 + int(steps[cell[0], cell[1], wanted])
            found.append((left, 1 if cell in self._at else 0, cell))
        return [cell for *_, cell in sorted(found)]


def _pose(agent: Any) -> tuple[int, int, int]:
    return agent.x, agent.y, agent.dir.value


def _cells(where: NDArray[np.bool_]) -> list[Cell]:
    return [(int(x), int(y)) for x, y in np.argwhere(where)]
