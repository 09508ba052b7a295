"""A run's phases, one after another.

What goes on from one phase to the next: the parts under the learner that both choose alike with the same
keys (:func:`~.config.phases.handed_on`: the policy always; critic, mixer or world model where they are the
same), and the scale that a critic's values are in. What is new: learner and optimisers, buffer, runner,
behaviour, the clock, environments, and all random streams, which follow from the run's seed and the phase's
name. The first phase is, number for number, a run of its own.
"""

from __future__ import annotations

from pathlib import Path

import torch

from .build import build
from .config import Composed
from .training import Tracker, Trainer


class Phases:
    """The trainer of the phase that a run is in; a run without phases is a single one.

    All later phases are built once, to see that they can be, and thrown away.

    Args:
        composed: the run, in the phase it begins or goes on in.
        tracker: takes metrics and shows progress.
        folder: the run's folder.
    """

    def __init__(self, composed: Composed, tracker: Tracker, folder: Path) -> None:
        self.trainer = Trainer(composed, build(composed), tracker, folder)
        self._try_later_ones()

    @property
    def composed(self) -> Composed:
        """The run, in its present phase."""
        return self.trainer.composed

    def follow(self) -> bool:
        """Go on to the next phase, when the present one has ended; False if that was the last."""
        one, other = self.trainer, self.composed.following
        if other is None:
            return False
        parts = build(other, (one.composed, one.parts))
        self.trainer = Trainer(other, parts, one.tracker, one.folder)
        self.trainer.best_score = one.best_score
        return True

    def _try_later_ones(self) -> None:
        one, parts = self.composed, self.trainer.parts
        with torch.random.fork_rng(devices=[]):
            while (other := one.following) is not None:
                parts = build(other, (one, parts))
                parts.env.close()
                one = other
