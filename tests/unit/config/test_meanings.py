"""Files of PyMARL's family, values as they were typed, parts that do not fit, and all faults at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from phalanx.cli import run
from phalanx.config import compose, compose_stored
from phalanx.config.sources import CONFIG_DIR
from phalanx.config.values import fitted, not_plain
from phalanx.errors import ConfigError, PhalanxError, did_you_mean
from phalanx.registry import misfits

EPYMARL_QMIX = """\
action_selector: "epsilon_greedy"
evaluation_epsilon: 0.0
runner: "episode"
target_update_interval_or_tau: 200
obs_agent_id: True
obs_last_action: False
obs_individual_obs: False
standardise_returns: False
standardise_rewards: False
agent_output_type: "q"
learner: "q_learner"
use_rnn: True
hidden_dim: 128
mixer: "qmix"
pretrained_wrapper: null
use_tensorboard: True
name: "qmix"
"""
EPYMARL_MAPPO = """\
action_selector: "soft_policies"
mask_before_softmax: True
runner: "parallel"
batch_size_run: 10
target_update_interval_or_tau: 0.01
hidden_dim: 128
agent_output_type: "pi_logits"
learner: "ppo_learner"
entropy_coef: 0.001
standardise_rewards: True
q_nstep: 5
critic_type: "cv_critic"
epochs: 4
eps_clip: 0.2
name: "mappo"
"""


def file(folder: Path, text: str, name: str = "theirs.yaml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def refused(config: str, env: str | None, *words: str) -> str:
    with pytest.raises(PhalanxError) as caught:
        compose(config, env, words)
    return str(caught.value)


def test_what_means_the_same_is_renamed_and_what_is_off_is_dropped(tmp_path: Path) -> None:
    composed = compose(file(tmp_path, EPYMARL_QMIX), "sc2")
    stored = composed.nested()
    assert stored["learner_args"]["target_update_interval"] == 200
    assert stored["agent_args"]["rnn_hidden_dim"] == 128
    assert stored["agent_args"]["obs_last_action"] is False
    assert stored["env_args"]["obs_last_action"] is False
    dropped = [note.split(": ")[1].split(" skipped")[0] for note in composed.notes]
    assert dropped == [
        "evaluation_epsilon",
        "obs_individual_obs",
        "standardise_returns",
        "standardise_rewards",
        "use_rnn",
        "pretrained_wrapper",
    ]


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    message = refused(file(tmp_path, EPYMARL_MAPPO), "sc2")
    first, *faults = message.splitlines()
    assert first == "5 things are wrong with this config:"
    starts = ["unknown learner 'ppo_learner'", "target_update_interval_or_tau=0.01"]
    starts += ["standardise_rewards=True", "q_nstep=5", "critic_type='cv_critic'"]
    assert all(f.startswith(f"  - {s}") for f, s in zip(faults, starts, strict=True)), message
    assert "Did you mean 'ppo'? Complete with it: --config=mappo." in message
    several = refused("qmix", "matrix", "lr=-1", "t_max=x", "gmae=3", "mixing_embed_dim=0")
    assert several.startswith("4 things are wrong")


@pytest.mark.parametrize(
    ("word", "leads_to"),
    [
        ("save_replay=True", "phalanx evaluate RUN with save_video=3"),
        ("evaluate=True", "phalanx evaluate RUN"),
        ("load_step=500", "checkpoint_path=results/runs/RUN/checkpoints/latest"),
        ("render=True", "save_video"),
        ("wandb_mode=offline", None),
        ("evaluate=False", None),
    ],
)
def test_pymarls_switches_lead_on(word: str, leads_to: str | None) -> None:
    if leads_to is None:
        assert any(word.split("=")[0] in note for note in compose("qmix", "matrix", [word]).notes)
    else:
        assert leads_to in refused("qmix", "matrix", word)


def test_switches_of_dashboards_add_to_those_chosen(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("extends: qmix\nsinks: [trackio]\nuse_tensorboard: True\n")
    assert compose(str(path), "matrix").run.sinks == ["trackio", "tensorboard"]
    words = ["use_wandb=True", "use_trackio=False", "wandb_project=mine"]
    run = compose(str(path), "matrix", words).run
    assert (run.sinks, run.sink_project) == (["tensorboard", "wandb"], "mine")
    assert "Did you mean 'wandb'?" in refused("qmix", "matrix", "sinks=[wadnb]")
    assert "it is a switch: True or False" in refused("qmix", "matrix", "use_wandb=online")


def test_env_may_name_a_config(tmp_path: Path) -> None:
    for composed in (
        compose("qmix", None, ["env=sc2v2"]),
        compose(file(tmp_path, "extends: qmix\nname: a\nenv: sc2v2\n"), None),
    ):
        assert composed.chosen["env"] == "sc2"
        assert composed.nested()["env_args"]["map_name"] == "10gen_terran"
    assert "name two environments" in refused("qmix", "matrix", "env=sc2v2")
    assert "unknown env 'sc22'" in refused("qmix", None, "env=sc22")


@pytest.mark.parametrize(
    ("word", "key", "value"),
    [
        ("t_max=2e6", "t_max", 2_000_000),
        ("label=007", "label", "007"),
        ("label=2018-11-30", "label", "2018-11-30"),
        ("label=null", "label", "null"),
        ("label={[1]:2}", "label", "{[1]:2}"),
        ("label=", "label", ""),
        ("device=cpu", "device", "cpu"),
        ("mongo_url=null", "mongo_url", None),
        ("buffer_size=1e2", "buffer_args.buffer_size", 100),
    ],
)
def test_values_mean_what_was_typed(word: str, key: str, value: Any) -> None:
    composed = compose("qmix", "matrix", [word])
    assert composed.full_keys()[key][0] == value
    again = compose_stored(composed.nested(), "stored")
    assert again.nested() == composed.nested()


def test_text_in_files_is_as_written_too(tmp_path: Path) -> None:
    path = file(tmp_path, "extends: qmix\nname: 007\nlabel: 2018-11-30\nt_max: 1e4\n")
    run = compose(path, "matrix").run
    assert (run.name, run.label, run.t_max) == ("007", "2018-11-30", 10_000)


def test_fitting_leaves_doubt_to_the_type_check() -> None:
    assert fitted(int, 2.5) == 2.5
    assert fitted(int | None, 3.0) == 3
    assert fitted(list[int], (1.0, 2)) == [1, 2]
    assert fitted(str | int, 7, "7") == 7
    assert fitted(bool, 1) == 1


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "make_args={'a': (6, 6)}",
            "make_args.a=(6, 6) is a tuple, which a stored config cannot keep: write [6, 6]",
        ),
        ("make_args={'agent.0': 1}", "make_args has the key 'agent.0': dots and $"),
        ("make_args={1: 2}", "make_args has the key 1: keys must be text"),
        ("make_args={a: 2018-11-30}", "is a date, which a stored config cannot keep"),
        ("make_args={a: .nan}", "make_args.a=nan is not finite"),
        ("seed=99999999999999999999999999", "seed is a number of 87 bits"),
        ("lr=.inf", "learner_args.lr=inf is not finite"),
        ("lr=1e400", "learner_args.lr=inf is not finite"),
        ("lr=2020-13-45", "learner_args.lr='2020-13-45' (command line) should be a valid number"),
        ("seed=" + "1" * 5000, "seed"),
        ("plugins=5", "plugins=5 (command line) must be a list of modules"),
        ("batch_size_run=1000000000", "should be less than or equal to 65536"),
    ],
)
def test_what_could_not_be_kept_is_refused(word: str, message: str) -> None:
    assert message in refused("qmix", "gymma", word)


@pytest.mark.parametrize("config", ["mappo", "coma"])
def test_no_layer_is_empty(config: str) -> None:
    for value in ("[8,0]", "[]", "[-1]"):
        message = refused(config, "matrix", f"critic_args.hidden_dims={value}")
        assert message.startswith("critic_args.hidden_dims")
        assert "at least 1" in message or "greater than or equal to 1" in message


def test_plain_values_pass() -> None:
    assert not list(not_plain({"a": [1, 2.5, None, True, {"b": "x"}]}, "x"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr: !foo 3", ":3: the value of 'lr' cannot be read: could not determine a constructor"),
        ("label: {[1]: 2}", ":3: the value of 'label' cannot be read: found unhashable key"),
        ("? [1]\n: 2", ":3: a key must be one word"),
        ("overrides: [{when: {1: 2}}]", ":3): the key 1 must be text"),
        ("overrides: [{when: {game: climbing}, lrr: 2}]", ":3): no part that there is reads 'lrr'"),
        ("overrides: 3", ":3) must be a list of blocks"),
        ("a: &a [*a]", "contains itself, by an alias"),
        ("\x00: 1", "is not valid YAML"),
    ],
)
def test_odd_yaml_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = file(tmp_path, f"extends: qmix\nname: a\n{text}\n")
    assert message in refused(path, "matrix")


def test_alias_bombs_are_counted_not_built(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    assert "aliases counted as often" in refused(file(tmp_path, "\n".join(lines)), "matrix")


@pytest.mark.parametrize("name", ["~nouser/x.yaml", "a" * 300, "x.json", "a\0b", "/", ""])
def test_configs_that_are_not_there(name: str) -> None:
    assert "no such" in refused(name, "matrix")


def test_json_is_a_config_too(tmp_path: Path) -> None:
    path = file(tmp_path, '{"extends": "qmix", "name": "j", "lr": 0.5}', "x.json")
    assert compose(path, "matrix").nested()["learner_args"]["lr"] == 0.5


def test_conditions_match_defaults_and_misses_are_said(tmp_path: Path) -> None:
    path = file(tmp_path, "extends: qmix\nname: a\noverrides: [{when: {seed: 0}, lr: 0.5}]\n")
    hit, miss = compose(path, "matrix"), compose(path, "matrix", ["seed=1"])
    assert hit.nested()["learner_args"]["lr"] == 0.5
    assert hit.notes == []
    assert miss.nested()["learner_args"]["lr"] != 0.5
    (note,) = miss.notes
    assert note.endswith("a.yaml:3: no block of these overrides (1) matches this run") or (
        "no block of these overrides (1) matches this run" in note
    )


def test_suggestions_name_what_helps() -> None:
    assert did_you_mean("ppo_learner", ["q_learner", "ppo"]) == " Did you mean 'ppo'?"
    assert did_you_mean("hiden", ["hidden", "hidden"]) == " Did you mean 'hidden'?"
    message = refused("mappo", "matrix", "hidden_dms=[3]")
    assert "'agent_args.hidden_dims' or 'critic_args.hidden_dims'" in message


@pytest.mark.parametrize(
    ("config", "words", "message"),
    [
        ("qmix", ["policy=transformer"], "needs a ValuePolicy: choose policy=value"),
        ("mappo", ["policy=value"], "needs a StochasticPolicy: choose policy=actor"),
        ("mappo", ["buffer=episode_replay", "runner=episode"], "Choose buffer=on_policy"),
        ("qmix", ["buffer=on_policy", "runner=episode"], "Choose buffer=episode_replay"),
        ("qmix", ["learner=ppo"], "learner=ppo needs a critic, and none is chosen: add critic="),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    config: str,
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In a sentence, with status 1, and nothing is left of it."""
    monkeypatch.chdir(tmp_path)
    assert run([f"--config={config}", "--env-config=matrix", "with", *words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("config", sorted(p.stem for p in (CONFIG_DIR / "algs").glob("*.yaml")))
def test_shipped_parts_fit(config: str) -> None:
    composed = compose(config, "matrix")
    for phase in composed.phases or (composed,):
        assert misfits(phase.chosen) == []


ENV_PLUGIN = '''
from phalanx.envs.matrix import MatrixGames
from phalanx.registry import ENVS
import {helper}

@ENVS.register("{name}")
class Mine(MatrixGames):
    """A game of one's own."""
'''


def test_a_plugins_environment_needs_no_file_and_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir()
    elsewhere.mkdir()
    (here / "my_helper_7.py").write_text("")
    (here / "my_game_7.py").write_text(ENV_PLUGIN.format(name="mine_7", helper="my_helper_7"))
    file(here, "extends: qmix\nname: a\nplugins: [my_game_7]\n", "mine.yaml")
    monkeypatch.chdir(elsewhere)
    for composed in (
        compose(str(here / "mine.yaml"), None, ["env=mine_7"]),
        compose(str(here / "mine.yaml"), "mine_7"),
        compose("qmix", "mine_7", [f"plugins=[{here}/my_game_7.py]", "game=climbing"]),
    ):
        assert composed.chosen["env"] == "mine_7"
        assert composed.run.plugins == [str(here / "my_game_7.py")]
    monkeypatch.chdir(here)
    composed = compose("qmix", "mine_7", ["plugins=my_game_7.py"])
    monkeypatch.chdir(elsewhere)
    assert compose_stored(composed.nested(), "stored").chosen["env"] == "mine_7"


def test_a_plugin_that_ends_the_program_does_not(tmp_path: Path) -> None:
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(0)\n")
    message = refused("qmix", "matrix", f"plugins=[{tmp_path}/leaves.py]")
    assert "could not be imported: SystemExit: 0" in message
    assert "leaves.py:2" in message
    with pytest.raises(ConfigError):
        compose("qmix", "matrix", ["plugins={a: 1}"])
