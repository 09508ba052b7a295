"""The loop: collect, learn, test, log, checkpoint. Every algorithm runs in it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from .build import Parts
from .checkpoint import restoring, save_checkpoint
from .config import Composed
from .data.dataset.description import spec_to_json
from .errors import CheckpointError, DivergedError
from .evaluation import Tester, score
from .finite import first_not_finite
from .interrupt import Interrupt

log = logging.getLogger("phalanx.training")


class Tracker(Protocol):
    """Where numbers go and what the user sees while a run is on."""

    def log_many(self, metrics: Mapping[str, float], t_env: int, prefix: str = "") -> None:
        """Record scalars."""
        ...

    def update(self, t_env: int, n_updates: int) -> None:
        """Move the progress display on."""
        ...

    def report(self, t_env: int, split: Mapping[str, float]) -> None:
        """One line on how it goes; ``split`` is the share of time per activity."""
        ...

    def flush(self) -> int | None:
        """Put everything logged so far where a kill cannot reach it.

        Returns:
            How far the record has come; None if the disk did not take all of it.
        """
        ...


class Clock:
    """Says when something that happens every ``interval`` ticks of the run's clock is due."""

    def __init__(self, interval: int, first: int) -> None:
        self.interval, self.next = interval, first

    def due(self, t_env: int) -> bool:
        """True once per interval; late calls do not pile up."""
        if t_env < self.next:
            return False
        self.next += self.interval * ((t_env - self.next) // self.interval + 1)
        return True


class Trainer:
    """One training run, or one phase of a run.

    Args:
        composed: what to run.
        parts: what :func:`~phalanx.build.build` made of it.
        tracker: takes metrics and shows progress.
        folder: the run's folder; checkpoints go to ``folder/checkpoints``.
    """

    def __init__(self, composed: Composed, parts: Parts, tracker: Tracker, folder: Path) -> None:
        self.composed, self.parts = composed, parts
        # Numbers of the last phase have their plain names, as of a run without phases.
        self._prefix = "" if composed.following is None else f"{composed.run.phase}_"
        self.tracker, self.folder = tracker, folder
        run = self.run_config = composed.run
        self.tester = Tester(composed, parts.behaviour, parts.device, run.test_nepisode)
        self.t_env = 0
        self.n_updates = 0
        self.best_score: tuple[float, float] | None = None
        self._tested: tuple[int, dict[str, float]] | None = (
            None  # step and metrics of the last test
        )
        self._logged_at = self._saved_at = 0
        self.clocks = {
            "test": Clock(run.test_interval, 0),
            "log": Clock(run.log_interval, run.log_interval),
            "save": Clock(run.save_model_interval, run.save_model_interval),
        }
        self._seconds = {"learn": 0.0, "test": 0.0, "log": 0.0}

    def run(self) -> dict[str, float]:
        """Train to ``t_max``; returns the last test's metrics.

        Raises:
            KeyboardInterrupt: the user or a scheduler stopped it; a checkpoint was written.
            DivergedError: a loss, a gradient, a weight or a number of an environment was not finite.
        """
        self._reported = time.perf_counter()
        try:
            if self.parts.recorder is not None:
                self.parts.recorder.begin(self.folder.name)
            with Interrupt(saves=self.run_config.save_model) as interrupt:
                while self.t_env < self.run_config.t_max:
                    self._step()
                    if interrupt.asked:
                        self._save_if_wanted()
                        raise interrupt.asked
                    interrupt.patient = True  # from here on a stop has something to save
            latest = self._test()
            if self._logged_at < self.t_env:
                self._log()
            self._save_if_wanted()
            return latest
        except DivergedError as error:
            raise DivergedError(f"{error} {self._what_is_kept()}") from error
        finally:
            self.close()

    @property
    def unit(self) -> str:
        """What the run's clock counts."""
        return self.parts.runner.unit

    @property
    def now(self) -> str:
        """How far the run is: ``step 1000``, or ``update 500 of phase offline``."""
        phase = self.run_config.phase
        return f"{self.unit} {self.t_env}" + (f" of phase {phase}" if phase else "")

    @property
    def last_test(self) -> dict[str, float]:
        """Means over the episodes of the last test, nothing before the first."""
        return {} if self._tested is None else self._tested[1]

    def _what_is_kept(self) -> str:
        """Where a run that diverged can be taken up, in a sentence."""
        folder = self.folder / "checkpoints" / "latest"
        if not folder.exists():
            return (
                f"The run ends at {self.now}. It has no checkpoint, as it had not come to "
                f"save_model_interval={self.run_config.save_model_interval} or has save_model=False."
            )
        return (
            f"The run ends at {self.now}. Its last finite checkpoint, of {self.unit} {self._saved_at}, is "
            f"kept in {folder}."
        )

    def _step(self) -> None:
        """Test if due, collect, learn, and what else is due."""
        if self.clocks["test"].due(self.t_env):
            self._test()
        self.t_env += self.parts.runner.collect(self.t_env)
        self._learn()
        if self.clocks["log"].due(self.t_env):
            self._log()
        if self.clocks["save"].due(self.t_env):
            self._save_if_wanted()
        self.tracker.update(self.t_env, self.n_updates)

    def _save_if_wanted(self) -> None:
        if self.run_config.save_model:
            self.save()

    def close(self) -> None:
        """Free environments and their processes."""
        self.parts.runner.close()
        self.parts.env.close()
        self.tester.close()
        if self.parts.recorder is not None:
            self.parts.recorder.close()

    def _learn(self) -> None:
        """As many updates as the steps taken so far are worth."""
        start = time.perf_counter()
        for batch in self.parts.buffer.batches(self.t_env):
            self.parts.learner.learn(batch.to(self.parts.device), self.t_env)
            self.n_updates += 1
        self._seconds["learn"] += time.perf_counter() - start

    def _test(self) -> dict[str, float]:
        """Test, unless that was done at this very step: at the end of a run that now goes on."""
        if self._tested is not None and self._tested[0] == self.t_env:
            return self._tested[1]
        start = time.perf_counter()
        self.tester.play(self.t_env)
        metrics = self.tester.means()
        self.tracker.log_many(metrics, self.t_env, prefix=f"{self._prefix}test_")
        if self.best_score is None or score(metrics) > self.best_score:
            self.best_score = score(metrics)
            if self.run_config.save_model and self.t_env > 0:
                self._write("best", self._networks())
        self._seconds["test"] += time.perf_counter() - start
        self._tested = self.t_env, metrics
        return metrics

    def _log(self) -> None:
        start = time.perf_counter()
        metrics = self.parts.runner.metrics()
        metrics |= self.parts.learner.metrics()
        metrics |= self.parts.behaviour.metrics(self.t_env)
        metrics |= self.parts.buffer.metrics()
        metrics["n_updates"] = float(self.n_updates)
        elapsed = time.perf_counter() - self._reported
        self.tracker.log_many(metrics, self.t_env, prefix=self._prefix)
        self._seconds["log"] += time.perf_counter() - start
        self.tracker.report(self.t_env, self._split(elapsed))
        self._reported, self._logged_at = time.perf_counter(), self.t_env

    def _split(self, elapsed: float) -> dict[str, float]:
        """Share of the time since the last report spent on each activity."""
        seconds = self.parts.runner.seconds | self._seconds
        for clock in (self.parts.runner.seconds, self._seconds):
            for name in clock:
                clock[name] = 0.0
        return {name: value / max(elapsed, 1e-9) for name, value in seconds.items()}

    # --- checkpoints ---

    def save(self) -> None:
        """Write ``checkpoints/latest``: everything needed to continue bit for bit.

        Raises:
            DivergedError: a weight is not finite; the checkpoint before is kept.
        """
        start = time.perf_counter()
        # A run continued from here never logs again what came before.
        recorded = self.tracker.flush()
        if recorded is None:
            log.warning(
                "no checkpoint at %s: the disk does not have all points before it yet, and a run "
                "continued from there would lack them. The older checkpoint is kept.",
                self.now,
            )
            return
        state = self._networks() | {
            "learner": self.parts.learner.state_dict(),
            "runner": self.parts.runner.state_dict(),
            "tester": self.tester.state_dict(),
            "replay": self.parts.buffer.state_dict(contents=self.run_config.save_buffer),
            "torch_rng": torch.get_rng_state(),
        }
        if self.parts.recorder is not None:
            state["recorder"] = self.parts.recorder.state_dict()
        self._write("latest", state, recorded)
        kept = f"{self._prefix}step_{self.t_env}"
        if self.run_config.keep_models and not (self.folder / "checkpoints" / kept).exists():
            self._write(kept, self._networks())
        self._seconds["log"] += time.perf_counter() - start

    def _networks(self) -> dict[str, Any]:
        """What it takes to play, and to know how far the run was."""
        around = self.parts.behaviour.state_dict()
        return {
            "policy": self.parts.policy.state_dict(),
            **({"behaviour": around} if around else {}),
            "spec": spec_to_json(self.parts.spec),
            "counters": {
                "t_env": self.t_env,
                "n_updates": self.n_updates,
                "best_score": self.best_score,
                "tested": self._tested,
                "logged_at": self._logged_at,
                "clocks": {name: clock.next for name, clock in self.clocks.items()},
            },
        }

    def _write(self, name: str, state: Mapping[str, Any], recorded: int | None = None) -> None:
        """A checkpoint that cannot be written must not end the run it was to protect."""
        trained = {
            part: state[part] for part in ("policy", "behaviour", "learner") if part in state
        }
        if (where := first_not_finite(trained)) is not None:
            raise DivergedError(
                f"{where} is not finite at {self.now}, so no checkpoint is made of it: the run has "
                "diverged. Try a smaller learning rate (lr), or a smaller grad_norm_clip."
            )
        folder = self.folder / "checkpoints" / name
        try:
            save_checkpoint(folder, self.composed.nested(), self.t_env, state, recorded)
            if name == "latest":
                self._saved_at = self.t_env
        except OSError as error:
            log.warning(
                "checkpoint %s at %s could not be written (%s); the run goes on, the older "
                "checkpoint is kept. Free some space, or set save_buffer=False for smaller ones.",
                folder,
                self.now,
                error,
            )

    def load(self, state: Mapping[str, Any], *, same_run: bool = True) -> None:
        """Continue from what :meth:`save` wrote.

        Args:
            state: of a checkpoint.
            same_run: its record goes on, too. A new record begins with a test of its own.

        Raises:
            CheckpointError: it lacks something this run needs, or its shapes are of another config.
        """
        wanted = {"policy", "counters", "learner", "runner", "tester", "replay", "torch_rng"}
        missing = wanted - set(state)
        if missing:
            raise CheckpointError(
                f"the checkpoint lacks {', '.join(sorted(missing))}: it holds networks only (kept for "
                "`evaluate`). Continue from checkpoints/latest of the run."
            )
        with restoring():
            learner = self.parts.learner
            learner.load_state_dict(_with_options_of(learner.state_dict(), state["learner"]))
            self.parts.policy.load_state_dict(state["policy"])
            self.parts.behaviour.load_state_dict(state.get("behaviour", {}))
            self.parts.runner.load_state_dict(state["runner"])
            self.tester.load_state_dict(state["tester"])
            self.parts.buffer.load_state_dict(state["replay"])
            torch.set_rng_state(state["torch_rng"])
            counters = state["counters"]
            self.t_env, self.n_updates = counters["t_env"], counters["n_updates"]
            self.best_score, self._tested = counters["best_score"], counters["tested"]
            self._logged_at, self._saved_at = counters["logged_at"], counters["t_env"]
            for name, clock in self.clocks.items():
                clock.next = counters["clocks"][name]
        if same_run and self.parts.recorder is not None:
            self.parts.recorder.load_state_dict(state.get("recorder"))
        if not same_run:
            self._tested, self._logged_at = None, self.t_env


def _with_options_of(built: Any, saved: Any) -> Any:
    """The saved state of a learner with the options (``lr`` ...) that its optimisers were built with.

    An optimiser's state has its options in it, so that what a continued run asks for would have no effect.
    """
    if isinstance(built, list) and isinstance(saved, list) and len(built) == len(saved):
        return [_with_options_of(new, old) for new, old in zip(built, saved, strict=True)]
    if not isinstance(built, Mapping) or not isinstance(saved, Mapping):
        return saved
    if "param_groups" not in saved:
        return {key: _with_options_of(built.get(key), value) for key, value in saved.items()}
    groups = [
        new | {"params": old["params"]}
        for new, old in zip(built["param_groups"], saved["param_groups"], strict=True)
    ]
    return {**saved, "param_groups": groups}
