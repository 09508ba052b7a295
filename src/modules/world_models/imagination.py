"""A policy and a simulator left to themselves: rows that were never played.

Axes: B rows, T steps, N agents, O observation, K tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from ...data.batch import EpisodeBatch
from ...envs.protocol import EnvSpec
from ..policies.base import Policy, Seen
from ..tokenizers.base import Tokenizer
from .base import Simulator


@dataclass(frozen=True)
class Start:
    """Where rows begin: within an episode, before a step."""

    codes: Tensor  # (B, N, K) int64 of what agents see
    avail_actions: Tensor  # (B, N, A) bool
    carry: Mapping[str, Tensor]  # (B, ...) what the policy remembers


class Generators:
    """What is random in imagination: what the policy does, and what the world does."""

    def __init__(self, policy: torch.Generator, world: torch.Generator) -> None:
        self.policy, self.world = policy, world

    def state_dict(self) -> dict[str, Any]:
        """States of both."""
        return {"policy": self.policy.get_state(), "world": self.world.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo :meth:`state_dict`."""
        self.policy.set_state(state["policy"].cpu())
        self.world.set_state(state["world"].cpu())


@torch.no_grad()
def imagine(
    spec: EnvSpec,
    simulator: Simulator,
    tokenizer: Tokenizer,
    policy: Policy,
    start: Start,
    t_env: int,
    generators: Generators,
) -> EpisodeBatch:
    """Let ``policy`` act in what ``simulator`` imagines, for as many steps as it can.

    A row ends with the first step after which the world is over, terminated; one that goes on to the
    horizon is neither terminated nor truncated there.

    Returns:
        Rows that begin within an episode, see :class:`EpisodeBatch`, on the start's device.
    """
    B, N = start.codes.shape[:2]
    device = start.codes.device
    dream = simulator.begin(start.codes, start.avail_actions, generators.world)
    everyone = torch.ones(B, N, dtype=torch.bool, device=device)
    obs, avail = [tokenizer.decode(start.codes)], [start.avail_actions]
    actions, rewards, ends = list[Tensor](), list[Tensor](), list[Tensor]()
    carry, reward = dict(start.carry), torch.zeros(B, device=device)
    over = torch.zeros(B, dtype=torch.bool, device=device)
    for _ in range(simulator.horizon):
        seen = Seen(obs[-1], state_of(spec, obs[-1]), avail[-1], everyone, reward)
        action, carry = policy.act(seen, carry, t_env, False, generators.policy)
        moment = dream.step(action)
        reward = moment.reward
        obs.append(tokenizer.decode(moment.codes))
        avail.append(moment.avail_actions)
        actions.append(action)
        rewards.append(reward)
        ends.append(moment.terminated & ~over)
        over = over | moment.terminated
        if over.all():
            break
    terminated, shown = torch.stack(ends, dim=1), torch.stack(obs, dim=1)
    return _cut(
        EpisodeBatch(
            spec=spec,
            obs=shown,
            state=state_of(spec, shown),
            avail_actions=torch.stack(avail, dim=1),
            actions=torch.stack(actions, dim=1),
            reward=torch.stack(rewards, dim=1),
            terminated=terminated,
            truncated=torch.zeros_like(terminated),
            lengths=_lengths(terminated),
            carry=dict(start.carry),
        )
    )


def state_of(spec: EnvSpec, obs: Tensor) -> Tensor:
    """States (..., S) of imagined observations (..., N, O), where these are all there is to it.

    Elsewhere nobody imagines a state: it is not a number, so that whoever reads it sees at once that it
    should not.
    """
    if spec.state_is_obs:
        return obs.flatten(-2)
    return obs.new_full((*obs.shape[:-2], spec.state_dim), torch.nan)


def _lengths(terminated: Tensor) -> Tensor:
    """(B,) on the CPU: steps up to the first end in each row (B, T), or all."""
    before = terminated.cumsum(dim=1) - terminated.long()
    return (before == 0).sum(dim=1).cpu()


