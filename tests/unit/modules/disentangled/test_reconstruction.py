"""The graph auto-encoder can tell agents apart: what it keeps of recorded battles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from phalanx.data.batch import EpisodeBatch
from phalanx.data.store import EpisodeStore
from phalanx.envs.battle import VecBattle
from phalanx.envs.protocol import Timestep
from phalanx.learners.optimiser import Adam
from phalanx.modules.layers.packing import Packing
from phalanx.modules.world_models.disentangled.gala import GALA, Operators
from phalanx.modules.world_models.disentangled.graphs import build_graph
from phalanx.modules.world_models.disentangled.model import Disentangled
from phalanx.modules.world_models.disentangled.scale import mean_over_living, variance_of_living

CPU = torch.device("cpu")


def record(map_name: str, battles: int, seed: int) -> EpisodeBatch:
    """Battles fought with random available actions."""
    env = VecBattle(map_name, battles, seed=seed, autoreset=False)
    store, rng = EpisodeStore(battles, env.spec), np.random.default_rng(seed)
    rows, t = np.arange(battles), np.zeros(battles, np.int64)

    def seen() -> Timestep:
        ends = (env.reward, env.terminated, env.truncated)
        return Timestep(env.obs, env.state, env.avail_actions, *ends, env.alive, env.visibility, {})

    store.write_seen(rows, t, seen())
    while len(rows):
        actions = (rng.random(env.avail_actions.shape) * env.avail_actions).argmax(-1)
        env.step(actions)
        store.write_taken(rows, t[rows], actions, seen())
        t[rows] += 1
        store.write_seen(rows, t[rows], seen())
        rows = rows[~(env.terminated | env.truncated)[rows]]
    return store.batch(np.arange(battles))


def recorded(map_name: str, battles: int) -> tuple[Tensor, Tensor, Operators]:
    """Observations (P, N, O), who is alive (P, N), and the shipped graph's operators."""
    batch = record(map_name, battles, seed=0)
    packing = Packing.of(batch.lengths + 1, batch.max_t + 1, CPU)
    assert batch.alive is not None
    obs, alive = packing.pack(batch.obs), packing.pack(batch.alive)
    return obs, alive, Operators.of(build_graph("knn", obs, alive=alive))


def lost(guess: Tensor, obs: Tensor, alive: Tensor) -> float:
    error = mean_over_living((guess - obs).square(), alive)
    return float(error / variance_of_living(obs, alive))


@pytest.mark.parametrize("map_name", ["3m", "8m", "MMM2"])
@pytest.mark.parametrize("own_rows", [True, False])
def test_best_linear_reconstruction_through_the_filter(map_name: str, own_rows: bool) -> None:
    """Least squares from what linear layers can pass on: with own rows next to nothing is lost."""
    obs, alive, (smooth, sharpen) = recorded(map_name, 12)

    def layer(parts: list[Tensor], operator: Tensor) -> list[Tensor]:
        return [operator @ x for x in parts] + (parts if own_rows else [])

    # All products of operators that a way through the four layers can be.
    passed = layer(layer(layer(layer([obs], smooth), smooth), sharpen), sharpen)
    features = torch.cat([x[alive] for x in passed[-1:]], dim=1).double()
    ones = torch.ones(len(features), 1, dtype=torch.double)
    features, truth = torch.cat([features, ones], dim=1), obs[alive].double()
    guess = features @ (torch.linalg.pinv(features, rtol=1e-6) @ truth)
    variance = (truth - truth.mean(dim=0)).square().mean()
    share = float((guess - truth).square().mean() / variance)
    assert share < 0.05 if own_rows else share > 0.05


@pytest.mark.parametrize("map_name", ["3m", "8m", "MMM2"])
def test_trained_reconstruction(map_name: str) -> None:
    obs, alive, operators = recorded(map_name, 24)
    config, variance = Disentangled.Config(), variance_of_living(obs, alive)
    torch.manual_seed(0)
    Z = config.static_latent_dim
    net = GALA(obs.shape[-1], config.static_hidden_dim, Z, Z, own_rows=config.own_rows)
    updates, rows = 1200, 48
    optimiser = Adam(net.parameters(), lr=5e-3)
    annealed = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, updates)
    for _ in range(updates):
        some = torch.randint(0, len(obs), (rows,))
        seen = Operators(*(operator[some] for operator in operators))
        guess = net.decode(net.encode(obs[some], seen), seen)
        loss = mean_over_living((guess - obs[some]).square(), alive[some]) / variance
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        annealed.step()
    with torch.no_grad():
        assert lost(net.decode(net.encode(obs, operators), operators), obs, alive) < 0.1
