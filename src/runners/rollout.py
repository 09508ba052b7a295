"""A behaviour playing in a batch of environments, one step at a time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.store import EpisodeStore
from ..envs.protocol import Env, Timestep
from ..modules.behaviours.base import Behaviour
from ..modules.policies.base import Condition, Seen


class EpisodeStats:
    """Sums over finished episodes, reported under PyMARL's names.

    Attributes:
        rows: numbers of each episode.
        conditions: name of the condition that each was played under.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.conditions: list[str] = []

    def add(self, row: dict[str, float], condition: str = "") -> None:
        """One finished episode; a number that others lack is 0 in theirs."""
        self.conditions.append(condition)
        if self.rows and row.keys() != self.rows[0].keys():
            names = list(dict.fromkeys([*self.rows[0], *row]))
            self.rows = [{name: old.get(name, 0.0) for name in names} for old in self.rows]
            row = {name: row.get(name, 0.0) for name in names}
        self.rows.append(row)

    def means(self, condition: str | None = None) -> dict[str, float]:
        """``return_mean, return_std, ep_length_mean, <info>_mean`` of what was added.

        Args:
            condition: name of one of the conditions; None: all.
        """
        rows = [
            row
            for row, name in zip(self.rows, self.conditions, strict=True)
            if condition in (None, name)
        ]
        if not rows:
            return {}
        columns = {key: np.array([row[key] for row in rows]) for key in rows[0]}
        means = {f"{key}_mean": float(values.mean()) for key, values in columns.items()}
        means["return_std"] = float(columns["return"].std())
        return means

    def clear(self) -> None:
        """Start over."""
        self.rows, self.conditions = [], []


