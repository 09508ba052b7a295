"""The world model learns the dynamics of recorded battles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from phalanx.data.batch import EpisodeBatch, episode_fields
from phalanx.data.store import EpisodeStore
from phalanx.envs.battle import VecBattle
from phalanx.envs.protocol import Timestep
from phalanx.modules.layers.one_hot import one_hot_actions
from phalanx.modules.layers.packing import Packing
from phalanx.modules.world_models.base import weighted_sum
from phalanx.modules.world_models.disentangled.gala import Operators

from ..toys import CPU, assemble


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


def some(batch: EpisodeBatch, chosen: Tensor) -> EpisodeBatch:
    """Some episodes of a batch, padded to the longest of them."""
    longest = int(batch.lengths[chosen].max())
    fields = {
        name: getattr(batch, name)[chosen][:, : field.steps(longest)]
        for name, field in episode_fields(batch.spec).items()
    }
    return replace(batch, lengths=batch.lengths[chosen], **fields)


@pytest.fixture(scope="module")
def errors() -> dict[str, float]:
    """Errors in h on fresh battles after a fixed number of updates, of the model and of two guesses.

    The agent has learnt first: hidden states of an untrained one hardly change in a step. Agents are not
    linked: what a graph's smoothing takes from hidden states, no prediction brings back.
    """
    train, fresh = record("3m", 64, seed=0), record("3m", 32, seed=1)
    generator = torch.Generator().manual_seed(0)

    def draw() -> EpisodeBatch:
        return some(train, torch.randperm(64, generator=generator)[:8])

    taught = assemble({"learner": {"optim": "adam", "lr": 2e-3}}, spec=train.spec)
    learner = taught.build("learner")
    for _ in range(300):
        learner.learn(draw(), 0)

    options = {"mask_af": 0.0, "mask_st": 0.0, "train_share": 1.0, "graph": "none"}
    parts = assemble({"world_model": options}, spec=train.spec, world_model="disentangled")
    policy, model = parts.build("policy"), parts.build("world_model")
    policy.load_state_dict(taught.build("policy").state_dict())
    updates = 600
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    annealed = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, updates)
    for _ in range(updates):
        batch = draw()
        packing = Packing.of(batch.lengths + 1, batch.max_t + 1, CPU)
        with torch.no_grad():
            unrolled = policy.unroll(batch)
        optimiser.zero_grad()
        weighted_sum(model(unrolled, batch, packing).losses, model.loss_weights).backward()
        optimiser.step()
        annealed.step()

    packing = Packing.of(fresh.lengths + 1, fresh.max_t + 1, CPU)
    branch, at = model.action_conditioned, packing.previous
    with torch.no_grad():
        hidden = packing.pack(policy.unroll(fresh).hidden)
        operators = model.operators(hidden, fresh, packing)
        state = branch.posterior(hidden, operators).mean.flatten(1)[at]
        taken = one_hot_actions(packing.pack(fresh.last_actions), fresh.spec.n_actions)
        following = branch.transition(state, taken[fresh.batch_size :].flatten(1)).mean
        earlier = Operators(*(operator[at] for operator in operators))
        shape = (len(at), fresh.spec.n_agents, -1)
        predicted = branch.autoencoder.decode(following.view(shape), earlier)
    truth = hidden[fresh.batch_size :]
    guesses = {"model": predicted, "repeat": hidden[at], "mean": truth.mean(dim=(0, 1))}
    return {name: float((guess - truth).square().mean()) for name, guess in guesses.items()}


def test_one_step_prediction_beats_the_mean(errors: dict[str, float]) -> None:
    assert errors["model"] < 0.4 * errors["mean"], errors


def test_one_step_prediction_beats_repeating_the_last(errors: dict[str, float]) -> None:
    assert errors["model"] < 0.95 * errors["repeat"], errors
