"""Plays a trained policy, or a player written by hand, into a dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .build import build_player, choose_device, make_env, num_envs
from .checkpoint import Checkpoint
from .config import Composed
from .data.batch import TOLD_FIELDS
from .data.dataset import Dataset, DatasetWriter
from .data.dataset.writer import refuse_what_is_there
from .envs.protocol import Discrete, Env, EnvSpec, Player, Scripted
from .errors import ConfigError, EnvError
from .modules.action_selectors.epsilon_greedy import EpsilonGreedy
from .modules.behaviours.base import Around, Behaviour, Played
from .modules.behaviours.plain import PlainBehaviour
from .modules.policies.base import Seen
from .recording import description_of, policy_of
from .runners.rollout import Rollout, play_episodes
from .seeding import named_generator, named_seed


@dataclass(frozen=True)
class Amount:
    """How much is recorded, always in whole episodes.

    Attributes:
        total: how many.
        unit: episodes, or the steps that they have together, which are reached and not cut.
    """

    total: int
    unit: Literal["episode", "step"] = "episode"

    def done(self, writer: DatasetWriter) -> int:
        """How many there are so far."""
        return writer.episodes if self.unit == "episode" else writer.steps


class Explorer(Around):
    """A team whose agents now and then take any available action; what it remembers is what was done.

    Args:
        team: with discrete actions.
        epsilon: how often.

    Raises:
        ConfigError: the actions are not discrete.
    """

    def __init__(self, team: Behaviour, epsilon: float, spec: EnvSpec) -> None:
        super().__init__(team)
        if not isinstance(spec.action, Discrete):
            raise ConfigError(
                f"--epsilon {epsilon:g} mixes in random choices and needs discrete actions; this "
                "environment's are vectors. Leave it out; test_greedy=False draws from the policy."
            )
        self._n_actions = spec.action.n
        chosen = EpsilonGreedy.Config(epsilon_start=epsilon, epsilon_finish=epsilon)
        self._selector = EpsilonGreedy(chosen, spec)

    def act(
        self,
        seen: Seen,
        carry: dict[str, Tensor],
        t_env: int,
        test_mode: bool,
        generator: torch.Generator,
    ) -> Played:
        """What the team does, or random actions."""
        wanted = self.inner.act(seen, carry, t_env, test_mode, generator)
        carry = wanted.carry
        values = F.one_hot(wanted.actions, self._n_actions).float()
        done = self._selector.select(values, seen.avail_actions, t_env, False, generator)
        if "last_actions" in carry:
            carry = {**carry, "last_actions": done + 1}
        return Played(done, carry)


class ByHand:
    """An environment's own player where a policy is expected; it looks at the environment itself."""

    def __init__(self, player: Player) -> None:
        self._player = player

    def init_carry(
        self, batch_size: int, device: torch.device, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Nothing that a runner would have to carry."""
        return {}

    def act(
        self,
        seen: Seen,
        carry: dict[str, Tensor],
        t_env: int,
        test_mode: bool,
        generator: torch.Generator,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What the player does in all copies."""
        return torch.from_numpy(np.ascontiguousarray(self._player())).to(seen.obs.device), carry

    def metrics(self, t_env: int) -> dict[str, float]:
        """Nothing to report."""
        return {}


class Collector:
    """Plays episodes in an environment of its own, and files them.

    Args:
        composed: whose environment it is.
        folder: of the new dataset.
        amount: how much.
        epsilon: how often an agent takes any available action in place of what it would do.
        seed: decides the battles and the random actions.
        tell: is told how much there is.

    Raises:
        DatasetError: there is something in ``folder`` already.
    """

    def __init__(
        self,
        composed: Composed,
        folder: Path,
        amount: Amount,
        *,
        epsilon: float = 0.0,
        seed: int = 0,
        tell: Callable[[int], None] = lambda done: None,
    ) -> None:
        refuse_what_is_there(folder)
        self._composed, self._folder, self._amount = composed, folder, amount
        self._epsilon, self._seed, self._tell = epsilon, seed, tell

    def play_checkpoint(self, checkpoint: Checkpoint, run: str) -> Dataset:
        """What a checkpoint does in tests; ``run`` is what others find its run by.

        Raises:
            CheckpointError: it does not fit the config.
            ConfigError: exploration is asked for where actions are not discrete.
        """
        device = choose_device(self._composed.run.device)
        step = int(checkpoint.state["counters"]["t_env"])
        acted = policy_of(self._composed, run=run, step=step, epsilon=self._epsilon)
        with self._environment() as env:
            team = build_player(self._composed, env.spec, device, checkpoint.state)
            return self._played(env, team, acted, step, device)

    def play_by_hand(self, name: str) -> Dataset:
        """What one of the environment's own players does, see :class:`~.envs.protocol.Scripted`.

        Raises:
            EnvError: the environment has no such player.
            ConfigError: exploration is asked for where actions are not discrete.
        """
        with self._environment() as env:
            if not isinstance(env, Scripted) or not env.players():
                raise EnvError(
                    f"--bot {name}: env {self._composed.chosen['env']} as it is configured has no players "
                    "written by hand."
                )
            player = ByHand(env.player(name, named_seed(self._seed, "player")))
            team = PlainBehaviour(PlainBehaviour.Config(), policy=player)
            acted = {"name": name, "by_hand": env.players()[name], "epsilon": self._epsilon}
            return self._played(env, team, acted, 0, torch.device("cpu"))

    @contextmanager
    def _environment(self) -> Iterator[Env]:
        copies = num_envs(self._composed)
        if self._amount.unit == "episode":
            copies = min(copies, self._amount.total)
        env = make_env(self._composed, copies, f"record {self._seed}")
        try:
            yield env
        finally:
            env.close()

    def _played(
        self,
        env: Env,
        team: Behaviour,
        acted: Mapping[str, Any],
        t_env: int,
        device: torch.device,
    ) -> Dataset:
        """Every copy plays an episode, again and again, so that short ones are not favoured."""
        if self._epsilon:
            team = Explorer(team, self._epsilon, env.spec)
        generator = named_generator(self._seed, "record", device)
        rollout = Rollout(env, team, generator, device, TOLD_FIELDS)
        described = description_of(self._composed, env, acted, self._seed, TOLD_FIELDS)
        amount = self._amount
        with DatasetWriter(self._folder, described) as writer:
            while amount.done(writer) < amount.total:
                rows = np.ones(env.num_envs, bool)
                if amount.unit == "episode":
                    rows = np.arange(env.num_envs) < amount.total - writer.episodes
                play_episodes(rollout, rows, t_env, test_mode=True)
                for row in np.flatnonzero(rows & (rollout.store.lengths > 0)).tolist():
                    if amount.done(writer) < amount.total:
                        writer.append_row(rollout.store, row)
                self._tell(amount.done(writer))
        return Dataset.open(self._folder)
