"""The worked example of docs/datasets.md, and docs/recipes.md, command by command, with smaller numbers."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from phalanx.cli import run
from phalanx.data.dataset import Dataset
from phalanx.data.dataset.summary import summary

DOCS = Path(__file__).resolve().parents[2] / "docs"
SMALLER = {
    "t_max=200000": "t_max=640",
    "save_model_interval=20000": "save_model_interval=320",
    "--step 100000": "--step 320",
    "--episodes 500": "--episodes 3",
    "t_max=20000": "t_max=3",
}
SMALLEST = {
    "t_max=200000": "t_max=640",
    "--episodes 500": "--episodes 3",
    "data/tiers/good": "data/tiers/poor",  # 640 steps teach nothing
    "online.t_max=300000": "online.t_max=120",
    "t_max=20000": "t_max=2",
    "test_nepisode=32": "test_nepisode=1",
}
EVERYWHERE = ["mongo_url=none", "test_nepisode=2", "batch_size=4"]


def commands(page: str, smaller: dict[str, str], first: bool) -> list[list[str]]:
    """Words of the commands of a page, or of its first block of them."""
    blocks = re.findall(r"```\n(phalanx .*?)```", (DOCS / page).read_text(), re.DOTALL)
    text = "".join(blocks[:1] if first else blocks).replace("\\\n", " ")
    for printed, small in smaller.items():
        assert printed in text
        text = re.sub(rf"{re.escape(printed)}\b", small, text)
    return [shlex.split(line)[1:] for line in text.splitlines()]


def test_the_worked_example_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in commands("datasets.md", SMALLER, first=True):
        train = words[0].startswith("--")
        assert run([*words, *(EVERYWHERE if train else [])]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "test return" in said
    assert "after 3 updates" in said
    found = summary(Dataset.open("data/mixed"))
    assert (found["environment"], found["engine"], found["episodes"]) == ("sc2", "embedded", 6)
    assert [policy.get("step") for policy in found["policies"]] == [320, None]
    assert [parent["name"] for parent in found["parents"]] == ["halfway", "focus"]
    assert Path("data/training.png").is_file()
    training = Dataset.open("data/training")
    assert Dataset.open("data/poor").returns.max() < 10
    assert 640 - 16 * 60 < training.steps <= 640


def test_the_recipes_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small = [*EVERYWHERE, "batch_size_run=2", "test_interval=1000000"]
    recipes = commands("recipes.md", SMALLEST, first=False)
    assert len(recipes) == 15
    for words in recipes:
        train = words[0].startswith("--")
        assert run([*words, *(small if train else [])]) == 0, (words, capsys.readouterr().err)
        said = capsys.readouterr().out
        if words[0] == "evaluate":
            assert all(f"return_mean@{asked}" in said for asked in (20, 15, 10, 5))
    assert len(list(tmp_path.glob("results/runs/*/config.json"))) == 11


def test_another_environment_is_refused_with_the_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    matrix = ["--config=iql", "--env-config=matrix", "with", *EVERYWHERE]
    assert run([*matrix, "record=data", "t_max=40"]) == 0
    offline = [*matrix, "runner=offline", "buffer=dataset", "dataset=data", "t_max=1"]
    assert run([*offline, "game=coordination"]) == 1
    said = capsys.readouterr().err
    assert "was recorded in another environment than this run tests in (dataset / run): " in said
    assert "episode_limit 2 / 1" in said
    assert "It was recorded in matrix game=two_step; choose that one, or another dataset." in said
    assert len(list(tmp_path.glob("results/runs/*/config.json"))) == 1
