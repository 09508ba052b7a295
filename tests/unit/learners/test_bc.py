"""Behaviour cloning: every stochastic policy comes to do what the data do, and values what follows."""

from __future__ import annotations

from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import pytest
import torch

from phalanx.config import compose
from phalanx.data.batch import EpisodeBatch
from phalanx.data.chunks import alive_of
from phalanx.data.dataset import DatasetWriter
from phalanx.data.dataset.description import Description
from phalanx.envs.protocol import Discrete, EnvSpec
from phalanx.errors import ConfigError
from phalanx.learners.bc import BehaviourCloning
from phalanx.modules.policies.base import Seen

from ...recorder import trainer
from ..modules.toys import CPU, assemble, random_batch

SPEC = EnvSpec(n_agents=2, obs_dim=2, state_dim=1, action=Discrete(2), episode_limit=3)
POLICIES: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "recurrent": ({"policy": "actor", "agent": "normed"}, {"agent": {"recurrent": True}}),
    "feed-forward": ({"policy": "actor", "agent": "normed"}, {"agent": {"recurrent": False}}),
    "transformer": ({"policy": "transformer"}, {}),
}


def learner(of: str, spec: EnvSpec = SPEC, critic: str = "none", **config: Any) -> BehaviourCloning:
    parts, configs = POLICIES[of]
    configs = {**configs, "learner": {"lr": 0.01, **config}}
    made: BehaviourCloning = assemble(configs, spec, learner="bc", critic=critic, **parts).build(
        "learner"
    )
    return made


def cued(rows: int = 4) -> EpisodeBatch:
    """Three steps; both agents keep on doing what agent 0 was shown at the first one, and only then."""
    cue = torch.arange(rows) % 2
    obs = torch.zeros(rows, 4, 2, 2)
    obs[:, 0] = torch.nn.functional.one_hot(cue, 2)[:, None].float()
    last = torch.zeros(rows, 3, dtype=torch.bool)
    last[:, 2] = True
    return EpisodeBatch(
        spec=SPEC,
        obs=obs,
        state=torch.zeros(rows, 4, 1),
        avail_actions=torch.ones(rows, 4, 2, 2, dtype=torch.bool),
        actions=cue[:, None, None].expand(rows, 3, 2).clone(),
        reward=torch.ones(rows, 3),
        terminated=last,
        truncated=torch.zeros_like(last),
        lengths=torch.full((rows,), 3),
    )


@pytest.mark.parametrize("of", POLICIES)
def test_it_learns_what_the_policy_can_know(of: str) -> None:
    bc, batch = learner(of), cued()
    for _ in range(60):
        loss = float(bc.learn(batch, 0)["loss_policy"])
    # Without memory two of three steps are a guess; agents that are told what others do guess once for both.
    guesses = {"recurrent": 0, "transformer": 1, "feed-forward": 2}[of]
    assert loss == pytest.approx(guesses * log(2) / 3, abs=0.01)


