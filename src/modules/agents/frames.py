"""Observations that an agent sees together with the present one, kept from step to step while acting."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from ...envs.protocol import EnvSpec
from .base import Agent


def none_before(
    agent: Agent, spec: EnvSpec, batch_size: int, device: torch.device
) -> dict[str, Tensor]:
    """What an agent that sees several observations at once remembers of B episodes that begin: zeros.

    The name and layout are those of :meth:`~phalanx.data.batch.EpisodeBatch.frames`: ``obs_before``
    (B, frames - 1, N, O); nothing where an agent sees one observation.
    """
    if agent.frames == 1:
        return {}
    shape = (batch_size, agent.frames - 1, spec.n_agents, spec.obs_dim)
    return {"obs_before": torch.zeros(shape, device=device)}


def with_those_before(obs: Tensor, carry: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """(B, 1, N, frames * O) what an agent is given at a step, and what it remembers of it.

    Args:
        obs: (B, N, O).
        carry: with what :func:`none_before` names.
    """
    if "obs_before" not in carry:
        return obs[:, None], {}
    frames = torch.cat([carry["obs_before"], obs[:, None]], dim=1)
    return rearrange(frames, "b k n o -> b 1 n (k o)"), {"obs_before": frames[:, 1:]}
