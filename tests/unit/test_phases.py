"""Runs of phases: what goes on, what begins anew, what cannot follow; killed anywhere they end the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import phalanx
from phalanx.checkpoint import open_checkpoint
from phalanx.config import compose, compose_stored
from phalanx.errors import ConfigError
from phalanx.phases import Phases
from phalanx.session import open_run
from phalanx.tracking import queries
from phalanx.tracking.record import point_summary, read_metrics
from phalanx.training import Trainer

from ..recorder import Recorder, trainer

PHASED = """
extends: mappo
name: cloned
phases: [offline, online]
recurrent: false
overrides:
  - {when: {phase: offline}, runner: offline, buffer: dataset, learner: bc, value_loss_coef: 1.0, t_max: 30,
     lr: 0.01, batch_size: 8, test_interval: 10, log_interval: 10, save_model_interval: 20}
  - {when: {phase: online}, t_max: 48, episode_length: 3, ppo_epoch: 1, anchor_coef: 0.1, test_interval: 24,
     log_interval: 12, save_model_interval: 24}
"""


class KilledError(Exception):
    """What nobody handles."""


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Config and words of a run that clones an untrained policy in the two-step game, then goes on."""
    folder = tmp_path_factory.mktemp("recorded")
    record = (f"record={folder / 'data'}", "t_max=60", "save_model=False", "batch_size_run=4")
    trainer(folder / "run", "iql", "matrix", *record, "test_nepisode=1")[0].run()
    (folder / "cloned.yaml").write_text(PHASED)
    small = ("batch_size_run=4", "test_nepisode=2", "agent_args.hidden_dims=[8]")
    return (
        str(folder / "cloned.yaml"),
        f"dataset={folder / 'data'}",
        *small,
        "critic_args.hidden_dims=[8]",
    )


class Counted(Recorder):
    """Says how many rows there are when a checkpoint is made."""

    def flush(self) -> int:
        return len(self.rows)


def play(
    folder: Path, words: tuple[str, ...], kill: tuple[str, int] | None = None, at: str = ""
) -> tuple[Phases, Counted]:
    """Train from the beginning, or from the checkpoint in ``folder`` of phase ``at``."""
    told = Counted()
    composed = compose(words[0], "matrix", words[1:])
    phases = Phases(composed.phase(at) if at else composed, told, folder)
    if at:
        state = open_checkpoint(folder).state
        phases.trainer.load(state)
    while True:
        _kill(phases.trainer, kill)
        phases.trainer.run()
        if not phases.follow():
            return phases, told


def _kill(run: Trainer, kill: tuple[str, int] | None) -> None:
    step = run._step

    def _step() -> None:
        if (run.run_config.phase, run.t_env) == kill:
            raise KilledError
        step()

    run._step = _step  # type: ignore[method-assign]


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, words: tuple[str, ...]
) -> tuple[Phases, Counted]:
    return play(tmp_path_factory.mktemp("whole"), words)


# After the checkpoints of update 20, of the end of the first phase, and of step 24.
@pytest.mark.parametrize(
    ("kill", "at", "kept"),
    [
        (("offline", 25), "offline", 20),
        (("online", 0), "offline", 30),
        (("online", 36), "online", 24),
    ],
)
def test_a_killed_run_goes_on_as_if_it_had_not_been(
    kill: tuple[str, int],
    at: str,
    kept: int,
    whole: tuple[Phases, Counted],
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Counted] = []
    init = Counted.__init__
    monkeypatch.setattr(Counted, "__init__", lambda self: (init(self), made.append(self))[0])
    with pytest.raises(KilledError):
        play(tmp_path, words, kill)
    checkpoint = open_checkpoint(tmp_path)
    assert (checkpoint.config["phase"], checkpoint.t_env) == (at, kept)
    again, rest = play(tmp_path, words, at=at)
    assert made[0].rows[: checkpoint.recorded] + rest.rows == whole[1].rows
    for name, value in whole[0].trainer.parts.policy.state_dict().items():
        assert torch.equal(value, again.trainer.parts.policy.state_dict()[name]), name