class Rollout:
    """B open episodes: acts in them, files what happens, says which ones finished.

    Args:
        env: the batch of environments; its copies are this object's alone.
        behaviour: chooses actions.
        generator: draws the exploration noise.
        device: where it lives.
        optional_fields: batch fields kept only on request.
        keep_carry: file what the policy remembers at the start of each row, and the ``reward`` before it, for
            rows that begin within an episode.
        frames: most observations and states that any part sees at once; those before the start of each row
            are then filed too (see :meth:`~phalanx.data.batch.EpisodeBatch.frames`).
    """

    def __init__(
        self,
        env: Env,
        behaviour: Behaviour,
        generator: torch.Generator,
        device: torch.device,
        optional_fields: frozenset[str] = frozenset(),
        keep_carry: bool = False,
        frames: int = 1,
    ) -> None:
        self.env, self.behaviour, self.device = env, behaviour, device
        B = env.num_envs
        self._carry = behaviour.init_carry(B, device)
        # What was earned last belongs to what is known before a row: no entry of the row has it.
        before = {**self._carry, "reward": torch.zeros(B)} if keep_carry else None
        self._frames_before = frames - 1 if keep_carry else 0
        if before is not None and frames > 1:
            shown = {"obs": (env.spec.n_agents, env.spec.obs_dim), "state": (env.spec.state_dim,)}
            for name, shape in shown.items():
                before[f"{name}_before"] = torch.zeros(B, frames - 1, *shape)
        self.store = EpisodeStore(B, env.spec, optional=optional_fields, carry=before)
        self.stats = EpisodeStats()
        self.seconds = {"env": 0.0, "act": 0.0}
        self.broken_episodes = 0
        self._generator = generator
        self._t = np.zeros(B, np.int64)  # steps in the store's row
        self._steps = np.zeros(B, np.int64)  # steps of the episode
        self._return = np.zeros(B, np.float64)
        self._conditions = [""] * B
        self._seen: Timestep | None = None
        self._everyone = torch.ones(B, env.spec.n_agents, dtype=torch.bool)

    @property
    def started(self) -> bool:
        """Whether any episode was begun."""
        return self._seen is not None

    def restart(
        self, mask: NDArray[np.bool_], conditions: Sequence[Condition] | None = None
    ) -> None:
        """Begin a new episode in the copies where ``mask`` (B,) is true.

        Args:
            conditions: what each of these is played under; default: as the behaviour begins.
        """
        start = time.perf_counter()
        self._seen = self.env.reset(mask)
        rows = np.flatnonzero(mask)
        self._steps[rows] = 0
        self._return[rows] = 0
        at = torch.from_numpy(rows).to(self.device)
        fresh = self.behaviour.init_carry(len(rows), self.device, self._generator)
        for name, tensor in self._carry.items():
            tensor[at] = fresh[name]
        for b, condition in zip(rows.tolist(), conditions or (), strict=bool(conditions)):
            self._conditions[b] = condition.name
            for name, value in condition.carry.items():
                self._carry[name][b] = value
        self.cut(rows)
        self.seconds["env"] += time.perf_counter() - start

    def cut(self, rows: NDArray[np.int64]) -> None:
        """Empty ``rows`` (R,) of the store; their episodes go on from where they are."""
        assert self._seen is not None, "restart() comes first"
        before = self._carry | self._before()
        self._t[rows] = 0
        self.store.lengths[rows] = 0
        self.store.begins[rows] = self._steps[rows]
        self.store.write_seen(rows, self._t[rows], self._seen)
        self.store.write_carry(rows, before | {"reward": self._last_reward(self._seen)})

    def step(self, active: NDArray[np.bool_], t_env: int, test_mode: bool) -> NDArray[np.bool_]:
        """One step in the copies where ``active`` (B,) is true.

        Returns:
            (B,) bool: active copies whose episode ended with this step. Their rows in :attr:`store` are
            complete; those of broken episodes have length 0.
        """
        assert self._seen is not None, "restart() comes first"
        start = time.perf_counter()
        played = self.behaviour.act(
            self._shown(self._seen), self._carry, t_env, test_mode, self._generator
        )
        self._carry = played.carry
        taken = played.actions.cpu().numpy()
        log_prob = None if played.log_prob is None else played.log_prob.cpu().numpy()
        acted = time.perf_counter()
        self._seen = after = self.env.step(taken)
        rows = np.flatnonzero(active)
        self.store.write_taken(rows, self._t[rows], taken, after, log_prob)
        self._t[rows] += 1
        self._steps[rows] += 1
        self._return[rows] += after.reward[rows]
        self.store.write_seen(rows, self._t[rows], after)
        done: NDArray[np.bool_] = active & (after.terminated | after.truncated)
        if done.any():
            self._finish(np.flatnonzero(done), after)
        self.seconds["act"] += acted - start
        self.seconds["env"] += time.perf_counter() - acted
        return done

    def _shown(self, seen: Timestep) -> Seen:
        """What the policy may look at, on its device."""
        obs, state, avail = map(torch.from_numpy, (seen.obs, seen.state, seen.avail_actions))
        alive = self._everyone if seen.alive is None else torch.from_numpy(seen.alive)
        return Seen(
            obs.to(self.device),
            state.to(self.device),
            avail.to(self.device, torch.bool),
            alive.to(self.device),
            self._last_reward(seen).to(self.device),
        )

    def _before(self) -> dict[str, torch.Tensor]:
        """What was seen before the present step, (B, frames - 1, ...) by name; zeros before an episode."""
        j = self._frames_before
        if not j:
            return {}
        assert self.store.carry is not None
        # Entries of the row as it is; those below 0 were filed when it began.
        entry, row = self._t[:, None] + np.arange(-j, 0), np.arange(len(self._t))[:, None]
        exists = self._steps[:, None] + np.arange(-j, 0) >= 0
        found = {}
        for name in ("obs", "state"):
            own = self.store.arrays[name][row, entry.clip(0)]
            older = self.store.carry[f"{name}_before"].numpy()[row, (entry + j).clip(0, j - 1)]
            axes = (...,) + (None,) * (own.ndim - 2)
            seen = np.where((entry >= 0)[axes], own, older) * exists[axes]
            found[f"{name}_before"] = torch.from_numpy(seen)
        return found

    def _last_reward(self, seen: Timestep) -> torch.Tensor:
        """(B,) of the step before; copies that were just reset may show that of the episode before."""
        return torch.from_numpy(np.where(self._steps > 0, seen.reward, np.float32(0)))

    def _finish(self, rows: NDArray[np.int64], after: Timestep) -> None:
        broken = after.info.get("broken")
        for b in rows.tolist():
            if broken is not None and broken[b]:
                self.store.lengths[b] = 0
                self.broken_episodes += 1
                continue
            outcome = {k: float(v[b]) for k, v in after.info.items() if k != "broken"}
            self.store.outcomes[b] = outcome
            row = {"return": float(self._return[b]), "ep_length": float(self._steps[b])}
            self.stats.add(row | outcome, self._conditions[b])

    def state_dict(self) -> dict[str, Any]:
        """Open episodes, carried state, environments and generator."""
        return {
            "env": self.env.state_dict(),
            "carry": self._carry,
            "t": self._t,
            "steps": self._steps,
            "return": self._return,
            "generator": self._generator.get_state(),
            "stats": self.stats.rows,
            "conditions": self.stats.conditions,
            "broken_episodes": self.broken_episodes,
            "seen": None if self._seen is None else self._seen._asdict(),
            "open": self.store.pack(np.arange(self.env.num_envs)),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state_dict`."""
        self.env.load_state_dict(state["env"])
        self._carry = {k: v.to(self.device) for k, v in state["carry"].items()}
        self._t, self._steps = state["t"].copy(), state["steps"].copy()
        self._return = state["return"].copy()
        self._generator.set_state(state["generator"])
        self.stats.rows = list(state["stats"])
        self.stats.conditions = list(state.get("conditions", [""] * len(self.stats.rows)))
        self.broken_episodes = state["broken_episodes"]
        self.store.unpack(np.arange(self.env.num_envs), state["open"])
        self.store.begins = self._steps - self._t
        self._seen = None if state["seen"] is None else Timestep(**state["seen"])


def play_episodes(
    rollout: Rollout,
    rows: NDArray[np.bool_],
    t_env: int,
    test_mode: bool,
    conditions: Sequence[Condition] | None = None,
) -> int:
    """Play one whole episode in each copy of ``rows`` (B,), under its condition; returns the steps taken."""
    rollout.restart(rows, conditions)
    active, steps = rows.copy(), 0
    while active.any():
        steps += int(active.sum())
        active &= ~rollout.step(active, t_env, test_mode)
    return steps
