"""A trained team outside the framework: observations in, actions out."""

from __future__ import annotations

from typing import Any, NoReturn, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from .build import build_player, choose_device, make_env
from .checkpoint import Checkpoint
from .config import Composed
from .data.dataset.description import spec_from_json
from .envs.protocol import EnvSpec
from .errors import ConfigError
from .modules.behaviours.base import Behaviour
from .modules.policies.base import Seen
from .seeding import named_generator

_FIELDS = ("obs", "state", "avail_actions", "alive", "reward")


class Team:
    """A policy that remembers, as its agents do, what it was shown since the last :meth:`reset`.

    Axis letters: N agents, O observation, S state, A actions. Every argument and result may have a leading
    axis B, for B games at once; how many is settled by the first :meth:`act` after a reset of all.

    Args:
        behaviour: who acts.
        spec: of the environment it was trained in; shapes are its.
        device: where it lives.
        t_env: how long it was trained; what changes with training (epsilon) is as it was then.
        generator: draws what is random, on ``device``.

    Attributes:
        spec: as given.
    """

    def __init__(
        self,
        behaviour: Behaviour,
        spec: EnvSpec,
        device: torch.device,
        t_env: int,
        generator: torch.Generator,
    ) -> None:
        self.spec = spec
        self._behaviour, self._device = behaviour, device
        self._t_env, self._generator = t_env, generator
        self._carry: dict[str, Tensor] | None = None
        self._games = 0
        self._fresh = np.zeros(0, np.bool_)

    @classmethod
    def of(cls, checkpoint: Checkpoint, composed: Composed, seed: int) -> Team:
        """The team in a checkpoint of a run that was ``composed`` like this.

        Raises:
            CheckpointError: its weights do not fit.
        """
        device = choose_device(composed.run.device)
        spec = _spec_of(checkpoint, composed)
        behaviour = build_player(composed, spec, device, checkpoint.state)
        generator = named_generator(seed, "act", device)
        return cls(behaviour, spec, device, checkpoint.t_env, generator)

    def reset(self, mask: ArrayLike | None = None) -> None:
        """Begin a new episode: forget what was seen, in the games of ``mask`` (B,) or in all.

        Raises:
            ConfigError: a mask of another shape.
        """
        if mask is None:
            self._carry = None
            return
        rows = np.asarray(mask, np.bool_)
        if rows.shape != (self._games,) or self._carry is None:
            raise ConfigError(
                f"reset takes a mask of shape ({self._games},), one entry per game of the last act(), got "
                f"{rows.shape}; without one all games begin anew."
            )
        at = torch.from_numpy(np.flatnonzero(rows)).to(self._device)
        fresh = self._behaviour.init_carry(len(at), self._device, self._generator)
        # What act() returned may be shared with the policy's own buffers.
        self._carry = {name: tensor.clone() for name, tensor in self._carry.items()}
        for name, tensor in self._carry.items():
            tensor[at] = fresh[name]
        self._fresh |= rows

    def act(
        self,
        obs: ArrayLike,
        avail_actions: ArrayLike | None = None,
        *,
        state: ArrayLike | None = None,
        alive: ArrayLike | None = None,
        reward: ArrayLike | None = None,
        greedy: bool = True,
    ) -> NDArray[Any]:
        """What the team does now.

        Args:
            obs: (N, O) or (B, N, O) what each agent sees.
            avail_actions: (N, A) or (B, N, A), true where an action may be taken; None: all may be.
            state: (S,) or (B, S), for policies that look at it.
            alive: (N,) or (B, N) which agents are; None: all.
            reward: () or (B,) of the step before, for policies that look at it.
            greedy: as in tests; false: as in training, with its exploration.

        Returns:
            (N,) or (B, N) integers; (..., N, D) numbers where actions are continuous, (..., N, 1 + D) where a
            choice comes with a vector.

        Raises:
            ConfigError: a shape is not that of the environment it was trained in, or something that this
                policy looks at was not given.
        """
        seen = np.asarray(obs, np.float32)
        alone = seen.ndim == 2
        games = 1 if alone else len(seen)
        begins = self._carry is None
        if begins:
            self._carry = self._behaviour.init_carry(games, self._device, self._generator)
            self._games, self._fresh = games, np.ones(games, np.bool_)
        elif games != self._games:
            raise ConfigError(
                f"obs has {games} games, and there were {self._games} since the last reset(): call reset() "
                "before another number of games."
            )
        given = {"obs": obs, "state": state, "avail_actions": avail_actions}
        given |= {"alive": alive, "reward": reward}
        try:
            shown = Seen(**{name: self._shown(name, given[name], alone) for name in _FIELDS})
        except ConfigError:
            if begins:
                self._carry = None
            raise
        assert self._carry is not None
        with torch.no_grad():
            played = self._behaviour.act(shown, self._carry, self._t_env, greedy, self._generator)
        self._carry = played.carry
        self._fresh[:] = False
        taken: NDArray[Any] = played.actions.cpu().numpy()
        return taken[0] if alone else taken

    def _shown(self, name: str, value: ArrayLike | None, alone: bool) -> Tensor:
        """One field of what is seen, (B, ...) on the device."""
        spec, B = self.spec, self._games
        shape = {
            "obs": (spec.n_agents, spec.obs_dim),
            "state": (spec.state_dim,),
            "avail_actions": (spec.n_agents, spec.mask_dim),
            "alive": (spec.n_agents,),
            "reward": (),
        }[name]
        dtype = np.bool_ if name in ("avail_actions", "alive") else np.float32
        if value is None and name in ("avail_actions", "alive"):
            value, alone = np.ones((B, *shape)), False
        if value is None and name == "reward" and self._fresh.all():
            value, alone = np.zeros(B), False  # there is none at the start of an episode
        if value is None:
            return cast(Tensor, _NotGiven(name))
        array = np.asarray(value, dtype)
        array = array[None] if alone else array
        if array.shape != (B, *shape):
            wanted = shape if alone else (B, *shape)
            found = array.shape[1:] if alone else array.shape
            raise ConfigError(
                f"{name} has shape {found}; this team was trained with {wanted} "
                f"({spec.n_agents} agents)."
            )
        if name == "reward":
            array = np.where(self._fresh, np.float32(0), array)
        return torch.from_numpy(array).to(self._device)


class _NotGiven:
    """Stands for what :meth:`Team.act` was not given; a policy that looks at it is told so."""

    def __init__(self, name: str) -> None:
        self._name = name

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise ConfigError(
            f"this team's policy looks at {self._name}: give it, act(..., {self._name}=...)."
        )

    __getattr__ = __getitem__ = __add__ = __radd__ = __mul__ = __rmul__ = _refuse

    @classmethod
    def __torch_function__(
        cls, function: Any, kinds: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        for value in torch.utils._pytree.tree_leaves((args, kwargs)):
            if isinstance(value, cls):
                value._refuse()
        return NotImplemented


def _spec_of(checkpoint: Checkpoint, composed: Composed) -> EnvSpec:
    """As it stands in the checkpoint; of older ones the environment is asked."""
    if (kept := checkpoint.state.get("spec")) is not None:
        return spec_from_json(kept)
    env = make_env(composed, 1, "spec")
    env.close()
    return env.spec
