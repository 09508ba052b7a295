"""The commands and lines of code that the example of an environment shows, as they stand there."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from phalanx import cli, plugins
from phalanx.tracking.queries import runs

pytest.importorskip("gymnasium")
FOLDER = Path(__file__).parents[2] / "examples" / "environment"
SHORT = ("t_max=60", "test_interval=60", "batch_size_run=2", "mongo_url=none")


def blocks(language: str = "") -> list[str]:
    """Fenced blocks of its README."""
    text = (FOLDER / "README.md").read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


@pytest.fixture(autouse=True)
def there(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in its folder; what it imports is gone afterwards."""
    monkeypatch.chdir(FOLDER)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(plugins, "_files", [])
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        if "rendezvous" in name:
            del sys.modules[name]


def test_the_example_of_an_environment_works_as_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [shlex.split(line)[1:] for line in blocks()[1].splitlines()]
    kept = f"local_results_path={tmp_path}"
    for words in lines:
        short = SHORT if words[0] != "evaluate" else ()
        assert cli.run([*words, *short, kept]) == 0, capsys.readouterr().err
    assert [(run.name, run.status) for run in runs(tmp_path)] == [
        ("vdn", "COMPLETED"),
        ("mappo", "COMPLETED"),
    ]
    assert {"test_met_mean", "met_mean"} <= set(runs(tmp_path)[0].metrics())
    assert "20 episodes of rendezvous:Rendezvous" in capsys.readouterr().out


def test_the_check_it_shows_finds_nothing_in_it_and_names_what_is_broken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    (code,) = blocks("python")
    exec(compile(code, "README.md", "exec"), {})
    broken = sys.modules["rendezvous"].Rendezvous
    monkeypatch.setattr(broken, "observation_space", lambda self, agent: broken(3)._box(agent))
    with pytest.raises(Exception, match=r"AttributeError.*_box.*test_examples\.py"):
        exec(compile(code, "README.md", "exec"), {})