def test_chances_of_the_data_through_a_dataset(tmp_path: Path) -> None:
    """Agent 0 of a game plays .7/.2/.1, agent 1 .25/.25/.5: that is what the shipped config learns to do."""
    env_words = ("game=coordination", f"dataset={tmp_path / 'd'}")
    with pytest.raises(ConfigError, match="needs a dataset to read"):
        trainer(tmp_path, "bc", "matrix", "game=coordination")
    played, _ = trainer(tmp_path, "iql", "matrix", "game=coordination")
    env = played.parts.env
    seen, spec = env.reset(), env.spec
    facts = {"name": "matrix", "options": {"game": "coordination"}, "facts": env.describe()}
    with DatasetWriter(tmp_path / "d", Description.of(spec, seen.obs.dtype.type, facts)) as writer:
        for e in range(20):
            first = 0 if e < 14 else 1 if e < 18 else 2
            second = 0 if e % 4 == 0 else 1 if e % 4 == 1 else 2
            writer.append(
                {
                    "obs": seen.obs[[0, 0]],
                    "state": seen.state[[0, 0]],
                    "avail_actions": seen.avail_actions[[0, 0]],
                    "actions": torch.tensor([[first, second]]).numpy().astype("uint8"),
                    "reward": seen.reward[:1],
                    "terminated": ~seen.terminated[:1],
                    "truncated": seen.truncated[:1],
                },
                {},
            )
    words = ("t_max=120", "test_interval=400", "test_nepisode=1", "save_model=False", "lr=0.02")
    words = (*env_words, *words, "batch_size=64")
    run, _ = trainer(tmp_path, "bc", "matrix", *words)
    run.run()
    policy = run.parts.policy
    batch = run.parts.buffer.sample()
    chances = policy.unroll(batch)[0, 0].exp()
    expected = torch.tensor([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]])
    torch.testing.assert_close(chances, expected, atol=0.08, rtol=0)
    # Tests are greedy: the likeliest action of each.
    actions, _ = policy.act(Seen.of(batch, 0), policy.init_carry(64, CPU), 0, True, None)
    assert actions.unique(dim=0).tolist() == [[0, 2]]


def test_the_dead_and_what_is_not_there_teach_nothing() -> None:
    batch = random_batch()
    other = batch.actions.clone()
    inactive = ~(alive_of(batch)[:, :-1] & batch.filled[..., None])
    other[inactive] = (other[inactive] + 1) % 5
    spec = batch.spec
    losses = []
    for actions in (batch.actions, other):
        bc = learner("feed-forward", spec, availability_mask=False)
        losses.append(bc.learn(replace(batch, actions=actions), 0)["loss"])
    assert torch.equal(*losses)
    # With the mask only what was available competes, and an action is never less likely than without.
    assert learner("feed-forward", spec).learn(batch, 0)["loss"] < losses[0]


def test_values_are_returns_on_the_side() -> None:
    bc = learner("feed-forward", critic="normed", value_loss_coef=1.0, gamma=0.5)
    alone = learner("feed-forward")
    batch = cued()
    for _ in range(3):
        both, one = bc.learn(batch, 0), alone.learn(batch, 0)
    assert both["loss_value"] > 0
    assert both["loss"] == pytest.approx(float(both["loss_policy"] + both["loss_value"]))
    assert "loss_value" not in one
    for _ in range(80):
        bc.learn(batch, 0)
    alive = alive_of(batch)
    # 1 + 1/2 + 1/4 where the cue is seen; later steps look alike and are worth 1.5 or 1.
    for t, expected in ((0, 1.75), (1, 1.25)):
        seen = (x[:, t] for x in (batch.obs, batch.state, alive, batch.avail_actions))
        values = bc.value_norm.denormalise(bc.critic(*seen, {}))
        torch.testing.assert_close(values, torch.full((4, 2), expected), atol=0.02, rtol=0)


def test_what_it_is_told_wrongly_is_refused() -> None:
    with pytest.raises(ConfigError, match="critic=none has none: choose critic=normed"):
        learner("recurrent", value_loss_coef=0.5)
    with pytest.raises(
        ConfigError, match="policy=value does not fit learner=bc, which needs a Stoch"
    ):
        compose("bc", "matrix", ["policy=value"])
    with pytest.raises(
        ConfigError,
        match="critic=action_values does not fit learner=bc, which needs a Critic or NoCritic",
    ):
        compose("bc", "matrix", ["critic=action_values"])
    with pytest.raises(ConfigError, match="critic=none does not fit learner=ppo"):
        compose("mappo", "matrix", ["critic=none"])


def test_the_learning_rate_warms_up() -> None:
    bc = learner("feed-forward", warmup_updates=4)
    rates = []
    for _ in range(5):
        bc.learn(cued(), 0)
        rates.append(bc.optimisers[0].param_groups[0]["lr"])
    assert rates == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01])
