"""A small count of what kills, races, servers and full disks cost; the large one is the benchmark itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FAULTS = Path(__file__).resolve().parents[3] / "benchmarks" / "faults.py"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.timeout(1200)
def test_faults_lose_and_double_nothing():
    words = ("--kills", "5", "--rounds", "1", "--only", "kills", "--only", "races")
    command = [sys.executable, str(FAULTS), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.partition(":")[0] for line in lines] == ["kills", "races"]
    assert all("0 lost, 0 duplicated, 0 changed" in line for line in lines)
