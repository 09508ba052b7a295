"""What a user is told about the machine, the configs and the maps."""

from __future__ import annotations

from pathlib import Path

import pytest

from phalanx import doctor
from phalanx.cli import run
from phalanx.tracking.console import packed


def test_what_is_missing_comes_with_the_line_that_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHALANX_MONGO_URL", "mongodb://127.0.0.1:9/")
    monkeypatch.setattr(doctor.metadata, "requires", lambda _: ["no-such>=1; extra == 'mpe'"])
    monkeypatch.setattr(doctor, "LEAST_DISK", 2**80)
    monkeypatch.setattr("phalanx.envs.battle.jit.cache_folder", lambda: None)
    found = {finding.what: finding for finding in doctor.examine(tmp_path / "results")}
    assert found["Python"].state == found["torch"].state == found["Sacred"].state == "ok"
    assert "PHALANX_MONGO_URL" in found["database"].fix
    assert found["extra mpe"].fix == "pip install -e '.[mpe]'"
    assert (found["disk"].state, found["kernels"].state) == ("without", "without")
    assert "NUMBA_CACHE_DIR" in found["kernels"].fix
    assert all(finding.fix for finding in found.values() if finding.state != "ok")


def test_a_python_that_is_too_new_is_refused_with_a_line() -> None:
    finding = doctor._python((3, 14))
    assert finding.state == "broken"
    assert "make setup PYTHON=" in finding.fix


def test_doctor_configs_and_maps_are_listed_each_on_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["doctor"]) == 0
    assert "Python: " in capsys.readouterr().out
    assert run(["list", "configs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("qmix_wide" in line and "what size alone does." in line for line in lines)
    assert run(["list", "maps"]) == 0
    assert ["MMM2", "10", "12", "18", "180"] in [
        line.split() for line in capsys.readouterr().out.splitlines()
    ]


def test_progress_fits_eighty_columns() -> None:
    parts = ["1,990,000/2,050,000", *(f"test return {n}.25" for n in range(10, 19))]
    lines = packed(parts).splitlines()
    assert max(map(len, lines)) <= 80
    assert " | ".join(line.strip() for line in lines) == " | ".join(parts)