def test_metrics_of_the_first_phase_have_its_name(
    whole: tuple[Phases, Counted], words: tuple[str, ...], tmp_path: Path
) -> None:
    told = whole[1]
    assert [t for t, _ in told.curve("offline_test_return_mean")] == [0, 10, 20, 30]
    assert [t for t, _ in told.curve("test_return_mean")] == [0, 24, 48]
    assert [t for t, _ in told.curve("offline_loss_value")] == [10, 20, 30]
    assert [t for t, _ in told.curve("loss_anchor")][-1] == 48
    # Alone, it is the same run number for number.
    alone, other = trainer(tmp_path, words[0], "matrix", *words[1:], "phases=[]", "phase=offline")
    alone.run()
    early = [(n.removeprefix("offline_"), t, v) for n, t, v in told.rows if "offline_" in n]
    assert other.rows == early


def test_what_goes_on_and_what_begins_anew(words: tuple[str, ...], tmp_path: Path) -> None:
    phases = Phases(compose(words[0], "matrix", words[1:]), Counted(), tmp_path)
    one = phases.trainer
    one.run()
    learnt = {k: v.clone() for k, v in one.parts.policy.state_dict().items()}
    assert phases.follow()
    two = phases.trainer
    assert two.parts.policy is one.parts.policy
    assert two.parts.learner.critic is one.parts.learner.critic
    for name, value in two.parts.policy.state_dict().items():
        assert torch.equal(value, learnt[name])
    # What it is to stay close to is what was cloned; values keep their scale.
    anchor = two.parts.learner.anchor.state_dict()
    assert all(torch.equal(anchor[name], value) for name, value in learnt.items())
    scale, before = two.parts.learner.value_norm, one.parts.learner.value_norm
    assert scale is not before
    assert scale.denormalise(torch.ones(1)).equal(before.denormalise(torch.ones(1)))
    assert not scale.denormalise(torch.ones(1)).equal(torch.ones(1))
    assert two.parts.learner is not one.parts.learner
    assert not any(o.state for o in two.parts.learner.optimisers)
    assert (two.t_env, two.n_updates) == (0, 0)
    two.close()
    assert two.composed.following is None


@pytest.mark.parametrize("config", ["madt_online", "madvae"])
def test_shipped_decision_transformers_go_on(
    words: tuple[str, ...], tmp_path: Path, config: str
) -> None:
    small = ("batch_size=4", "batch_size_run=4", "episode_length=5", "ppo_epoch=1", "n_embd=8")
    small = (
        *small,
        "test_nepisode=1",
        "save_model=False",
        "target_returns=[8, 7]",
        "offline.t_max=6",
    )
    more = ("online.t_max=40", "test_interval=40", "log_interval=5", "n_layer=1", words[1])
    phases, told = play(tmp_path, (config, *small, *more))
    assert phases.composed.run.phase == "online"
    names = {name for name, _, _ in told.rows}
    assert names >= {"offline_test_return_mean@7", "test_return_mean@7", "offline_loss_value"}
    # It moves away from what was cloned, and is told by how much.
    assert told.curve("loss_anchor")[0][1] == pytest.approx(0, abs=1e-6)
    assert told.curve("loss_anchor")[-1][1] > 0
    if config == "madvae":  # what it is compared with while it plays is what it is to stay close to
        parts = phases.trainer.parts
        expert, anchor = (x.state_dict() for x in (parts.behaviour.expert, parts.learner.anchor))
        assert all(torch.equal(value, anchor[name]) for name, value in expert.items())
        assert names >= {"expert_share", "offline_loss_kl", "loss_kl"}


