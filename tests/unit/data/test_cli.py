"""``phalanx dataset``: what each command prints and leaves behind, and a sentence for each mistake."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from phalanx.cli import run
from phalanx.data.batch import TOLD_FIELDS, episode_fields
from phalanx.data.dataset import Dataset
from phalanx.data.dataset.shard import HEADER

from .convert.test_alberdice import small
from .dataset.made import SPEC, episode, write


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Five episodes with returns 0 to 4."""
    write(tmp_path / "d", [episode(2, s, reward=s) for s in range(5)], shard_bytes=10**6)
    return tmp_path / "d"


def test_info_prints_and_draws(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = data.parent / "pictures" / "returns.png"
    assert run(["dataset", "info", str(data), f"--out={picture}"]) == 0
    said = capsys.readouterr().out
    assert "environment  game x\n" in said
    assert "episodes     5 with 10 steps" in said
    assert "return       mean 2.00, standard deviation 1.41, from 0.00 to 4.00" in said
    assert "win rate     0.400" in said
    assert said.endswith(f"{picture}\n")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_check_names_the_place_and_copies_what_is_whole(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["dataset", "check", str(data)]) == 0
    assert "5 episodes with 10 steps are whole (files, checksums, shapes" in capsys.readouterr().out
    file = data / "shard_000000" / "obs.npy"
    content = bytearray(file.read_bytes())
    content[HEADER + 3 * 12] ^= 1
    file.write_bytes(content)
    mended = data.parent / "mended"
    assert run(["dataset", "check", str(data), f"--rescue={mended}"]) == 1
    said = capsys.readouterr().out
    assert said.startswith(
        f"checksums: shard_000000, episode 1: {file} is not what was written in bytes 164"
    )
    assert "4 of 5 episodes are whole\n" in said
    assert Dataset.open(mended).returns.tolist() == [0, 2, 3, 4]
    assert run(["dataset", "check", str(mended)]) == 0


def test_split_says_where_there_are_fewer(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = data.parent / "tiers"
    words = ["dataset", "split", str(data), "--tiers=poor:0-3,good:3-,none:9-", "--episodes=2"]
    assert run([*words, f"--out={out}"]) == 0
    said = capsys.readouterr().out
    assert "poor: 2 of the 3 there are\n" in said
    assert "good: 2 of the 2 there are\n" in said
    assert "none: no episode has such a return, so nothing was written\n" in said
    assert Dataset.open(out / "good").returns.tolist() == [3, 4]
    assert sorted(path.name for path in out.iterdir()) == ["good", "poor"]
    # One that is in the way is found before any is written.
    assert run([*words[:3], "--tiers=new:0-,good:3-", f"--out={out}"]) == 1
    assert f"there is a dataset at {out / 'good'} already" in capsys.readouterr().err
    assert not (out / "new").exists()


def test_join_leaves_out_what_one_lacks(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = replace(SPEC, has_visibility=True)
    write(data.parent / "plain", [episode(1)], spec=spec)
    fields = episode_fields(spec, float_dtype=np.float16, optional=TOLD_FIELDS)
    more = {**episode(3), "visibility": np.ones((4, 2, 2), bool)}
    write(data.parent / "seen", [more], spec=spec, fields=fields)
    out = data.parent / "both"
    words = [str(data.parent / "seen"), str(data.parent / "plain"), f"--out={out}"]
    assert run(["dataset", "join", *words]) == 0
    said = capsys.readouterr().out
    assert said == (
        "visibility is left out: not all of them hold it\n"
        f"{out}: 2 episodes with 4 steps, mean return {Dataset.open(out).returns.mean():.2f}, "
        "win rate 0.000\n"
    )


def test_convert_reads_a_published_format(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small(tmp_path / "theirs")
    words = ["dataset", "convert", "alberdice", str(tmp_path / "theirs")]
    assert run([*words, f"--out={tmp_path / 'ours'}"]) == 0
    assert f"{tmp_path / 'ours'}: " in capsys.readouterr().out
    (tmp_path / "theirs" / "reward.npy").unlink()
    assert run([*words, f"--out={tmp_path / 'half'}"]) == 1
    assert "reward.npy is no array that can be read" in capsys.readouterr().err
    assert not (tmp_path / "half").exists()


def test_what_a_conversion_finds_is_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    states = np.load(small(tmp_path / "theirs") / "state.npy")
    states[1, 2, 0] = np.nan
    np.save(tmp_path / "theirs" / "state.npy", states)
    words = ["dataset", "convert", "alberdice", str(tmp_path / "theirs")]
    assert run([*words, f"--out={tmp_path / 'ours'}"]) == 1
    said = capsys.readouterr().out
    assert "finite: shard_000000, episode 1: state is nan at step 2\n" in said
    assert "1 of 2 episodes are whole\n" in said


@pytest.mark.parametrize(
    ("words", "module", "extra"),
    [
        ("convert omiga x.hdf5 --out o", "h5py", "hdf5"),
        ("convert vault x.vlt --out o", "tensorstore", "vault"),
        ("export minari d --out d-v0", "h5py", "hdf5"),
    ],
)
def test_a_missing_extra_is_named(
    data: Path,
    words: str,
    module: str,
    extra: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(data.parent)
    monkeypatch.setitem(sys.modules, module, None)
    assert run(["dataset", *words.split()]) == 1
    said = capsys.readouterr().err
    assert f"needs the package {module!r}, which is not installed" in said
    assert f"pip install -e '.[{extra}]'" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("inof", "unknown command `dataset inof`. Did you mean 'info'? Commands: info, check, "),
        ("info nowhere", "nowhere is no dataset: it has no dataset.json. Give a folder that "),
        ("info d with seed=1", "'seed=1': `dataset info` reads no keys"),
        ("split d --tiers poor --out o", "--tiers poor: 'poor' is no tier; give NAME:FROM-BELOW"),
        ("join d --out o", "d alone: give two datasets or more to join."),
        ("join d d --out d", "there is a dataset at d already, and it is kept."),
        ("convert alberdic d --out o", "unknown format 'alberdic'. Did you mean 'alberdice'?"),
        ("convert alberdice d --out o", "d/obs.npy is no array that can be read"),
        (
            "convert alberdice d --out o with game=x",
            "'game=x' is a key of an environment: name it by",
        ),
        ("export minari d --out o", "--out o: Minari's datasets have names like 3m-good-v0"),
        ("record --episodes 3 --out o", "`dataset record` plays a RUN or a --bot NAME: give one"),
        ("record r --bot b --episodes 3 --out o", "plays a RUN or a --bot NAME: give one"),
        ("record r --env-config sc2 --episodes 3 --out o", "r plays in its own environment"),
        ("record --bot b --step 3 --episodes 3 --out o", "--step 3: a bot has no checkpoints"),
        ("record nowhere --episodes 3 --out o", "nowhere"),
        ("record --bot b --env-config matrix --episodes 3 --out d", "there is a dataset at d"),
        ("record --bot b --env-config matrix --episodes 3 --out o", "env matrix as it is config"),
        ("record --bot b --env-config matrx --episodes 3 --out o", "Did you mean 'matrix'"),
    ],
)
def test_mistakes_get_one_sentence(
    words: str,
    said: str,
    data: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(data.parent)
    assert run(["dataset", *words.split()]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert error.count("\n") == 1
    assert [path.name for path in data.parent.iterdir()] == ["d"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("record r --episodes 0 --out o", "--episodes: expected a whole number from 1 on, not '0'"),
        ("record r --epsilon 2 --episodes 1 --out o", "--epsilon: expected a number from 0 to 1"),
        ("record r --out o", "one of the arguments --episodes --transitions is required"),
    ],
)
def test_what_the_parser_refuses(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(["dataset", *words.split()])
    assert said in capsys.readouterr().err
