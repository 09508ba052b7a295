"""How well the world model models the world, in numbers that say whether it is worth its cost."""

from __future__ import annotations

import torch
from torch import Tensor

from ....data.batch import EpisodeBatch
from ...agents.base import AgentOutput
from ...layers.packing import Packing
from .action_conditioned import shuffled_actions
from .action_free import ActionFree
from .branch import Steps
from .gala import Operators
from .model import Disentangled
from .scale import mean_over_living, variance_of_living
from .static import Static


@torch.no_grad()
def quality(
    model: Disentangled,
    unrolled: AgentOutput,
    batch: EpisodeBatch,
    generator: torch.Generator,
    ahead: int = 3,
) -> dict[str, float]:
    """Errors of a model with all its branches on episodes it may not have seen, over the living.

    Means of posteriors and priors are decoded, nothing is sampled.

    Args:
        unrolled: the agent over the batch.
        generator: exchanges actions between moments.
        ahead: steps of the longer prediction with true actions.

    Returns:
        Mean squared errors: ``h`` (one step, true actions), ``h_shuffled``, ``h_repeat``, ``h_ahead``,
        ``h_ahead_repeat``, ``obs`` (one step, without actions) and ``obs_repeat``. Shares of the variance
        that the auto-encoders of the three branches lose: ``h_lost``, ``obs_lost`` and ``static_lost``.
    """
    ac, af, st = model.action_conditioned, model.observing("af"), model.observing("st")
    assert isinstance(af, ActionFree)
    assert isinstance(st, Static)
    packing = Packing.of(batch.lengths + 1, batch.max_t + 1, batch.obs.device)
    found: dict[str, float] = {}

    hidden, obs = packing.pack(unrolled.hidden), packing.pack(batch.obs)
    taken = packing.pack(batch.last_actions)
    entries = model.entries(hidden, batch, packing)
    mean = ac.posterior(hidden, entries.operators).mean
    steps = Steps.of(entries)
    now, after, living = hidden[steps.before], hidden[steps.after], steps.living

    def h_error(guess: Tensor) -> float:
        return float(mean_over_living((guess - (after - now)).square(), living))

    acted = taken[steps.after]
    shuffled = shuffled_actions(acted, living, generator)
    for name, actions in (("h", acted), ("h_shuffled", shuffled)):
        guess = ac.predict(now, mean[steps.before], [actions], steps.operators)
        found[name] = h_error(guess)
    found["h_repeat"] = h_error(torch.zeros_like(now))

    # Rows of the entries ``ahead`` steps on, and what was done on the way to each.
    row = torch.arange(len(hidden), device=hidden.device)
    back = torch.full_like(row, -1)
    back[steps.after] = steps.before
    path: list[Tensor] = []
    start = row
    for _ in range(ahead):
        known = start >= 0
        path.append(torch.where(known[:, None], taken[start.clamp(min=0)], 0))
        start = torch.where(known, back[start.clamp(min=0)], -1)
    there = start >= 0
    start, end = start[there], row[there]
    operators = Operators(*(operator[start] for operator in entries.operators))
    path = [actions[there] for actions in reversed(path)]
    guess = ac.predict(hidden[start], mean[start], path, operators)
    alive = None if entries.living is None else entries.living[end]
    for name, far in (("h_ahead", guess), ("h_ahead_repeat", torch.zeros_like(guess))):
        error = (far - (hidden[end] - hidden[start])).square()
        found[name] = float(mean_over_living(error, alive))

    def lost(guess: Tensor, truth: Tensor) -> float:
        error = mean_over_living((guess - truth).square(), entries.living)
        return float(error / variance_of_living(truth, entries.living))

    found["h_lost"] = lost(ac.autoencoder.decode(mean, entries.operators), hidden)
    entries = model.entries(obs, batch, packing)
    steps = Steps.of(entries)
    posterior, _ = af.scan(obs, entries, None)
    guess = af.predict(obs[steps.before], posterior.mean[steps.before], 1, steps.operators)
    for name, near in (("obs", guess), ("obs_repeat", torch.zeros_like(guess))):
        error = (near - (obs[steps.after] - obs[steps.before])).square()
        found[name] = float(mean_over_living(error, steps.living))
    found["obs_lost"] = lost(af.autoencoder.decode(posterior.mean, entries.operators), obs)
    found["static_lost"] = lost(st.reconstruct(obs, entries), obs)
    return found
