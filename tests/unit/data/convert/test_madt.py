"""MADT's torch files come out as whole episodes, and a pickle that is a program runs nothing.

The published files are not here: these are written as its code writes them.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from phalanx.data.convert import convert, sealed
from phalanx.data.convert.madt import SealedReader
from phalanx.data.dataset import Dataset
from phalanx.data.dataset.checks import check
from phalanx.errors import DatasetError

# Two agents, of which the first dies in the second step; the same nesting as in MADT's toy_data.
DEATH = [
    [
        [[0.0, 9.0, 0.5], [0.0, 1.0], [2], [1.0], False, [1, 1, 1]],
        [[1.0, 9.0, 0.5], [1.0, 1.0], [1], [0.5], True, [0, 1, 1]],
        [[0.0, 0.0, 0.0], [0.0, 0.0], [0], [2.0], True, [1, 0, 0]],
    ],
    [
        [[0.0, 8.0, 0.5], [0.0, 2.0], [1], [1.0], False, [0, 1, 1]],
        [[1.0, 8.0, 0.5], [1.0, 2.0], [1], [0.5], np.bool_(False), [0, 1, 1]],
        [[2.0, 8.0, 0.5], [2.0, 2.0], [2], [2.0], np.bool_(True), [0, 0, 1]],
    ],
]


def tier(folder: Path, *episodes: Any, **keys: Any) -> Path:
    """A file per episode, as torch writes lists."""
    folder.mkdir(parents=True)
    for e, episode in enumerate(episodes):
        torch.save(episode, folder / f"{e}.pt", **keys)
    return folder


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "older"])
def test_an_episode_comes_out_as_it_was(tmp_path: Path, archive: bool) -> None:
    short = [agent[:1] for agent in DEATH]
    keys = {"_use_new_zipfile_serialization": archive}
    source = tier(tmp_path / "3m" / "good", DEATH, short, **keys)
    data = convert("madt", source, tmp_path / "out")
    assert (data.lengths.tolist(), data.returns.tolist()) == ([3, 1], [3.5, 1.0])
    assert (data.spec.n_agents, data.spec.obs_dim, data.spec.state_dim) == (2, 2, 3)
    assert (data.spec.n_actions, data.spec.episode_limit, data.spec.has_alive) == (3, 3, True)
    episode = data.episode(0)
    assert episode["state"].tolist() == [step[0] for step in DEATH[0]] + [DEATH[0][2][0]]
    assert episode["obs"][:, 1].tolist() == [[0, 2], [1, 2], [2, 2], [2, 2]]
    assert episode["actions"].tolist() == [[2, 1], [1, 1], [0, 2]]
    assert episode["avail_actions"][1].tolist() == [[False, True, True], [False, True, True]]
    assert episode["alive"][:, 0].tolist() == [True, True, False, False]
    assert episode["alive"].tolist()[3][1]
    assert episode["terminated"].tolist() == [False, False, True]
    assert not episode["truncated"].any()
    # Nobody was done: it was cut off.
    assert data.episode(1)["truncated"].tolist() == [True]
    assert data.description.parents[0]["name"] == "good"
    assert check(tmp_path / "out").faults == []


def test_arrays_and_scalars_of_numpy_are_admitted(tmp_path: Path) -> None:
    def in_numpy(step: list[Any]) -> tuple[Any, ...]:
        g, o, a, r, d, ava = step
        mask = np.asfortranarray(np.array(ava, np.int8))
        return np.array(g, np.float32), np.array(o, ">f8"), a, [np.float32(r[0])], d, mask

    source = tier(tmp_path / "in", [[in_numpy(step) for step in agent] for agent in DEATH])
    plain = convert("madt", tier(tmp_path / "plain", DEATH), tmp_path / "a")
    ours = convert("madt", source, tmp_path / "b")
    for name, array in plain.episode(0).items():
        np.testing.assert_array_equal(ours.episode(0)[name], array)


class Calls:
    """Pickled, a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._call


