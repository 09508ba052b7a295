"""What plays besides a policy: what it adds reaches learners, checkpoints and tests; conditions."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from phalanx import evaluation
from phalanx.checkpoint import find_checkpoint, load_checkpoint
from phalanx.config import compose
from phalanx.config.compose import compose_stored
from phalanx.errors import CheckpointError
from phalanx.learners.ppo import PPOLearner
from phalanx.modules.behaviours.base import Behaviour, Played
from phalanx.modules.policies.base import Condition, Seen, StochasticPolicy
from phalanx.registry import BEHAVIOURS, PartConfig

from ...recorder import trainer
from .toys import CPU, plain

SMALL = (
    "t_max=24",
    "test_interval=24",
    "test_nepisode=2",
    "batch_size_run=3",
    "episode_length=4",
    "ppo_epoch=1",
)


class Stubborn(Behaviour):
    """Agent 0 plays the policy's actions, agent 1 always the same; counts its steps."""

    class Config(PartConfig):
        pass

    optional_fields = frozenset({"log_prob"})

    def __init__(self, config: Config, *, policy: StochasticPolicy) -> None:
        super().__init__(policy)
        self.modules = {"habit": nn.Linear(1, 2)}

    def init_carry(
        self, batch_size: int, device: torch.device, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        own = {"asked": torch.zeros(batch_size, device=device)}
        return super().init_carry(batch_size, device, generator) | own

    def act(
        self,
        seen: Seen,
        carry: dict[str, Tensor],
        t_env: int,
        test_mode: bool,
        generator: torch.Generator,
    ) -> Played:
        actions, after = self.policy.act(seen, carry, t_env, test_mode, generator)
        asked = carry["asked"] + 1
        actions[:, 1] = self.modules["habit"].get_parameter("bias").argmax()
        log_prob = torch.stack([-asked, torch.zeros_like(asked)], dim=1)[..., None]
        return Played(actions, {**after, "asked": asked}, log_prob)


@pytest.fixture
def stubborn(monkeypatch: pytest.MonkeyPatch) -> None:
    BEHAVIOURS.names()
    monkeypatch.setitem(BEHAVIOURS._parts, "stubborn", Stubborn)


@pytest.mark.usefixtures("stubborn")
def test_what_a_behaviour_adds_reaches_learners_and_checkpoints(tmp_path: Path) -> None:
    words = ("game=coordination", "behaviour=stubborn", *SMALL)
    run, _ = trainer(tmp_path, "mappo", "matrix", *words)
    habit = run.parts.behaviour.modules["habit"].get_parameter("bias")
    with torch.no_grad():
        habit.copy_(torch.tensor([0.0, 1.0]))
    learnt = []
    learner: PPOLearner = run.parts.learner
    learn = learner.learn
    learner.learn = lambda batch, t: learnt.append(batch) or learn(batch, t)  # type: ignore[assignment, func-returns-value]
    run.run()
    batch = learnt[0]
    assert (batch.actions[..., 1] == 1).all()
    # Its own memory is filed with the policy's; what it says of its actions is what ratios start from.
    assert set(batch.carry) >= {"asked", "hidden", "last_actions"}
    assert batch.log_prob[:, :, 0, 0].equal(-batch.filled.float())
    assert learner.prepare(batch).log_prob is batch.log_prob

    state = load_checkpoint(find_checkpoint(tmp_path))
    assert state["behaviour"]["habit"]["bias"].tolist() == [0.0, 1.0]
    again, _ = trainer(tmp_path, "mappo", "matrix", *words)
    again.load(state)
    assert again.parts.behaviour.modules["habit"].get_parameter("bias").tolist() == [0.0, 1.0]
    # Agent 1 takes its second action in tests of the checkpoint too: at best they earn 2.
    out = tmp_path / "evaluation.csv"
    evaluation.evaluate_checkpoint(find_checkpoint(tmp_path), run.composed, 2, out)
    assert {float(row["return"]) for row in csv.DictReader(out.open())} <= {0.0, 2.0}
    del state["behaviour"]
    with pytest.raises(CheckpointError, match="does not fit"):
        again.load(state)


def test_plain_leaves_checkpoints_as_they_are(tmp_path: Path) -> None:
    run, _ = trainer(tmp_path, "mappo", "matrix", *SMALL)
    run.run()
    assert "behaviour" not in load_checkpoint(find_checkpoint(tmp_path))
    assert "log_prob" not in run.parts.runner.rollout.store.arrays
    # Configs stored before there were behaviours had this one.
    stored = run.composed.nested()
    del stored["behaviour"], stored["behaviour_args"]
    composed = compose_stored(stored, "stored")
    assert composed.chosen["behaviour"] == "plain"
    assert composed.notes == []


class Obedient:
    """Takes the second action when asked for more than 7, else the first."""

    conditions = (
        Condition("20", {"return_to_go": 20.0}),
        Condition("7", {"return_to_go": 7.0}),
    )

    def init_carry(self, batch_size: int, *_: Any) -> dict[str, Tensor]:
        return {"return_to_go": torch.zeros(batch_size)}

    def act(
        self, seen: Seen, carry: dict[str, Tensor], *_: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return (carry["return_to_go"] > 7).long()[:, None].expand(-1, 2), carry

    def metrics(self, t_env: int) -> dict[str, float]:
        return {}


@pytest.mark.parametrize("copies", [1, 3, 16])
def test_conditions_are_played_side_by_side(copies: int) -> None:
    composed = compose("iql", "matrix", ["game=two_step", f"batch_size_run={copies}"])
    tester = evaluation.Tester(composed, plain(Obedient()), CPU, n_episodes=4)
    for _ in range(2):
        stats = tester.play(0)
        assert sorted(stats.conditions) == ["20"] * 4 + ["7"] * 4
        means = tester.means()
        # Both second actions earn 8 in the second state, both first ones 7 in the other.
        assert means["return_mean"] == means["return_mean@20"] == 8.0
        assert means["return_mean@7"] == 7.0
        assert means["return_std"] == means["return_std@7"] == 0.0
    tester.close()


def test_target_returns_are_conditions(tmp_path: Path) -> None:
    words = ("policy=decision_transformer", "critic=normed", "target_returns=[20, 10]", *SMALL)
    run, told = trainer(tmp_path, "mappo", "matrix", *words)
    run.run()
    names = {name for name, _, _ in told.rows}
    assert names >= {"test_return_mean", "test_return_mean@20", "test_ep_length_mean@10"}
    assert run.tester._rollout is not None
    to_go = run.tester._rollout._carry["return_to_go"]
    assert to_go.min() <= 10 < to_go.max()
    out = tmp_path / "evaluation.csv"
    means = evaluation.evaluate_checkpoint(find_checkpoint(tmp_path), run.composed, 2, out)
    assert set(means) >= {"return_mean", "return_mean@20", "return_mean@10"}
    assert [row["condition"] for row in csv.DictReader(out.open())].count("10") == 2
