"""Batches that a world model imagines: what the policy would do next, in rounds with the model's training."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from ..envs.protocol import EnvSpec
from ..errors import BufferMemoryError
from ..learners.simulation import SimulatorLearner, TokenizerLearner
from ..modules.policies.base import Policy, Seen
from ..modules.tokenizers.base import Tokenizer
from ..modules.world_models.base import Simulator
from ..modules.world_models.imagination import (
    Generators,
    Start,
    foresight,
    imagine,
    state_of,
    together,
)
from ..registry import BUFFERS, PartConfig
from ..seeding import named_generator
from .batch import EpisodeBatch
from .codes import StoredCodes
from .memory import free_on, gib
from .replay import EpisodeReplay
from .store import EpisodeStore

log = logging.getLogger("phalanx.data")

FORESEEN = 32
"""Windows of real episodes that foresight is measured on."""


@BUFFERS.register("imagination")
class Imagination:
    """What the policy would do next in the world as a model, trained in rounds, imagines it.

    Real episodes are kept. After each ``round_steps`` more steps a round trains the tokenizer, then the world
    model, then gives the learner ``batches`` of imagined rows, each by the policy as the one before has made
    it. Rows begin at steps of real episodes, all equally likely.
    """

    class Config(PartConfig):
        buffer_size: int = Field(5000, ge=1, description="real episodes kept")
        obs_dtype: Literal["auto", "float16", "float32"] = Field(
            "auto", description="type their observations are kept in, see buffer episode_replay"
        )
        min_steps: int = Field(1000, ge=1, description="environment steps before the first round")
        round_steps: int = Field(
            100, ge=1, description="environment steps between rounds, at least"
        )
        tokenizer_updates: int = Field(200, ge=0, description="of the tokenizer, in a round")
        tokenizer_batch: int = Field(256, ge=1, description="steps of each of them, of all agents")
        tokenizer_lr: float = Field(3e-4, gt=0, description="learning rate of the tokenizer")
        model_from_round: int = Field(10, ge=1, description="first round that trains the model")
        model_updates: int = Field(200, ge=0, description="of the world model, in a round")
        model_batch: int = Field(30, ge=1, description="windows of each of them")
        model_lr: float = Field(1e-4, gt=0, description="learning rate of the world model")
        model_weight_decay: float = Field(0.01, ge=0, description="of tokenizer and world model")
        model_grad_norm: float = Field(10.0, gt=0, description="largest norm of their gradients")
        policy_from_round: int = Field(20, ge=1, description="first round that imagines")
        batches: int = Field(5, ge=1, description="imagined batches of a round, one per update")
        batch_size: int = Field(600, ge=1, description="rows of an imagined batch")
        burn_in: int = Field(
            10, ge=0, description="real steps that a recurrent policy sees before a row begins"
        )
        chunk: int = Field(0, ge=0, description="rows imagined side by side; 0: all of a batch")

    on_policy = None
    takes_pieces = False
    fed = True
    gives_state = False

    def __init__(
        self,
        config: Config,
        spec: EnvSpec,
        *,
        policy: Policy,
        world_model: Simulator,
        tokenizer: Tokenizer,
        seed: int,
        device: torch.device,
        optional_fields: frozenset[str],
    ) -> None:
        self._config, self._spec, self._device = config, spec, device
        self.gives_state = spec.state_is_obs
        self.policy, self.simulator, self.tokenizer = policy, world_model, tokenizer
        self._chunk = min(config.chunk or config.batch_size, config.batch_size)
        self._claim_memory()
        kept = EpisodeReplay.Config(buffer_size=config.buffer_size, obs_dtype=config.obs_dtype)
        self.episodes = EpisodeReplay(kept, spec, seed=seed, optional_fields=optional_fields)
        shared = (config.model_weight_decay, config.model_grad_norm, device)
        self._tokenizer_learner = TokenizerLearner(tokenizer, config.tokenizer_lr, *shared)
        self._model_learner = SimulatorLearner(world_model, config.model_lr, *shared)
        self._codes = StoredCodes(
            self.episodes.store, tokenizer.tokens, tokenizer.vocabulary, self._encode
        )
        self._choice = named_generator(seed, "imagination")
        self._generators = Generators(
            named_generator(seed, "imagined_actions", device),
            named_generator(seed, "imagined_world", device),
        )
        self._foresight = named_generator(seed, "foresight", device)
        self.round = 0
        self._new_steps = self._steps = 0
        self._imagined = {"return": 0.0, "length": 0.0, "real": 0.0, "rows": 0.0}

    def __len__(self) -> int:
        return len(self.episodes)

    def _claim_memory(self) -> None:
        """Say what imagining takes, or that there is not enough.

        Raises:
            BufferMemoryError: names the largest chunk that fits.
        """
        each, free = self.simulator.row_bytes(self._device), free_on(self._device)
        if free is not None and self._chunk * each > free:
            raise BufferMemoryError(
                f"imagining {self._chunk} rows side by side needs {gib(self._chunk * each)}, but only "
                f"{gib(free)} of memory are free on {self._device}. The largest that fits is "
                f"chunk={max(int(free // each), 1)}; a batch is then imagined in pieces."
            )
        log.info(
            "imagination: %d rows of up to %d steps side by side, at most %s",
            self._chunk,
            self.simulator.horizon,
            gib(self._chunk * each),
        )

    def insert(self, source: EpisodeStore, rows: NDArray[np.int64]) -> None:
        """Keep real episodes; the oldest make room."""
        self.episodes.insert(source, rows)
        self._codes.forget()
        steps = int(source.lengths[rows].sum())
        self._new_steps += steps
        self._steps += steps

    # --- rounds ---

    def batches(self, t_env: int) -> Iterator[EpisodeBatch]:
        """A round where one is due: train what imagines, then imagine."""
        config = self._config
        if self._new_steps < config.round_steps or self._steps < config.min_steps:
            return
        self._new_steps = 0
        self.round += 1
        if self._tokenizer_learner.learns:
            for _ in range(config.tokenizer_updates):
                self._tokenizer_learner.learn(self._observations(), t_env)
        self._codes.forget()
        if self.round < config.model_from_round:
            return
        for _ in range(config.model_updates):
            self._model_learner.learn(self._windows(config.model_batch), t_env)
        if self.round < config.policy_from_round:
            return
        for _ in range(config.batches):
            yield self._imagine(t_env)

    def _observations(self) -> EpisodeBatch:
        """Single entries of episodes, all equally likely, as rows without a step."""
        rows, steps = self._draw(self._config.tokenizer_batch, self.episodes.lengths + 1)
        return self._entries(rows, steps).to(self._device)

    def _entries(self, rows: NDArray[np.int64], steps: NDArray[np.int64]) -> EpisodeBatch:
        seen: dict[str, Any] = {
            name: self.episodes.store.entries(name, rows, steps)[:, None]
            for name, field in self.episodes.store.fields.items()
            if field.final
        }
        B, none = len(rows), torch.zeros(len(rows), 0)
        actions = torch.zeros(B, 0, self._spec.n_agents, *self._spec.action_shape)
        return EpisodeBatch(
            spec=self._spec,
            actions=actions if self._spec.action_shape else actions.long(),
            reward=none,
            terminated=none.bool(),
            truncated=none.bool(),
            lengths=torch.zeros(B, dtype=torch.int64),
            **seen,
        )

    def _windows(self, count: int) -> EpisodeBatch:
        """Windows with codes around steps that are all equally likely, moved left at an episode's end."""
        rows, at = self._draw(count, self.episodes.lengths)
        lengths, horizon = self.episodes.lengths[rows], self.simulator.horizon
        starts = np.minimum(at, np.maximum(lengths - horizon, 0))
        batch = self.episodes.store.batch(rows, starts, horizon)
        codes = self._codes.of_windows(rows, starts, batch.lengths.numpy())
        return replace(batch, codes=codes).to(self._device)

    def _draw(
        self, count: int, lengths: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """So many steps of episodes of ``lengths`` (E,), all equally likely: rows and places (B,)."""
        ends = lengths.cumsum()
        draws = torch.randint(int(ends[-1]), (count,), generator=self._choice).numpy()
        rows = np.searchsorted(ends, draws, side="right")
        return rows, draws - (ends[rows] - lengths[rows])

    @torch.no_grad()
    def _encode(self, obs: Tensor) -> Tensor:
        return self.tokenizer.encode(obs.to(self._device)).cpu()

    # --- imagining ---

    def _imagine(self, t_env: int) -> EpisodeBatch:
        """A batch of imagined rows, ``chunk`` of them at a time."""
        rows, steps = self._draw(self._config.batch_size, self.episodes.lengths)
        parts = []
        for first in range(0, len(rows), self._chunk):
            some = slice(first, first + self._chunk)
            start = self._start(rows[some], steps[some], t_env)
            parts.append(
                imagine(
                    self._spec,
                    self.simulator,
                    self.tokenizer,
                    self.policy,
                    start,
                    t_env,
                    self._generators,
                )
            )
        batch = together(parts)
        self._count(batch, rows, steps)
        return batch

    @torch.no_grad()
    def _start(self, rows: NDArray[np.int64], steps: NDArray[np.int64], t_env: int) -> Start:
        """Where imagined rows begin: what agents see at ``steps`` (B,), and what they remember of before."""
        codes = self._codes.at(rows, steps).to(self._device)
        avail = self._field("avail_actions", rows, steps)
        return Start(codes, avail, self._memory(rows, steps, t_env))

    def _memory(
        self, rows: NDArray[np.int64], steps: NDArray[np.int64], t_env: int
    ) -> dict[str, Tensor]:
        """What the policy remembers before ``steps`` (B,), having seen the last of the steps before."""
        carry = self.policy.init_carry(len(rows), self._device, self._generators.policy)
        # A policy without a memory of its own remembers the frames that it sees at once, and no more.
        frames = carry["obs_before"].shape[1] if "obs_before" in carry else 0
        back_to = self._config.burn_in if getattr(self.policy, "recurrent", True) else frames
        before = min(back_to, int(steps.max()))
        for back in range(before, 0, -1):
            at = np.maximum(steps - back, 0)
            obs = self.tokenizer.decode(self._codes.at(rows, at).to(self._device))
            seen = Seen(
                obs,
                state_of(self._spec, obs),
                self._field("avail_actions", rows, at),
                self._alive(rows, at),
                self._field("reward", rows, np.maximum(at - 1, 0))
                * torch.from_numpy(at > 0).to(self._device),
            )
            _, after = self.policy.act(seen, carry, t_env, False, self._generators.policy)
            after = self._having_done(after, rows, at)
            there = torch.from_numpy(steps >= back).to(self._device)
            carry = {name: _where(there, after[name], old) for name, old in carry.items()}
        if before:
            return carry
        did = self._having_done(carry, rows, np.maximum(steps - 1, 0))
        there = torch.from_numpy(steps > 0).to(self._device)
        return {name: _where(there, did[name], old) for name, old in carry.items()}

    def _having_done(
        self, carry: dict[str, Tensor], rows: NDArray[np.int64], steps: NDArray[np.int64]
    ) -> dict[str, Tensor]:
        """The carry of a policy that did at ``steps`` (B,) what was done there."""
        if "last_actions" not in carry or self._spec.action_shape:
            return carry
        return carry | {"last_actions": self._field("actions", rows, steps) + 1}

    def _field(self, name: str, rows: NDArray[np.int64], steps: NDArray[np.int64]) -> Tensor:
        return self.episodes.store.entries(name, rows, steps).to(self._device)

    def _alive(self, rows: NDArray[np.int64], steps: NDArray[np.int64]) -> Tensor:
        if self._spec.has_alive:
            return self._field("alive", rows, steps)
        shape = (len(rows), self._spec.n_agents)
        return torch.ones(shape, dtype=torch.bool, device=self._device)

    # --- what it says of itself ---

    def _count(
        self, batch: EpisodeBatch, rows: NDArray[np.int64], steps: NDArray[np.int64]
    ) -> None:
        """Add up what was imagined, and what was earned from there on in truth, by the policy of its time."""
        at = steps[:, None] + np.arange(self.simulator.horizon)
        there = at < self.episodes.store.lengths[rows][:, None]
        earned = self.episodes.store.arrays["reward"][rows[:, None], np.where(there, at, 0)]
        self._imagined["real"] += float(earned.sum(where=there, dtype=np.float64))
        self._imagined["return"] += float(batch.reward.double().sum())
        self._imagined["length"] += float(batch.lengths.sum())
        self._imagined["rows"] += batch.batch_size

    def metrics(self) -> dict[str, float]:
        """How tokenizer and model learn, how far they foresee, and what imagined rows are like."""
        found = {"episodes_in_buffer": float(len(self.episodes)), "rounds": float(self.round)}
        if self._tokenizer_learner.n_updates:
            learnt = self._tokenizer_learner.metrics()
            found |= {f"tokenizer_{name}": value for name, value in learnt.items()}
        if self._model_learner.n_updates:
            found |= {f"model_{name}": v for name, v in self._model_learner.metrics().items()}
        if self._model_learner.n_updates and len(self.episodes):
            windows = self._windows(FORESEEN)
            found |= foresight(self.simulator, self.tokenizer, windows, self._foresight)
        if rows := self._imagined["rows"]:
            found |= {
                "imagined_return": self._imagined["return"] / rows,
                "imagined_length": self._imagined["length"] / rows,
                "imagined_return_real": self._imagined["real"] / rows,
            }
        self._imagined = dict.fromkeys(self._imagined, 0.0)
        return found

    # --- checkpoints ---

    def state_dict(self, contents: bool = True) -> dict[str, Any]:
        """Episodes, networks, optimisers and generators; between rounds nothing else is under way."""
        return {
            "episodes": self.episodes.state_dict(contents),
            "tokenizer": self._tokenizer_learner.state_dict(),
            "model": self._model_learner.state_dict(),
            "choice": self._choice.get_state(),
            "generators": self._generators.state_dict(),
            "foresight": self._foresight.get_state(),
            "round": self.round,
            "new_steps": self._new_steps,
            "steps": self._steps if contents else 0,
            "imagined": dict(self._imagined),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state_dict`; without episodes rounds wait until there are enough again."""
        self.episodes.load_state_dict(state["episodes"])
        self._tokenizer_learner.load_state_dict(state["tokenizer"])
        self._model_learner.load_state_dict(state["model"])
        self._choice.set_state(state["choice"])
        self._generators.load_state_dict(state["generators"])
        self._foresight.set_state(state["foresight"].cpu())
        self.round, self._new_steps = state["round"], state["new_steps"]
        self._steps, self._imagined = state["steps"], dict(state["imagined"])
        self._codes.forget()


def _where(mask: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """``yes`` in the rows of ``mask`` (B,), else ``no``, both (B, ...)."""
    return torch.where(mask.view(-1, *(1,) * (no.dim() - 1)), yes, no)
