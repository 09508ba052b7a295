"""What plays some of a run's environments in a process of its own, whoever started that process."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from ..build import Elsewhere
from ..data.store import EpisodeStore
from ..envs.protocol import Numbered
from ..modules.behaviours.base import Around, Behaviour, Played
from ..modules.policies.base import Seen
from ..seeding import named_seed
from .vector import VectorRunner


@dataclass(frozen=True)
class Task:
    """What one actor does, all its life.

    Attributes:
        elsewhere: makes its environments and what plays in them.
        batch: B, copies of the environment in all.
        copies: how many of them are its own.
        exact: it plays with the numbers that one process playing the batch would have.
        seed: of the run, or of its phase.
        episode_length: as the runner's.
        takes_pieces: as the buffer's.
        optional_fields, frames: see :class:`~.rollout.Rollout`.
        index: which actor it is.
        first: the first of its copies.
        lives: how often it was started again.
    """

    elsewhere: Elsewhere
    batch: int
    copies: int
    exact: bool
    seed: int
    episode_length: int
    takes_pieces: bool
    optional_fields: frozenset[str]
    frames: int
    index: int = 0
    first: int = 0
    lives: int = 0


@dataclass
class Answer:
    """What came of one request.

    Attributes:
        steps: environment steps that were taken.
        broken: episodes in which an environment broke.
        episodes: those that were handed over, whole or in pieces, with the step at which they were.
        ended: a row of statistics and the condition of each that ended, with the step at which it did.
    """

    steps: int
    broken: int
    episodes: list[tuple[int, EpisodeStore]]
    ended: list[tuple[int, tuple[dict[str, float], str]]]


class Outbox:
    """What an actor's runner has for a buffer: keeps what it is given until that is sent."""

    def __init__(self, takes_pieces: bool, first: int) -> None:
        self.takes_pieces, self._first = takes_pieces, first
        self.step = 0
        self.episodes: list[tuple[int, EpisodeStore]] = []

    def insert(self, source: EpisodeStore, rows: NDArray[np.int64]) -> None:
        """Keep ``rows``, numbered as in the whole batch."""
        if len(rows):
            apart = source.apart(rows)
            apart.copies += self._first
            self.episodes.append((self.step, apart))


class InItsPlace(Around):
    """Plays some copies of a batch with the very numbers that playing all of them would give.

    The last bits of a row of a matrix product hang on how many rows there are, and what is drawn for a row
    on those before it. So the copies are shown where they stand in the batch, among repetitions of
    themselves of which nothing is kept. On a CPU small batches cost nearly the same as smaller ones.
    """

    def __init__(self, whole: Behaviour, first: int, copies: int, batch: int) -> None:
        super().__init__(whole)
        self._mine = slice(first, first + copies)
        self._filled = (torch.arange(batch) - first) % copies

    def act(
        self,
        seen: Seen,
        carry: dict[str, Tensor],
        t_env: int,
        test_mode: bool,
        generator: torch.Generator,
    ) -> Played:
        """What these copies do in the whole batch."""
        spread = Seen(*(each[self._filled] for each in seen))
        before = {name: each[self._filled] for name, each in carry.items()}
        played = self.inner.act(spread, before, t_env, test_mode, generator)
        log_prob = None if played.log_prob is None else played.log_prob[self._mine]
        after = {name: each[self._mine] for name, each in played.carry.items()}
        return Played(played.actions[self._mine], after, log_prob)


class Actor:
    """A :class:`~.vector.VectorRunner` over some of the batch's environments, with a copy of what plays."""

    def __init__(self, task: Task, state: dict[str, Any] | None) -> None:
        # A life of its own has battles of its own: what was played already is not played again.
        again = f" life {task.lives}" if task.lives else ""
        env = task.elsewhere.env(task.copies, f"env{again}")
        assert isinstance(env, Numbered)
        env.number_from(task.first)
        self._env = env
        self._behaviour = playing = task.elsewhere.behaviour(env.spec)
        seed = named_seed(task.seed, f"actor {task.index}{again}")
        if task.exact:
            playing = InItsPlace(playing, task.first, task.copies, task.batch)
            seed = seed if again else task.seed
        self._outbox = Outbox(task.takes_pieces, task.first)
        self._runner = VectorRunner(
            VectorRunner.Config(batch_size_run=task.copies, episode_length=task.episode_length),
            env=env,
            behaviour=playing,
            buffer=self._outbox,
            seed=seed,
            device=torch.device("cpu"),
            optional_fields=task.optional_fields,
            frames=task.frames,
        )
        if state is not None:
            # What came from another process may be read and not written to.
            self._runner.load_state_dict(copy.deepcopy(state))

    def play(self, weights: list[Any] | None, t_env: int, steps: int) -> Answer:
        """So many steps of every copy.

        Args:
            weights: what is to play from now on, see :func:`weights_of`; None: what played before.
        """
        if weights is not None:
            load_weights(self._behaviour, weights)
        rollout, outbox = self._runner.rollout, self._outbox
        broken, ended = rollout.broken_episodes, []
        for step in range(steps):
            outbox.step = step
            self._runner.step(t_env)
            of_step = zip(rollout.stats.rows, rollout.stats.conditions, strict=True)
            ended += [(step, one) for one in of_step]
            rollout.stats.clear()
        if outbox.takes_pieces:
            outbox.step = steps
            self._runner.hand_over()
        episodes, outbox.episodes = outbox.episodes, []
        taken = steps * self._env.num_envs
        return Answer(taken, rollout.broken_episodes - broken, episodes, ended)

    def state_dict(self) -> dict[str, Any]:
        """The runner's."""
        return self._runner.state_dict()

    def close(self) -> None:
        """End the environments."""
        self._env.close()


def weights_of(behaviour: Behaviour) -> list[Any]:
    """Everything that a behaviour has learnt, in a fixed order, as views of its memory where possible."""
    policy: Any = behaviour.policy
    leaves = tree_leaves((policy.state_dict(), behaviour.state_dict()))
    return [leaf.cpu().numpy() if isinstance(leaf, Tensor) else leaf for leaf in leaves]


def load_weights(behaviour: Behaviour, weights: list[Any]) -> None:
    """Undo :func:`weights_of`."""
    policy: Any = behaviour.policy
    _, layout = tree_flatten((policy.state_dict(), behaviour.state_dict()))
    leaves = [torch.tensor(leaf) if isinstance(leaf, np.ndarray) else leaf for leaf in weights]
    own, around = tree_unflatten(leaves, layout)
    policy.load_state_dict(own)
    behaviour.load_state_dict(around)
