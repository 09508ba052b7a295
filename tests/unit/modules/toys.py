"""A small team, random episodes of it, and parts assembled for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from phalanx.data.batch import EpisodeBatch
from phalanx.envs.protocol import Discrete, EnvSpec
from phalanx.registry import REGISTRIES, Assembler

SPEC = EnvSpec(
    n_agents=3,
    obs_dim=7,
    state_dim=9,
    action=Discrete(5),
    episode_limit=12,
    has_alive=True,
    has_visibility=True,
)
CPU = torch.device("cpu")


def random_batch(
    lengths: tuple[int, ...] = (3, 12, 1, 7), spec: EnvSpec = SPEC, seed: int = 0
) -> EpisodeBatch:
    """Episodes of these lengths, zero beyond their ends; the last one is truncated, not terminated."""
    g = torch.Generator().manual_seed(seed)
    L = torch.tensor(lengths)
    B, T, N, A = len(lengths), max(lengths), spec.n_agents, spec.mask_dim
    entries, steps = torch.arange(T + 1) <= L[:, None], torch.arange(T) < L[:, None]
    avail = torch.rand(B, T + 1, N, A, generator=g) < 0.5
    avail[..., :1] = True
    choice = torch.randn(B, T, N, *spec.action_shape, generator=g)
    if isinstance(spec.action, Discrete):
        scores = torch.rand(B, T, N, A, generator=g)
        choice = scores.masked_fill(~avail[:, :-1], -1).argmax(-1)
    last = torch.arange(T) == L[:, None] - 1
    truncated = last & (torch.arange(B) == B - 1)[:, None]
    sees = torch.rand(B, T + 1, N, N, generator=g) < 0.5
    return EpisodeBatch(
        spec=spec,
        obs=torch.randn(B, T + 1, N, spec.obs_dim, generator=g) * entries[..., None, None],
        state=torch.randn(B, T + 1, spec.state_dim, generator=g) * entries[..., None],
        avail_actions=avail & entries[..., None, None],
        actions=choice * steps.view(B, T, *(1,) * (choice.dim() - 2)),
        reward=torch.randn(B, T, generator=g) * steps,
        terminated=last & ~truncated,
        truncated=truncated,
        lengths=L,
        alive=(torch.rand(B, T + 1, N, generator=g) < 0.8) & entries[..., None],
        visibility=sees & entries[..., None, None],
    )


def assemble(
    configs: Mapping[str, Mapping[str, Any]] | None = None,
    spec: EnvSpec = SPEC,
    seed: int = 0,
    **parts: str,
) -> Assembler:
    """An assembler; ``parts`` and ``configs`` differ from those of QMIX."""
    chosen = {
        "agent": "rnn",
        "policy": "value",
        "action_selector": "epsilon_greedy",
        "mixer": "qmix",
        "world_model": "none",
        "learner": "q_learner",
    } | parts
    values = configs or {}
    slices = {k: REGISTRIES[k].get(name).Config(**values.get(k, {})) for k, name in chosen.items()}
    torch.manual_seed(seed)
    return Assembler(chosen, slices, spec=spec, seed=seed, device=CPU)