def _cut(batch: EpisodeBatch) -> EpisodeBatch:
    """The batch with zeros behind the rows' ends, but for a state that nobody knows."""
    filled = batch.filled
    entries = torch.cat([torch.ones_like(filled[:, :1]), filled], dim=1)

    def kept(x: Tensor, mask: Tensor) -> Tensor:
        return x * mask.view(*mask.shape, *(1,) * (x.dim() - 2))

    return replace(
        batch,
        obs=kept(batch.obs, entries),
        state=kept(batch.state, entries),
        avail_actions=kept(batch.avail_actions, entries),
        actions=kept(batch.actions, filled),
        reward=kept(batch.reward, filled),
    )


def together(batches: list[EpisodeBatch]) -> EpisodeBatch:
    """The rows of several batches in one, padded to the longest of them."""
    if len(batches) == 1:
        return batches[0]
    T = max(batch.max_t for batch in batches)

    def joined(name: str) -> Tensor:
        parts = []
        for batch in batches:
            part = getattr(batch, name)
            missing = part.new_zeros(len(part), T - batch.max_t, *part.shape[2:])
            parts.append(torch.cat([part, missing], dim=1))
        return torch.cat(parts)

    first = batches[0]
    tensors: dict[str, Any] = {
        field.name: joined(field.name)
        for field in fields(first)
        if field.name not in ("spec", "lengths", "carry") and getattr(first, field.name) is not None
    }
    carry = {
        name: torch.cat([b.carry[name] for b in batches if b.carry]) for name in first.carry or {}
    }
    lengths = torch.cat([batch.lengths for batch in batches])
    return replace(first, lengths=lengths, carry=carry, **tensors)


@torch.no_grad()
def foresight(
    simulator: Simulator, tokenizer: Tokenizer, batch: EpisodeBatch, generator: torch.Generator
) -> dict[str, float]:
    """How far what is imagined of real windows, given their actions, is from what came, by steps ahead.

    Beside the model stand the guesses of whoever does not try: that observations stay as they were at the
    start, and that rewards are the median of all, than which no constant is closer. Of observations those of
    the living count.

    Args:
        batch: windows with codes; those that have ended do not count.

    Returns:
        ``foresight_obs_error_H``, ``_repeat_H``, ``foresight_reward_error_H``, ``_median_H``, means of
        absolute errors, and ``foresight_ended_H``, the share of windows that have ended in imagination alone,
        for H of 1, 5 and the most.
    """
    assert batch.codes is not None, "windows come with codes"
    dream = simulator.begin(batch.codes[:, 0], batch.avail_actions[:, 0], generator)
    start, found = batch.obs[:, 0], dict[str, float]()
    median = batch.reward[batch.filled].median()
    over = torch.zeros_like(batch.filled[:, 0])
    steps = batch.max_t
    for t in range(steps):
        moment = dream.step(batch.actions[:, t])
        over = over | moment.terminated
        there = batch.filled[:, t]
        lives = there[:, None].expand(-1, batch.spec.n_agents)
        if batch.alive is not None:
            lives = lives & batch.alive[:, t + 1]
        if t + 1 not in (1, 5, steps) or not lives.any():
            continue
        obs, reward = batch.obs[:, t + 1][lives], batch.reward[:, t][there]
        guess = tokenizer.decode(moment.codes)[lives]
        real_end = (batch.terminated[:, t])[there]
        errors = {
            "obs_error": (guess - obs).abs().mean(),
            "obs_error_repeat": (start[lives] - obs).abs().mean(),
            "reward_error": (moment.reward[there] - reward).abs().mean(),
            "reward_error_median": (median - reward).abs().mean(),
            "ended": (over[there] & ~real_end).to(median.dtype).mean(),
        }
        found |= {f"foresight_{name}_{t + 1}": float(error) for name, error in errors.items()}
    return found
