"""The check of a GPU, as far as a CPU can tell: it refuses, compares, notices and times."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CPU = torch.device("cpu")


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield importlib.import_module("device")
    torch.set_num_threads(threads)


def test_without_a_card_it_says_so(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert check.main([]) == 1
    said = capsys.readouterr()
    assert "no CUDA device" in said.err
    assert said.out == ""


def test_every_learner_agrees_with_itself(check: ModuleType) -> None:
    rows, agree = check.compare(CPU)
    assert agree
    assert len(rows) == len(check.LEARNERS)
    assert all(row.endswith("| 0.0e+00 | 0.0e+00 | yes | yes |") for row in rows)


def test_a_device_that_computes_something_else_is_noticed(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = check.update_once, []

    def off(algorithm: str, batch: object, device: torch.device) -> object:
        found = real(algorithm, batch, device)
        calls.append(1)
        gradient = found.gradient * (1 if len(calls) == 1 else 1.001)
        return check.Update(found.losses, gradient)

    monkeypatch.setattr(check, "update_once", off)
    (row,), agree = check.compare(CPU, ["qmix"])
    assert not agree
    assert "| 1.0e-03 | **no** | yes |" in row


def test_times_are_taken(check: ModuleType, tmp_path: Path) -> None:
    row = check.time_updates("qmix", "3m", 2, CPU, 0.0, rate=1e12)
    name, device, steps, each, *_ = [cell.strip() for cell in row.strip("|").split("|")]
    assert (name, device) == ("qmix", "cpu")
    assert float(steps) > 0
    assert each.endswith("GFLOP")
    words = ("game=two_step", "batch_size=2", "buffer_size=8", "env_steps_per_update=8")
    row = check.time_run("qmix", "matrix", words, "cpu", 0.0, tmp_path)
    assert "learn" in row
    assert "env" in row
