"""A small team, random episodes of it, and parts assembled for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from phalanx.data.batch import EpisodeBatch
from phalanx.envs.protocol import Box, Discrete, EnvSpec, Mixed
from phalanx.modules.behaviours.plain import PlainBehaviour
from phalanx.registry import REGISTRIES, WORLD_MODELS, Assembler

SPEC = EnvSpec(
    n_agents=3,
    obs_dim=7,
    state_dim=9,
    action=Discrete(5),
    episode_limit=12,
    has_alive=True,
    has_visibility=True,
)
_TWO = Box((-1.0, -1.0), (1.0, 1.0))
# The same team with other actions.
ACTIONS = {
    "discrete": SPEC,
    "continuous": replace(SPEC, action=_TWO),
    "unequal": replace(SPEC, action=replace(_TWO, unequal=True)),
    "mixed": replace(SPEC, action=Mixed(Discrete(4), _TWO)),
}
CPU = torch.device("cpu")
# World models that a learner of values trains; the others are there to imagine with.
WITH_CONTEXT = [name for name, part in WORLD_MODELS.items() if part.trained_by is None]


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
    may, C = avail[:, :-1], spec.choices
    choice = torch.randn(B, T, N, spec.dimensions, generator=g)
    if spec.dimensions and A:
        choice = choice * may[..., C:]
    if C:
        scores = torch.rand(B, T, N, C, generator=g)
        chosen = scores.masked_fill(~may[..., :C], -1).argmax(-1)
        choice = torch.cat([chosen[..., None], choice], -1) if spec.dimensions else chosen
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


def plain(policy: Any) -> PlainBehaviour:
    """The policy as what plays."""
    return PlainBehaviour(PlainBehaviour.Config(), policy=policy)


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
