"""Answers that need no part itself come without torch, which takes seconds to import."""

from __future__ import annotations

import subprocess
import sys

import pytest

from phalanx.catalogue import shipped_parts
from phalanx.registry import LAUNCHERS, REGISTRIES, SINKS, load_builtin_parts

_SCRIPT = """
import sys
from phalanx.main import main
status = main(sys.argv[1:])
print("torch" in sys.modules, "numba" in sys.modules)
raise SystemExit(status)
"""


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--help"], 0, "phalanx list"),
        (["list"], 0, "disentangled"),
        (["list", "mixer", "qmxi"], 1, "Did you mean 'qmix'?"),
        (["--config=foo"], 1, "--config=foo: no such config."),
        (["--config=qmix", "--env-config=sc3"], 1, "Did you mean 'sc2'"),
        (["--config=qmix", "with", "mixer=qmxi"], 1, "unknown mixer 'qmxi' (command line)."),
        (["print_config", "--config=qmxi"], 1, "Did you mean 'qmix'"),
    ],
)
def test_torch_is_not_imported(words: list[str], status: int, said: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", _SCRIPT, *words], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == status, run.stderr
    assert said in run.stdout + run.stderr
    assert run.stdout.splitlines()[-1] == "False False"


def test_the_catalogue_has_what_the_registries_have() -> None:
    load_builtin_parts()
    for registry in (*REGISTRIES.values(), LAUNCHERS, SINKS):
        for name, summary in shipped_parts(registry.package).items():
            part = registry.get(name)
            assert summary == (part.__doc__ or "").strip().splitlines()[0]
        own = [n for n, p in registry.items() if p.__module__.startswith("phalanx.")]
        assert own == sorted(shipped_parts(registry.package))
