"""What the config files of PyMARL, EPyMARL and pymarl2 say that is called or done differently here.

Each key of theirs that no part reads has one of three answers: the entry that means the same
(:class:`Renamed`), that it asks for nothing that is missing here (:class:`Dropped`), or why it cannot be
done (:class:`Refused`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .sources import Entry


@dataclass(frozen=True)
class Renamed:
    """Another entry means the same."""

    key: str
    value: Any


@dataclass(frozen=True)
class Dropped:
    """Nothing is lost by leaving it out."""

    why: str


@dataclass(frozen=True)
class Refused:
    """It asks for something that is not there; says why, and what is."""

    why: str


Answer = Renamed | Dropped | Refused
Meaning = Callable[[Any], Answer]


def _same(key: str) -> Meaning:
    return lambda value: Renamed(key, value)


def _never_needed(why: str) -> Meaning:
    return lambda value: Dropped(why)


def _only(off: Any, why_not: str, why_fine: str = "that is how it is here") -> Meaning:
    """A switch: ``off`` is what is done here, everything else is refused."""
    offs = off if isinstance(off, tuple) else (off,)
    return lambda value: Dropped(why_fine) if value in offs else Refused(why_not)


def _target_update(value: Any) -> Answer:
    if isinstance(value, (int, float)) and value > 1:
        return Renamed("target_update_interval", value)
    return Refused(
        "a value of at most 1 is a rate of soft target updates, and target networks are copied here: "
        "target_update_interval is the number of updates between copies"
    )


def _recurrent(value: Any) -> Answer:
    if value is True:
        return Dropped("agent=rnn is recurrent; agent=normed has the key recurrent")
    return Refused("agent=rnn is always recurrent: agent=normed with recurrent=false is not")


_SINKS = {"use_tensorboard": "tensorboard", "use_wandb": "wandb", "use_trackio": "trackio"}
_CADENCE = "log_interval covers it"

MEANINGS: dict[str, Meaning] = {
    "optimizer": _same("optim"),
    "epochs": _same("ppo_epoch"),
    "eps_clip": _same("clip_param"),
    "hidden_dim": _same("rnn_hidden_dim"),
    "target_update_interval_or_tau": _target_update,
    "use_rnn": _recurrent,
    **dict.fromkeys(_SINKS, _only((), "it is a switch: True or False")),
    "wandb_project": _same("sink_project"),
    "wandb_team": _never_needed("set WANDB_ENTITY, which wandb reads"),
    "wandb_mode": _never_needed("set WANDB_MODE, which wandb reads"),
    "wandb_save_model": _never_needed("checkpoints are in the run folder"),
    "buffer_cpu_only": _never_needed("the replay always stays in main memory"),
    "runner_log_interval": _never_needed(_CADENCE),
    "learner_log_interval": _never_needed(_CADENCE),
    "repeat_id": _never_needed("use label"),
    "hypergroup": _never_needed("use label"),
    "enable_parallel_computing": _never_needed("batch_size_run environments always step together"),
    "kill_unit_step_mul": _never_needed("units of the embedded engine need no time to be removed"),
    "critic_lr": _never_needed("no chosen part has a critic"),
    "reward_scalarisation": _never_needed("this environment has one reward for the team already"),
    "common_reward": _only(True, "individual rewards are not offered: the team shares one"),
    "test_greedy": _only(True, "tests are always greedy", "tests are always greedy"),
    "evaluation_epsilon": _only((0, None), "tests are always greedy", "tests are always greedy"),
    "evaluate": _only(
        False,
        "evaluation is a command here: phalanx evaluate RUN with test_nepisode=100, where RUN is a run of "
        "Phalanx. PyMARL's own models (agent.th) are of other networks and cannot be loaded",
        "evaluation is a command of its own",
    ),
    "load_step": _only(
        0,
        "there is one checkpoint per purpose, not one per step: checkpoint_path=results/runs/RUN/checkpoints/"
        "latest (or best) starts a new run from it, resume=RUN continues the old one",
        "checkpoint_path names one checkpoint",
    ),
    "save_replay": _only(
        False,
        "films are made afterwards: phalanx evaluate RUN with save_video=3",
        "films are made afterwards, by `evaluate`",
    ),
    "render": _only(
        False,
        "films are made afterwards: phalanx evaluate RUN with save_video=3",
        "films are made afterwards, by `evaluate`",
    ),
    "pretrained_wrapper": _only(None, "pretrained partners are not offered"),
    "standardise_rewards": _only(
        False,
        "rewards are learnt from as they are paid. Remove it or set it to False; for policy gradients "
        "value_norm=valuenorm makes values comparable",
    ),
    "standardise_returns": _only(
        False,
        "targets are learnt from as they are. Remove it or set it to False; for policy gradients "
        "value_norm=valuenorm does what it is for",
    ),
    "obs_individual_obs": _only(
        False, "critics say what they see with see_obs and see_state: critic=normed see_obs=true"
    ),
    "add_value_last_step": _only(
        True,
        "episodes that only ran out of time are always bootstrapped; limit_terminates=true makes the time "
        "limit a real end",
    ),
    "mask_before_softmax": _only(True, "unavailable actions never have a probability"),
    "q_nstep": _only(
        (0, None), "advantages are generalised (gae_lambda); there are no n-step returns"
    ),
    "critic_type": _only(
        None,
        "a critic is a part here: critic=normed, with see_state=true as cv_critic, with see_state=false as "
        "ac_critic",
    ),
    "td_lambda": _only(0, "q_learner has one-step targets only (td_lambda=0)"),
    "q_lambda": _only(False, "q_learner has one-step targets only"),
    "use_layer_norm": _only(False, "agent=rnn has no layer norm; agent=normed has"),
    "use_orthogonal": _only(
        False, "agent=rnn starts from torch's own weights; agent=normed from orthogonal ones"
    ),
    "gain": _never_needed("it scales orthogonal first weights, which agent=rnn has not"),
    "abs": _only(True, "mixer=qmix keeps its weights positive by their absolute value"),
    "use_per": _only(False, "episodes are replayed uniformly"),
    "per_alpha": _never_needed("episodes are replayed uniformly"),
    "per_beta": _never_needed("episodes are replayed uniformly"),
    "return_priority": _never_needed("episodes are replayed uniformly"),
    "obs_starcraft": _only(True, "agents always see the battle"),
    "change_fov_with_move": _only(False, "the cone of sight is turned by actions of its own"),
}
"""Their key, where no part of a run reads it -> what it means here."""

VALUES: dict[tuple[str, Any], tuple[str, Any]] = {
    ("mac", "basic_mac"): ("policy", "value"),
    ("mac", "n_mac"): ("policy", "value"),
    ("use_cuda", True): ("device", "auto"),
    ("use_cuda", False): ("device", "cpu"),
    ("learner", "nq_learner"): ("learner", "q_learner"),
    ("agent", "n_rnn"): ("agent", "rnn"),
    ("runner", "parallel"): ("runner", "episode"),
    ("env", "sc2wrapped"): ("env", "sc2"),
    ("mixer", None): ("mixer", "none"),
    ("world_model", None): ("world_model", "none"),
}
"""(their key, value) -> the entry that means the same here."""


def translated(entries: Sequence[Entry]) -> list[Entry]:
    """Entries with parts, devices and switches under their names here, one for each that came.

    A switch like ``use_wandb`` adds to the ``sinks`` that were chosen before it, or takes from them.
    """
    # One controller serves both kinds of algorithm there; what its agents put out tells which policy it is.
    logits = any(e.key == "agent_output_type" and e.value == "pi_logits" for e in entries)
    found: list[Entry] = []
    sinks: Any = []
    for entry in entries:
        if entry.key in _SINKS and isinstance(entry.value, bool) and isinstance(sinks, list):
            others = [name for name in sinks if name != _SINKS[entry.key]]
            sinks = [*others, _SINKS[entry.key]] if entry.value else others
            found.append(replace(entry, key="sinks", value=sinks, text=None))
            continue
        if entry.key == "sinks":
            sinks = entry.value
        try:
            key, value = VALUES.get((entry.key, entry.value), (entry.key, entry.value))
        except TypeError:  # lists and mappings, which nothing of this is
            key, value = entry.key, entry.value
        if logits and (key == "policy" or entry.key == "agent_output_type"):
            key, value = "policy", "actor"
        changed = (key, value) != (entry.key, entry.value)
        found.append(replace(entry, key=key, value=value, text=None) if changed else entry)
    return found
