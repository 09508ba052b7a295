"""Every key is routed, checked, or refused with a message that tells the way out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from phalanx.config import Composed, compose, compose_stored
from phalanx.config.sources import CONFIG_DIR, parse_value, read_yaml
from phalanx.envs.battle import map_names
from phalanx.errors import ConfigError, PhalanxError
from phalanx.registry import REGISTRIES

PYMARL_QMIX = """\
# --- QMIX specific parameters ---

# use epsilon greedy action selector
action_selector: "epsilon_greedy"
epsilon_start: 1.0
epsilon_finish: 0.05
epsilon_anneal_time: 50000

runner: "episode"

buffer_size: 5000

# update the target network every {} episodes
target_update_interval: 200

# use the Q_Learner to train
agent_output_type: "q"
learner: "q_learner"
double_q: True
mixer: "qmix"
mixing_embed_dim: 32
hypernet_layers: 2
hypernet_embed: 64

name: "qmix"
"""


def qmix(*words: str) -> Composed:
    """QMIX on a table game, with words of the command line."""
    return compose("qmix", "matrix", words)


def fails(message: str, *words: str) -> None:
    """The words are refused with exactly this message."""
    with pytest.raises(PhalanxError) as caught:
        qmix(*words)
    assert str(caught.value) == message


def test_a_flat_pymarl_file_loads_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "qmix.yaml"
    file.write_text(PYMARL_QMIX)
    composed = compose(str(file), "matrix")
    assert composed.chosen["mixer"] == "qmix"
    assert composed.chosen["runner"] == "episode"
    stored = composed.nested()
    assert stored["mixer_args"] == {
        "mixing_embed_dim": 32,
        "hypernet_layers": 2,
        "hypernet_embed": 64,
    }
    assert stored["buffer_args"]["buffer_size"] == 5000
    assert stored["learner_args"]["double_q"] is True
    assert composed.origins["mixer_args.hypernet_embed"] == f"{file}:23"
    assert composed.notes == []


def test_pymarls_own_names_are_understood(tmp_path: Path) -> None:
    file = tmp_path / "old.yaml"
    file.write_text(
        "name: old\nmac: basic_mac\nuse_cuda: False\nuse_tensorboard: True\nrunner: parallel\n"
        "batch_size_run: 4\nmixer: null\nbuffer_cpu_only: True\n"
    )
    composed = compose(str(file), "matrix")
    assert composed.chosen["policy"] == "value"
    assert composed.run.device == "cpu"
    assert composed.run.sinks == ["tensorboard"]
    assert composed.chosen["runner"] == "episode"
    assert composed.chosen["mixer"] == "none"
    assert len(composed.notes) == 1
    assert composed.notes[0].startswith(f"{file}:8: buffer_cpu_only skipped")


def test_bare_keys_go_to_the_part_that_reads_them() -> None:
    composed = qmix("lr=0.01", "game=climbing", "mixing_embed_dim=8")
    stored = composed.nested()
    assert stored["learner_args"]["lr"] == 0.01
    assert stored["env_args"]["game"] == "climbing"
    assert stored["mixer_args"]["mixing_embed_dim"] == 8
    assert composed.origins["learner_args.lr"] == "command line"


def test_map_name_reaches_sc2() -> None:
    composed = compose("qmix", "sc2", ["map_name=MMM2"])
    assert composed.nested()["env_args"]["map_name"] == "MMM2"


def test_dotted_keys_work_too() -> None:
    assert qmix("learner_args.lr=0.01").nested()["learner_args"]["lr"] == 0.01


def test_command_line_beats_algorithm_beats_default() -> None:
    composed = qmix("buffer_size=77", "name=mine")
    assert composed.nested()["buffer_args"]["buffer_size"] == 77
    assert composed.run.name == "mine"
    assert qmix().run.name == "qmix"


def test_choosing_another_part_skips_the_files_keys_with_a_line() -> None:
    composed = qmix("mixer=vdn")
    assert composed.chosen["mixer"] == "vdn"
    skipped = [n for n in composed.notes if "mixing_embed_dim" in n]
    assert len(skipped) == 1
    assert re.match(
        r"config/algs/qmix\.yaml:\d+: \S*mixing_embed_dim skipped, read by mixer qmix / qtran_base, "
        r"but this run uses mixer vdn",
        skipped[0],
    )


def test_key_of_a_part_not_chosen_is_an_error_on_the_command_line() -> None:
    fails(
        "key 'mixing_embed_dim' (command line): read by mixer qmix / qtran_base, but this run uses mixer vdn",
        "mixer=vdn",
        "mixing_embed_dim=8",
    )


def test_unknown_key_suggests() -> None:
    fails(
        "unknown key 'mixing_embd_dim' (command line). Did you mean 'mixing_embed_dim'? "
        "`print_config` shows every key of a run.",
        "mixing_embd_dim=8",
    )


def test_unknown_key_in_a_file_tells_the_line(tmp_path: Path) -> None:
    file = tmp_path / "typo.yaml"
    file.write_text("name: typo\nmixer: qmix\nlearner_args:\n  lrr: 0.1\n")
    with pytest.raises(ConfigError) as caught:
        compose(str(file), "matrix")
    assert f"unknown key 'learner_args.lrr' ({file}:4). Did you mean 'learner_args.lr'" in str(
        caught.value
    )


def test_unknown_part_suggests() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown mixer 'qmx' \(command line\)\. Did you mean 'qmix'"
    ):
        qmix("mixer=qmx")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("lr=abc", "learner_args.lr='abc' (command line) should be a valid number"),
        ("t_max=-1", "t_max=-1 (command line) should be greater than or equal to 0"),
        ("seed=1.5", "seed=1.5 (command line) should be a valid integer"),
        ("double_q=3", "learner_args.double_q=3 (command line) should be a valid boolean"),
        ("device=gpu", "device='gpu' (command line) should be 'auto', 'cpu' or 'cuda'"),
    ],
)
def test_wrong_values_are_refused(word: str, expected: str) -> None:
    fails(expected, word)


def test_args_must_be_a_mapping() -> None:
    fails(
        "env_args (command line) must be a mapping of keys, got 3. Write env_args.KEY=VALUE.",
        "env_args=3",
    )


def test_a_key_two_parts_read_names_both() -> None:
    with pytest.raises(ConfigError) as caught:
        compose("qmix", "sc2", ["obs_last_action=True"])
    assert "env_args.obs_last_action and agent_args.obs_last_action" in str(caught.value)


def test_unknown_config_lists_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"--config=qmxi: no such config\. Did you mean 'qmix'"):
        compose("qmxi", "matrix")
    with pytest.raises(ConfigError, match=r"no algorithm chosen: add --config=NAME, one of .*qmix"):
        compose(None, "matrix")


def test_a_word_without_equals_is_explained() -> None:
    with pytest.raises(ConfigError, match="'qmix' after `with` is no key=value"):
        qmix("qmix")


def test_a_key_given_twice_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "twice.yaml"
    file.write_text("name: a\nlr: 0.1\nlr: 0.2\n")
    with pytest.raises(ConfigError, match=r"twice\.yaml:3: key 'lr' stands in line 2 already"):
        compose(str(file), "matrix")


def test_broken_yaml_is_named(tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text("name: [1\n")
    with pytest.raises(ConfigError, match=r"broken\.yaml is not valid YAML"):
        compose(str(file), "matrix")


def test_overrides_apply_when_the_run_matches(tmp_path: Path) -> None:
    file = tmp_path / "per_map.yaml"
    file.write_text(
        "name: per_map\nmixer: vdn\nlr: 0.1\n"
        "overrides:\n"
        "  - when: {game: climbing}\n"
        "    lr: 0.2\n"
        "    mixer: qmix\n"
        "    mixing_embed_dim: 4\n"
    )
    assert compose(str(file), "matrix").nested()["learner_args"]["lr"] == 0.1
    climbing = compose(str(file), "matrix", ["game=climbing"])
    assert climbing.nested()["learner_args"]["lr"] == 0.2
    assert climbing.nested()["mixer_args"]["mixing_embed_dim"] == 4
    typed = compose(str(file), "matrix", ["game=climbing", "lr=0.3"])
    assert typed.nested()["learner_args"]["lr"] == 0.3


def test_extends_takes_the_parents_values_first(tmp_path: Path) -> None:
    file = tmp_path / "heir.yaml"
    file.write_text("extends: qmix\nname: heir\nmixing_embed_dim: 5\n")
    stored = compose(str(file), "matrix").nested()
    assert stored["name"] == "heir"
    assert stored["mixer_args"]["mixing_embed_dim"] == 5
    assert stored["mixer_args"]["hypernet_embed"] == 64
    file.write_text("extends: heir\nname: heir\n")
    with pytest.raises(ConfigError, match="in a circle"):
        compose(str(file), "matrix")


def test_what_is_stored_composes_to_the_same() -> None:
    composed = qmix("lr=0.003", "seed=4")
    again = compose_stored(composed.nested(), "a checkpoint")
    assert again.nested() == composed.nested()
    assert compose_stored(composed.nested(), "x", ["t_max=9"]).run.t_max == 9


def test_configs_are_frozen() -> None:
    composed = qmix()
    with pytest.raises(ValueError, match="frozen"):
        composed.parts["learner"].lr = 1.0  # type: ignore[attr-defined]


@pytest.mark.parametrize("file", sorted(p.stem for p in (CONFIG_DIR / "algs").glob("*.yaml")))
def test_every_shipped_algorithm_composes_and_comments_its_keys(file: str) -> None:
    composed = compose(file, "matrix")
    assert composed.run.name == file
    assert composed.notes == []
    for key, (_, _, description) in composed.full_keys().items():
        assert description, f"{key} has no description"


def test_what_a_config_leaves_of_the_one_it_extends_needs_no_note(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("extends: qmix\nname: mine\nmixer: vdn\n")
    assert compose(str(file), "matrix").notes == []
    file.write_text("extends: vdn\nname: mine\nmixing_embed_dim: 8\n")
    (note,) = compose(str(file), "matrix").notes
    assert "mine.yaml:3: mixing_embed_dim skipped" in note


@pytest.mark.parametrize("file", ["mappo", "happo", "mat"])
def test_settings_of_single_tasks_are_of_tasks_there_are(file: str) -> None:
    entries = read_yaml(CONFIG_DIR / "algs" / f"{file}.yaml")
    (blocks,) = (e.value for e in entries if e.key == "overrides")
    for block in blocks:
        when = dict(block["when"])
        env = when.pop("env", "sc2")
        assert when.get("map_name", map_names()[0]) in map_names()
        words = [f"{key}={value}" for key, value in when.items()]
        assert compose(file, env, words).notes == []


@pytest.mark.parametrize(
    ("file", "env", "words", "expected"),
    [
        ("mappo", "mpe", [], (128, 25, 10, 0.2)),
        ("mappo", "mpe", ["continuous_actions=True"], (20, 200, 5, 0.2)),
        ("mappo", "mpe", ["key=simple_tag_v3"], (32, 100, 10, 0.2)),
        ("mappo", "mamujoco", [], (20, 200, 15, 0.05)),
        ("mat", "mpe", ["continuous_actions=True"], (128, 25, 10, 0.05)),
        ("mat", "mamujoco", [], (40, 100, 10, 0.05)),
    ],
)
def test_particles_and_robots_have_settings_of_their_own(
    file: str, env: str, words: list[str], expected: tuple[float, ...]
) -> None:
    stored = compose(file, env, words).nested()
    runner, learner = stored["runner_args"], stored["learner_args"]
    taken = (runner["batch_size_run"], runner["episode_length"])
    assert (*taken, learner["ppo_epoch"], learner["clip_param"]) == expected


def test_the_heir_has_the_last_word_on_a_map() -> None:
    clips = [
        compose(name, "sc2", ["map_name=3s5z"]).parts["learner"].clip_param  # type: ignore[attr-defined]
        for name in ("mappo", "mat")
    ]
    assert clips == [0.2, 0.05]


@pytest.mark.parametrize("file", sorted(p.stem for p in (CONFIG_DIR / "envs").glob("*.yaml")))
def test_every_shipped_environment_composes(file: str) -> None:
    assert compose("qmix", file).notes == []


def test_every_part_key_is_described() -> None:
    for kind, registry in REGISTRIES.items():
        for name, part in registry.items():
            for key, info in part.Config.model_fields.items():
                assert info.description, f"{kind} {name}: {key} has no description"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("5_000", 5000),
        ("true", True),
        ("None", None),
        ("null", None),
        ("[1, 2]", [1, 2]),
        ("2s3z", "2s3z"),
        ("a: b: c", "a: b: c"),
        ("", None),
    ],
)
def test_values_of_words(text: str, value: object) -> None:
    assert parse_value(text) == value
