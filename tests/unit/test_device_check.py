"""The check of a GPU, as far as a CPU can tell: it refuses, compares, notices and times."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from phalanx.config import compose
from phalanx.registry import REGISTRIES

from ..families import CONFIGS

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


@pytest.fixture(scope="module")
def what() -> dict[str, Any]:
    """Everything that is compared."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        found: dict[str, Any] = importlib.import_module("device").cases()
    return found


@pytest.fixture
def batch(check: ModuleType) -> Any:
    """Two short episodes, on which whatever is compared computes all that it has."""
    return check.random_batch(replace(check.make_spec("3m"), episode_limit=12), 2)


def test_whatever_learns_is_compared(what: dict[str, Any]) -> None:
    shipped = [compose(name, "sc2", ["engine=embedded"]) for name in CONFIGS]
    phases = [phase for composed in shipped for phase in composed.phases or (composed,)]
    for kind in ("learner", "policy", "agent", "mixer", "critic"):
        in_use = {phase.chosen[kind] for phase in phases if kind in phase.chosen}
        assert in_use == set(REGISTRIES[kind].names()), f"no shipped config has this {kind}"
    for name in ("bc", "omiga", "madt", "mads4", "madt_online online", "marie", "mappo", "vdfd"):
        assert name in what
    assert {"tokenizer vq", "tokenizer fsq", "world_model marie", "iql cql_alpha=1.0"} <= set(what)


def test_everything_agrees_with_itself(check: ModuleType, what: dict[str, Any], batch: Any) -> None:
    rows, agree = check.compare(CPU, batch, what)
    assert agree
    assert len(rows) == len(what)
    assert all(row.endswith("| 0.0e+00 | 0.0e+00 | yes | yes |") for row in rows), rows


def test_a_device_that_computes_something_else_is_noticed(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch, what: dict[str, Any], batch: Any
) -> None:
    real, calls = check.update_once, []

    def off(*case: Any) -> object:
        found = real(*case)
        calls.append(1)
        gradient = found.gradient * (1 if len(calls) == 1 else 1.001)
        return check.Update(found.losses, gradient)

    monkeypatch.setattr(check, "update_once", off)
    (row,), agree = check.compare(CPU, batch, {"qmix": what["qmix"]})
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
