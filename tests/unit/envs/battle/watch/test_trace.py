"""Trace files: small, exact to their steps, and refused with a reason when they are broken."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phalanx.envs.battle import VecBattle
from phalanx.envs.battle.bots import focus
from phalanx.envs.battle.watch import Recorder, Trace, load_trace
from phalanx.errors import TraceError

from ..arena import run_out


@pytest.fixture(scope="module")
def trace() -> Trace:
    battle = VecBattle("MMM", 1, seed=1, autoreset=False, obs_last_action=True)
    recorder = Recorder(battle)
    run_out(battle, focus)
    return recorder.finished[0].trace


@pytest.fixture
def saved(trace: Trace, tmp_path: Path) -> Path:
    return trace.save(tmp_path / "deep" / "battle.npz")


def test_what_is_saved_comes_back(trace: Trace, saved: Path) -> None:
    again = load_trace(saved)
    for field in fields(Trace):
        one, other = getattr(trace, field.name), getattr(again, field.name)
        if field.name in ("x", "y"):
            np.testing.assert_allclose(other, one, atol=0.5 / 1024)
        elif field.name in ("health", "shield", "energy"):
            np.testing.assert_allclose(other, one, atol=1 / 128)
        elif isinstance(one, np.ndarray):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
        else:
            assert one == other
    np.testing.assert_array_equal(again.health > 0, trace.health > 0)
    assert again.options["obs_last_action"] is True
    again.save(saved.with_name("twice.npz"))
    np.testing.assert_array_equal(load_trace(saved.with_name("twice.npz")).x, again.x)


def test_it_is_small(trace: Trace, saved: Path) -> None:
    raw = sum(
        getattr(trace, f.name).nbytes for f in fields(Trace) if f.name in ("x", "y", "health")
    )
    assert saved.stat().st_size < raw / 5
    assert list(saved.parent.iterdir()) == [saved]  # nothing left beside


def test_large_health_keeps_its_share(trace: Trace, tmp_path: Path) -> None:
    values = {f.name: getattr(trace, f.name) for f in fields(Trace)}
    health = trace.health.copy()
    health[:, 0] = 1e6
    again = load_trace(Trace(**{**values, "health": health}).save(tmp_path / "big.npz"))
    assert again.health[0, 0] == pytest.approx(1e6, rel=1e-4)
    np.testing.assert_array_equal(again.health > 0, health > 0)


def problem(path: Path) -> str:
    with pytest.raises(TraceError) as caught:
        load_trace(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    assert "there is no such file" in problem(tmp_path / "none.npz")
    text = tmp_path / "text.npz"
    text.write_text("hello")
    assert "is not a battle trace" in problem(text)
    empty = tmp_path / "empty.npz"
    empty.touch()
    assert "is not a battle trace" in problem(empty)
    np.save(tmp_path / "array.npy", np.zeros(3))
    assert "but a numpy array" in problem(tmp_path / "array.npy")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    assert "no readable header" in problem(tmp_path / "other.npz")
    np.savez(tmp_path / "pickle.npz", header=np.array([{"a": 1}], dtype=object))
    assert "is not a battle trace" in problem(tmp_path / "pickle.npz")


def test_truncated_and_flipped_files_are_refused(saved: Path) -> None:
    whole = saved.read_bytes()
    saved.write_bytes(whole[: len(whole) // 2])
    assert "is not a battle trace, or is damaged" in problem(saved)
    refused = 0
    rng = np.random.default_rng(0)
    for _ in range(40):
        broken = bytearray(whole)
        broken[int(rng.integers(len(whole)))] ^= 0xFF
        saved.write_bytes(bytes(broken))
        try:
            load_trace(saved)
        except TraceError:
            refused += 1
    assert refused > 20  # the rest hit bytes that nothing reads


def change(saved: Path, header: dict[str, Any] | None = None, **arrays: Any) -> None:
    with np.load(saved) as file:
        content = {name: file[name] for name in file.files}
    words = json.loads(bytes(content["header"])) | (header or {})
    content["header"] = np.frombuffer(json.dumps(words).encode(), np.uint8)
    content |= arrays
    np.savez(saved, **{k: v for k, v in content.items() if v is not None})


@pytest.mark.parametrize(
    ("header", "arrays", "words"),
    [
        ({"version": 2}, {}, "a trace of version 2; this is Phalanx for versions up to 1"),
        ({"format": "film"}, {}, "is not a battle trace but 'film'"),
        ({"seed": "three"}, {}, "seed is 'three', not of type int"),
        ({"result": "glory"}, {}, "result 'glory' is none of won, lost"),
        ({"units": []}, {}, "no units"),
        ({"units": [{"type": "Marine"}]}, {}, "missing"),
        ({"cells": ["01", "0"]}, {}, "no table of letters"),
        ({}, {"x": None}, "'x' is missing"),
        ({}, {"x": np.zeros((20, 5), np.uint16)}, "x has shape (5, 20) where"),
        ({}, {"y": np.zeros((20, 5))}, "an array is float64"),
        ({}, {"actions": np.zeros((3, 2), np.int16)}, "actions have shape (3, 2)"),
        ({}, {"reward": np.zeros(3)}, "reward is of type float64"),
    ],
)
def test_damage_is_named(
    saved: Path, header: dict[str, Any], arrays: dict[str, Any], words: str
) -> None:
    change(saved, header, **arrays)
    assert words in problem(saved)


def test_targets_must_exist(saved: Path, trace: Trace) -> None:
    with np.load(saved) as file:
        shot = np.zeros_like(file["shot"])
    shot[:, 0] = len(trace.units)
    change(saved, shot=shot)
    assert "shot names units that do not exist" in problem(saved)
