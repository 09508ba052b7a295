"""Films of an evaluation: the first rows of its table, whatever the runner."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

from phalanx.build import build
from phalanx.checkpoint import save_checkpoint
from phalanx.config import Composed, compose
from phalanx.envs.battle.watch import load_trace
from phalanx.envs.protocol import Filmable
from phalanx.envs.sc2 import SC2Config, SC2Env
from phalanx.errors import CheckpointError, ConfigError, EnvError, MissingDependencyError
from phalanx.evaluation import evaluate_checkpoint, film_folder


def checkpoint(folder: Path, env: str, *words: str) -> tuple[Path, Composed]:
    """A checkpoint of an untrained policy."""
    composed = compose("qmix", env, ("batch_size=2", "buffer_size=4", *words))
    parts = build(composed)
    state = {"policy": parts.policy.state_dict(), "counters": {"t_env": 0}}
    save_checkpoint(folder / "checkpoint", composed.nested(), 0, state)
    parts.env.close()
    return folder / "checkpoint", composed


@pytest.mark.parametrize(
    ("runner", "copies", "form"), [("vector", 3, "gif"), ("episode", 1, "mp4")]
)
def test_first_rows_are_filmed(runner: str, copies: int, form: str, tmp_path: Path) -> None:
    words = (f"runner={runner}", f"batch_size_run={copies}", "save_video=2", f"video_format={form}")
    folder, composed = checkpoint(tmp_path, "sc2", "engine=embedded", "map_name=3m", *words)
    out = tmp_path / "tables" / "rows.csv"
    evaluate_checkpoint(folder, composed, 4, out)
    assert film_folder(out) == tmp_path / "tables" / "rows_films"
    names = sorted(path.name for path in film_folder(out).iterdir())
    assert names == sorted(f"episode_00{i}.{ending}" for i in (0, 1) for ending in ("npz", form))
    rows = list(csv.DictReader(out.open()))
    assert len(rows) == 4
    for i in (0, 1):
        trace = load_trace(film_folder(out) / f"episode_00{i}.npz")
        assert trace.steps == float(rows[i]["ep_length"])
        assert trace.reward.sum() == pytest.approx(float(rows[i]["return"]), abs=1e-3)
        assert (trace.result == "won") == (float(rows[i]["battle_won"]) == 1)
        assert (film_folder(out) / f"episode_00{i}.{form}").stat().st_size > 10_000


def test_filming_changes_no_number(tmp_path: Path) -> None:
    tables = []
    for films in (0, 1):
        folder, composed = checkpoint(
            tmp_path, "sc2", "engine=embedded", "map_name=3m", "batch_size_run=2",
            f"save_video={films}",
        )  # fmt: skip
        out = tmp_path / f"{films}.csv"
        evaluate_checkpoint(folder, composed, 5, out)
        tables.append(out.read_text())
        assert film_folder(out).exists() == (films > 0)
    assert tables[0] == tables[1]


def test_what_cannot_be_filmed_says_so(tmp_path: Path) -> None:
    folder, composed = checkpoint(tmp_path, "matrix", "save_video=1")
    with pytest.raises(EnvError, match="save_video=1, but env matrix cannot be filmed; sc2 with"):
        evaluate_checkpoint(folder, composed, 2, tmp_path / "rows.csv")
    assert not (tmp_path / "rows.csv").exists()
    with pytest.raises(ConfigError, match="video_format"):
        compose("qmix", "sc2", ("video_format=avi",))


def test_the_game_records_its_own() -> None:
    env = SC2Env(SC2Config(map_name="3m", engine="embedded"), num_envs=1, seed=0)
    assert isinstance(env, Filmable)
    assert env.take_films() == []
    env._env, env.engine = object(), "starcraft2"  # type: ignore[assignment]
    with pytest.raises(EnvError, match=r"engine=starcraft2 cannot be filmed.*replay_dir"):
        env.start_filming(1, "gif")


def test_a_missing_package_is_told_before_anything_is_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("engine=embedded", "map_name=3m", "save_video=1", "video_format=mp4")
    folder, composed = checkpoint(tmp_path, "sc2", *words)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(MissingDependencyError, match=r"pip install -e '\.\[render\]'"):
        evaluate_checkpoint(folder, composed, 1, tmp_path / "rows.csv")
    assert not (tmp_path / "rows.csv").exists()


def test_a_policy_that_does_not_fit_is_refused_with_a_sentence(tmp_path: Path) -> None:
    folder, _ = checkpoint(tmp_path, "matrix")
    other = compose("qmix", "matrix", ("batch_size=2", "buffer_size=4", "rnn_hidden_dim=32"))
    with pytest.raises(
        CheckpointError, match=r"(?s)does not fit this config .*check out the commit"
    ):
        evaluate_checkpoint(folder, other, 1, tmp_path / "rows.csv")