def test_it_is_one_run_on_record(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = dict(word.split("=", 1) for word in words[1:])
    given |= {"local_results_path": str(tmp_path), "mongo_url": "none"}
    step = Trainer._step

    def stop(self: Trainer) -> None:
        if (self.run_config.phase, self.t_env) == ("online", 36):
            raise KeyboardInterrupt
        step(self)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_step", stop)
        with pytest.raises(KeyboardInterrupt):
            phalanx.train(words[0], "matrix", **given)
    (stopped,) = queries.runs(tmp_path)
    folder = stopped.directory
    assert folder is not None
    done = phalanx.train(resume=str(folder), local_results_path=str(tmp_path), mongo_url="none")
    (record,) = queries.runs(tmp_path)
    assert (record.uid, record.status) == (done.uid, "COMPLETED")
    assert record.config["phase"] == "online"
    assert (record.steps, record.clock) == (48, "environment steps")
    point = {"value": 0.0, "min": 0.0, "max": 0.0}
    clocks = {"offline_loss": {"step": 90, **point}, "loss": {"step": 4, **point}}
    assert point_summary(clocks, record.config)["steps"] == 4
    metrics = read_metrics(folder)
    assert metrics["offline_test_return_mean"].steps == [0, 10, 20, 30]
    assert metrics["test_return_mean"].steps == [0, 24, 48]
    # Its config is that of the last phase, and says what was otherwise in the first.
    opened, composed = open_run(folder, [])
    assert opened.config["learner"] == "ppo"
    assert opened.config["phase_configs"]["offline"]["learner"] == "bc"
    assert "seed" not in opened.config["phase_configs"]["offline"]
    assert (composed.run.phase, composed.chosen["runner"]) == ("online", "vector")
    complete = phalanx.train(resume=str(folder), local_results_path=str(tmp_path), mongo_url="none")
    assert complete.result == done.result


def test_a_stored_config_is_the_same_in_each_phase(words: tuple[str, ...]) -> None:
    composed = compose(words[0], "matrix", words[1:])
    assert (composed.run.phase, composed.last.run.phase) == ("offline", "online")
    for phase in (composed, composed.last):
        again = compose_stored(phase.nested(), "stored")
        assert again.nested() == phase.nested()
        assert again.notes == []
    online = compose_stored(composed.last.nested(), "stored", ["phases=[]"])
    assert (online.phases, online.chosen["learner"]) == ((), "ppo")
    with pytest.raises(ConfigError, match="no phase 'last'; its phases are: offline, online"):
        composed.phase("last")


def test_words_hold_where_they_are_read(words: tuple[str, ...]) -> None:
    more = ("ppo_epoch=7", "gamma=0.5", "offline.lr=0.5", "online.t_max=3", "seed=9")
    one, two = compose(words[0], "matrix", [*words[1:], *more]).phases
    assert (one.run.seed, two.run.seed) == (9, 9)
    assert (one.parts["learner"].lr, two.parts["learner"].lr) == (0.5, 0.0005)  # type: ignore[attr-defined]
    assert (one.parts["learner"].gamma, two.parts["learner"].gamma) == (0.5, 0.5)  # type: ignore[attr-defined]
    assert (one.run.t_max, two.run.t_max) == (30, 3)
    assert two.parts["learner"].ppo_epoch == 7  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["ppo_epohc=7"], "unknown key 'ppo_epohc'"),
        (["mixing_embed_dim=8"], "key 'mixing_embed_dim' .command line.: read by mixer"),
        (
            ["offline.ppo_epoch=7"],
            "in phase offline: key 'ppo_epoch' .command line.: read by learner",
        ),
        (["offline.learner=ppo"], "in phase offline: .*buffer=dataset does not fit learner=ppo"),
        (
            ["online.policy=transformer"],
            "phases offline and online do not fit: policy is actor in one and transformer in the other. What "
            "is learnt in one phase acts in the next",
        ),
        (
            ["online.agent_args.hidden_dims=[4]"],
            r"do not fit: agent_args.hidden_dims is \[8\] in one and \[4\] in the other",
        ),
        (
            ["offline.seed=3"],
            "do not fit: seed is 3 in one and 0 in the other. It is the whole run's",
        ),
        (
            ["online.game=climbing"],
            "env_args.game is 'two_step' in one and 'climbing' in the other",
        ),
        (
            ["phase=online"],
            r"has the phases offline, online. For one of them alone add phases=\[\]",
        ),
        (["phases=[a, a]"], "has a name twice"),
        (["phases=[learner]"], "'learner' cannot be a phase's name"),
    ],
)
def test_what_cannot_follow_is_refused(words: tuple[str, ...], more: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        compose(words[0], "matrix", [*words[1:], *more])


def test_later_phases_are_tried_before_anything_is_recorded(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    given: dict[str, Any] = dict(word.split("=", 1) for word in words[1:])
    given |= {"local_results_path": str(tmp_path), "mongo_url": "none"}
    with pytest.raises(
        ConfigError, match=r"values are read in another scale .ValueNorm, then PopArt"
    ):
        phalanx.train(words[0], "matrix", **given, value_norm="popart")
    assert not (tmp_path / "runs").exists()
    # Which changes nothing of the first.
    state = torch.get_rng_state()
    Phases(compose(words[0], "matrix", words[1:]), Counted(), tmp_path)
    both = torch.rand(1)
    trainer(tmp_path, words[0], "matrix", *words[1:], "phases=[]", "phase=offline")
    assert torch.rand(1).equal(both)
    torch.set_rng_state(state)
