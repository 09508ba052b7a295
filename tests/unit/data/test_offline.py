"""Recorded episodes as a buffer: who is drawn how often, what windows know, and what is refused."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phalanx.config import compose
from phalanx.data.batch import TOLD_FIELDS, EpisodeBatch, episode_fields
from phalanx.data.offline import DatasetBuffer
from phalanx.envs.protocol import EnvSpec
from phalanx.errors import ConfigError, DatasetError

from ...patience import HANGS
from .dataset.made import SPEC, episode, write


class Nowhere:
    """An environment that says of itself what it is told."""

    def __init__(self, **facts: Any) -> None:
        self.facts = {"engine": "embedded", **facts}

    def describe(self) -> dict[str, Any]:
        return self.facts


def made(folder: Path, spec: EnvSpec = SPEC, env: Any = None, **config: Any) -> DatasetBuffer:
    """A buffer over four episodes of 1, 2, 3 and 6 steps with returns 4, 3, 2 and 1."""
    if not folder.exists():
        write(folder, [episode(n, n, reward=4 - i) for i, n in enumerate((1, 2, 3, 6))])
    return DatasetBuffer(
        DatasetBuffer.Config(dataset=str(folder), **config),
        spec,
        env=env or Nowhere(),
        seed=0,
        optional_fields=frozenset(),
    )


def drawn(buffer: DatasetBuffer) -> Counter[tuple[float, int]]:
    """How often each window came, by the return of its episode and its first step, in 2,400 draws."""
    seen = Counter[tuple[float, int]]()
    for _ in range(10):
        batch = buffer.sample()
        assert batch.carry is not None
        for row in range(batch.batch_size):
            # Rewards of an episode are all alike: a window tells which one it is of.
            reward = float(batch.reward[row, 0])
            length = {4: 1, 1.5: 2, 2 / 3: 3, 1 / 6: 6}[
                min((4, 1.5, 2 / 3, 1 / 6), key=lambda r: abs(r - reward))
            ]
            step = int(batch.carry["step"][row])
            assert batch.lengths[row] == min(2, length)
            left = reward * (length - step)
            assert float(batch.carry["return_to_go"][row]) == pytest.approx(left, rel=1e-5)
            seen[length, step] += 1
    return seen


def test_steps_are_equally_likely_and_windows_stay_inside(tmp_path: Path) -> None:
    seen = drawn(made(tmp_path / "d", chunk_length=2, batch_size=240))
    # Of 12 steps each is as likely; the last of an episode gives the window before it.
    expected = {
        (1, 0): 1,
        (2, 0): 2,
        (3, 0): 1,
        (3, 1): 2,
        (6, 0): 1,
        (6, 1): 1,
        (6, 2): 1,
        (6, 3): 1,
    }
    expected[6, 4] = 2
    assert seen.keys() == expected.keys()
    for window, share in expected.items():
        assert seen[window] == pytest.approx(
            200 * share, abs=60 * share**0.5
        )  # 4 standard deviations


def test_episodes_are_equally_likely(tmp_path: Path) -> None:
    seen = drawn(made(tmp_path / "d", chunk_length=2, batch_size=240, sampling="episodes"))
    for length, windows in ((1, 1), (2, 1), (3, 2), (6, 5)):
        assert sum(n for (of, _), n in seen.items() if of == length) == pytest.approx(600, abs=90)
        assert len([w for w in seen if w[0] == length]) == windows


def test_whole_episodes_have_no_past(tmp_path: Path) -> None:
    batch = next(made(tmp_path / "d", sampling="episodes").batches(0))
    assert batch.carry is None
    assert set(batch.lengths.tolist()) == {1, 2, 3, 6}
    weighted = made(tmp_path / "d", batch_size=1200).sample()
    assert (weighted.lengths == 6).sum().item() == pytest.approx(600, abs=70)


@pytest.mark.parametrize(
    ("keys", "lengths"),
    [
        ({"top_share": 0.5}, {1, 2}),
        ({"top_share": 0.01}, {1}),
        ({"returns": [1.0, 2.5]}, {3, 6}),
        ({"returns": [0.0, 3.5], "top_share": 0.34}, {2, 3}),
    ],
)
def test_only_some_returns(tmp_path: Path, keys: dict[str, Any], lengths: set[int]) -> None:
    buffer = made(tmp_path / "d", batch_size=200, **keys)
    assert set(buffer.sample().lengths.tolist()) == lengths


def test_a_restored_buffer_goes_on_drawing_as_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, fresh, other = (made(tmp_path / "d", chunk_length=2) for _ in range(3))
    one.sample()
    state = one.state_dict()
    for _ in range(3):  # what it has read ahead is of another place
        other.sample()
    for restored in (fresh, other):
        restored.load_state_dict(state)
    for _ in range(3):
        expected = one.sample()
        for restored in (fresh, other):
            batch = restored.sample()
            assert batch.reward.equal(expected.reward)
            assert batch.obs.equal(expected.obs)
            assert restored.metrics() == one.metrics() != {"epochs": 0.0}
    write(tmp_path / "e", [episode(3, 1)])
    with caplog.at_level(logging.WARNING, "phalanx.data"):
        made(tmp_path / "e").load_state_dict(one.state_dict())
    assert "is not the dataset that the checkpoint was made with" in caplog.text


def test_the_next_batch_is_read_meanwhile_and_what_is_wrong_with_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = made(tmp_path / "d", batch_size=2)
    readers, second, read = list[int](), threading.Event(), buffer.data.batch

    def told(*of: Any) -> EpisodeBatch:
        readers.append(threading.get_ident())
        if len(readers) == 2:
            second.set()
        if len(readers) == 3:
            raise OSError("the disk is gone")
        return read(*of)

    monkeypatch.setattr(buffer.data, "batch", told)
    buffer.sample()
    assert second.wait(HANGS)  # which was not asked for yet
    assert threading.get_ident() not in readers
    buffer.sample()
    with pytest.raises(OSError, match="the disk is gone"):
        buffer.sample()


def test_what_cannot_be_drawn_from_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"no episode with a return in \[9.0, 10.0\].* from 1 to 4"
    ):
        made(tmp_path / "d", returns=[9.0, 10.0])
    other = replace(SPEC, n_agents=3, episode_limit=9)
    said = r"\(dataset / run\): n_agents 2 / 3; episode_limit 6 / 9\. It was recorded in game map_name=x"
    with pytest.raises(DatasetError, match=said):
        made(tmp_path / "d", other)
    with pytest.raises(ConfigError, match="needs a dataset to read: dataset=DIR"):
        DatasetBuffer(
            DatasetBuffer.Config(), SPEC, env=Nowhere(), seed=0, optional_fields=frozenset()
        )
    with pytest.raises(DatasetError, match="does not hold visibility"):
        DatasetBuffer(
            DatasetBuffer.Config(dataset=str(tmp_path / "d")),
            SPEC,
            env=Nowhere(),
            seed=0,
            optional_fields=frozenset({"visibility"}),
        )


def test_optional_fields_are_read_where_a_part_wants_them(tmp_path: Path) -> None:
    spec = replace(SPEC, has_visibility=True)
    fields = episode_fields(spec, float_dtype=np.float16, optional=TOLD_FIELDS)
    write(
        tmp_path / "d",
        [{**episode(3), "visibility": np.ones((4, 2, 2), bool)}],
        spec=spec,
        fields=fields,
    )
    for wanted in (frozenset[str](), TOLD_FIELDS):
        config = DatasetBuffer.Config(dataset=str(tmp_path / "d"))
        buffer = DatasetBuffer(config, spec, env=Nowhere(), seed=0, optional_fields=wanted)
        assert (buffer.sample().visibility is not None) == bool(wanted)


def test_another_engine_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "phalanx.data"):
        made(tmp_path / "d", env=Nowhere(engine="starcraft2"))
    assert "(dataset / run): engine 'embedded' / 'starcraft2'" in caplog.text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["runner=offline"],
            "buffer=episode_replay does not fit runner=offline: the runner plays nothing",
        ),
        (
            ["buffer=dataset"],
            "buffer=dataset does not fit runner=vector: the runner plays episodes",
        ),
    ],
)
def test_one_without_the_other_does_not_fit(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        compose("qmix", "matrix", words)


def test_on_policy_learners_are_refused() -> None:
    with pytest.raises(ConfigError, match="buffer=dataset does not fit learner=ppo"):
        compose("mappo", "matrix", ["runner=offline", "buffer=dataset", "episode_length=0"])


def test_paths_are_kept_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    composed = compose("qmix", "matrix", ["runner=offline", "buffer=dataset", "dataset=d"])
    assert composed.nested()["buffer_args"]["dataset"] == str(tmp_path / "d")
    assert np.all(composed.run.record == "")