def hostile(trace: Path) -> dict[str, tuple[Any, str]]:
    """What is in a file, and what is said of it."""
    within: list[Any] = []
    within.append(within)
    laughs: list[Any] = [0]
    for _ in range(12):
        laughs = [laughs] * 10
    return {
        "system": (Calls(os.system, f"touch {trace}"), "asks for posix.system, and only lists"),
        "within": ([[[1, Calls(os.mkdir, str(trace))]]], "asks for posix.mkdir"),
        "eval": (Calls(eval, f"open({str(trace)!r}, 'w')"), "asks for __builtin__.eval"),
        "writes": (Calls(open, str(trace), "w"), "asks for io.open"),
        "imports": (Calls(__import__, "antigravity"), "asks for __builtin__.__import__"),
        "tensor": ([[[torch.zeros(3)]]], "asks for torch._utils._rebuild_tensor_v2"),
        "objects": ([[[np.array([{}], object)]]], "holds numpy data of type 'O8'"),
        "text": ([[["1", [1.0]]]], "holds a str"),
        "table": ({"a": 1}, "holds a dict"),
        "itself": (within, "holds lists in more than 8 lists"),
        "laughs": (laughs, "holds lists in more than 8 lists"),
        "uneven": ([[[1], [1, 2]]], "has steps of unequal numbers of elements"),
    }


@pytest.mark.parametrize("name", hostile(Path()))
def test_a_hostile_pickle_is_refused_and_runs_nothing(name: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    content, said = hostile(trace)[name]
    source = tier(tmp_path / "in", content)
    with pytest.raises(DatasetError, match=rf"0\.pt {said}.*Nothing of it was run\."):
        convert("madt", source, tmp_path / "out")
    assert not trace.exists()
    assert not (tmp_path / "out").exists()


def test_the_process_has_no_rights_left(tmp_path: Path) -> None:
    """Were something admitted that should not be, it could open nothing, start nothing and fill nothing."""
    script = Path(sealed.__file__).read_text()
    tries = {
        "open": "open('/etc/hostname')",
        "write": f"open({str(tmp_path / 'trace')!r}, 'w')",
        "start": "__import__('subprocess').run(['true'])",
        "fill": "bytearray(5 * 2**30)",
    }
    for name, attempt in tries.items():
        probe = script.replace(
            "    while length",
            f"    try:\n        {attempt}\n        out.write(b'did')\n"
            "    except (OSError, MemoryError, ImportError):\n        out.write(b'could not')\n"
            "    out.flush()\n    while length",
        )
        (tmp_path / f"{name}.py").write_text(probe)
        done = subprocess.run(
            [sys.executable, "-I", str(tmp_path / f"{name}.py")], input=b"", capture_output=True
        )
        assert done.stdout == b"could not", (name, done)
    assert not (tmp_path / "trace").exists()


def test_a_file_that_takes_too_long_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tier(tmp_path / "in", DEATH)
    with closing(SealedReader()) as reader:
        reader._process.kill()
        with pytest.raises(DatasetError, match="could not be read within the time and memory"):
            reader.columns(source / "0.pt")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda e: e[1].pop(), "has agents or elements 0 of unequal lengths"),
        (lambda e: e[1][2].__setitem__(3, [2.5]), "at step 2 its agents' rewards are 2, 2.5"),
        (
            lambda e: e[0][1].__setitem__(2, [7]),
            "agent 0 does 7 at step 1, and there are actions 0",
        ),
        (lambda e: [[step.pop() for step in agent] for agent in e], "has 5 elements a step, not s"),
        (lambda e: e[0][0].__setitem__(4, [False]), "elements 4 of unequal lengths"),
    ],
    ids=["agents", "rewards", "actions", "elements", "done"],
)
def test_what_is_not_the_format_is_named(
    tmp_path: Path, change: Callable[[Any], Any], said: str
) -> None:
    episode = pickle.loads(pickle.dumps(DEATH))
    change(episode)
    source = tier(tmp_path / "in", DEATH, episode)
    with pytest.raises(DatasetError, match=rf"1\.pt.*{said}"):
        convert("madt", source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_tiers_is_not_one(tmp_path: Path) -> None:
    tier(tmp_path / "3m" / "good", DEATH)
    with pytest.raises(DatasetError, match="3m has no files: give the folder of one map and tier"):
        convert("madt", tmp_path / "3m", tmp_path / "out")
    (tmp_path / "3m" / "good" / "0.pt").write_bytes(b"nothing of the kind")
    with pytest.raises(DatasetError, match=r"0\.pt cannot be read \(UnpicklingError"):
        convert("madt", tmp_path / "3m" / "good", tmp_path / "out")
    with pytest.raises(DatasetError, match="there is a dataset at"):
        convert("madt", tmp_path, Dataset.open(convert_small(tmp_path)).folder)


def convert_small(folder: Path) -> Path:
    """A dataset that is there."""
    return convert("madt", tier(folder / "small", DEATH), folder / "there").folder
