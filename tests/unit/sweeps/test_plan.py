"""What a sweep file asks for, and what it says when that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from phalanx.cli import run
from phalanx.config import compose
from phalanx.config.sources import parse_value
from phalanx.errors import ConfigError
from phalanx.sweeps.plan import read_plan
from phalanx.sweeps.rows import as_word, candidates, words_of
from phalanx.sweeps.table import open_table

from . import small

LISTED = """\
config: [qmix, vdn]
list:
  - {lr: 0.1}
  - {lr: 0.2, gamma: 0.9}
overrides:
  - {when: {mixer: vdn}, t_max: 200}
  - {when: {config: qmix, lr: 0.1}, skip: true}
seeds: [3, 1]
"""


def test_rows_are_combinations_times_seeds(tmp_path: Path) -> None:
    found = candidates(small.plan(tmp_path, LISTED))
    keys = ("config", "lr", "gamma", "t_max", "seed")
    assert [words_of(candidate.settings, keys) for candidate in found] == [
        ["config=vdn", "lr=0.1", "t_max=200", "seed=3"],
        ["config=qmix", "lr=0.2", "gamma=0.9", "t_max=300", "seed=3"],
        ["config=vdn", "lr=0.2", "gamma=0.9", "t_max=200", "seed=3"],
        ["config=vdn", "lr=0.1", "t_max=200", "seed=1"],
        ["config=qmix", "lr=0.2", "gamma=0.9", "t_max=300", "seed=1"],
        ["config=vdn", "lr=0.2", "gamma=0.9", "t_max=200", "seed=1"],
    ]


def test_a_row_is_what_its_command_line_makes(tmp_path: Path) -> None:
    for candidate in candidates(small.plan(tmp_path, LISTED)):
        config, env, _, *words = candidate.command
        alone = compose(config.partition("=")[2], env.partition("=")[2], words)
        assert alone.nested() == candidate.composed.nested()


def test_a_grid_multiplies_and_repetitions_are_one_row(tmp_path: Path) -> None:
    found = candidates(small.plan(tmp_path, "grid: {lr: [0.1, 0.1, 0.2], gamma: [0.9, 0.8]}"))
    assert [words_of(c.settings, ("lr", "gamma")) for c in found] == [
        ["lr=0.1", "gamma=0.9"],
        ["lr=0.1", "gamma=0.8"],
        ["lr=0.2", "gamma=0.9"],
        ["lr=0.2", "gamma=0.8"],
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gird: {lr: [1]}", "unknown key 'gird' (small.yaml:4). Did you mean 'grid'?"),
        ("grid: {lr: 0.1}", "expected a list of values, e.g. lr: [0.1]"),
        ("seeds: 0", "expected how many (0, 1, ...), or a list of different numbers"),
        ("seeds: [1, 1]", "expected how many"),
        ("overrides: [{lr: 0.1}]", "must be a list of blocks like {when: {map_name: MMM2}"),
        ("overrides: [{when: {lr: 1}, seed: 2}]", "cannot choose config, env_config or seed"),
        ("grid: {seed: [1, 2]}", "seed is not the runs' to choose"),
        ("name: a/b", "names a folder"),
        ("grid: {lr: [0.1, -1]}", "lr=-1: learner_args.lr=-1 (small.yaml)"),
        ("grid: {lrr: [0.1]}", "lrr=0.1: unknown key 'lrr' (small.yaml). Did you mean 'lr'"),
        ("overrides: [{when: {nobody: 1}, lr: 0.1}]", "no part that there is reads that key"),
        ("overrides: [{when: {mixer: qmix}, skip: true}]", "`skip` leaves out every combination"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_before_anything_is_made(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small.write(Path(), text)
    with pytest.raises(ConfigError) as raised:
        candidates(read_plan(Path("small.yaml")))
    assert said in str(raised.value)
    assert run(["sweep", "small.yaml"]) == 1
    assert not Path("results").exists()


@pytest.mark.parametrize("value", ["3m", "1", "true", "1e-3", "", 0.1, 3, True, None, ["a", 1]])
def test_a_value_survives_the_command_line(value: object) -> None:
    composed = compose(
        "qmix", "matrix", [f"label={as_word(value)}"] if isinstance(value, str) else []
    )
    assert not isinstance(value, str) or composed.run.label == value
    assert parse_value(as_word(value)) == value


def test_made_again_a_sweep_gets_only_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    first = small.table(tmp_path, "grid: {lr: [0.1, 0.2]}\nseeds: 1")
    small.plan(tmp_path, "grid: {lr: [0.1, 0.2, 0.3]}\nseeds: 2")
    assert run(["sweep", "small.yaml"]) == 0
    assert "small: 4 rows added to the 2 there were" in capsys.readouterr().out
    table = open_table(first.directory)
    assert table.rows[:2] == first.rows
    assert [(row.group, row.seed) for row in table.rows] == [
        (0, 0),
        (1, 0),
        (2, 0),
        (0, 1),
        (1, 1),
        (2, 1),
    ]
    assert len({row.uid for row in table.rows}) == 6
