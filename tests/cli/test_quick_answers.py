"""What takes seconds to import is imported by those alone who need it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import phalanx.registry
from phalanx.catalogue import shipped_parts
from phalanx.config import compose
from phalanx.errors import ConfigError
from phalanx.registry import (
    LAUNCHERS,
    REGISTRIES,
    SINKS,
    load_builtin_parts,
    needs,
    settings_only,
)
from phalanx.skeletons import skeleton

from ..families import ALGORITHMS
from ..patience import HANGS

_SCRIPT = """
import sys
from phalanx.main import main
status = main(sys.argv[1:])
print(*({"torch", "numba", "torch._dynamo", "pandas", "matplotlib"} & sys.modules.keys()), sep=",")
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
        (["print_config", "--config=vdfd", "with", "map_name=MMM2"], 0, "rollout_horizon"),
        (["list", "mixer", "qmix"], 0, "mixing_embed_dim"),
        (["--config=qmix", "with", "mixing_embed=8", "lr=-1"], 1, "2 things are wrong"),
    ],
)
def test_answers_that_need_no_part_come_without_torch(
    words: list[str], status: int, said: str, tmp_path: Path
) -> None:
    run = _run(words, tmp_path)
    assert run.returncode == status, run.stderr
    assert said in run.stdout + run.stderr
    assert run.stdout.splitlines()[-1] == ""


def test_a_run_does_without_compiler_and_frames(tmp_path: Path) -> None:
    words = ("t_max=8", "batch_size=2", "save_model=False", "mongo_url=none")
    run = _run(["--config=qmix", "--env-config=matrix", "with", *words], tmp_path)
    assert run.returncode == 0, run.stderr
    imported = run.stdout.splitlines()[-1].split(",")
    assert "torch" in imported
    assert not {"torch._dynamo", "pandas", "matplotlib"} & {*imported}


def _run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """A command in a fresh process that says at its end what it has imported of what takes seconds."""
    command = [sys.executable, "-c", _SCRIPT, *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=HANGS)


def test_skeletons_judge_configs_as_the_parts_do(monkeypatch: pytest.MonkeyPatch) -> None:
    load_builtin_parts()
    cases = [(name, "matrix", ()) for name in ALGORITHMS]
    cases += [
        ("qmix", "sc2", ("map_name=3m", "learner=ppo", "lr=-1")),
        ("mappo", "mpe", ("mixer=qmix", "buffer=episode_replay")),
        ("mat", "sc2", ("runner=offline", "gmma=1")),
        ("qmix", "lbf", ("policy=actor", "runner=offline")),
    ]

    def judged(config: str, env: str, words: tuple[str, ...]) -> object:
        try:
            composed = compose(config, env, words)
        except ConfigError as error:
            return str(error)
        return composed.full_keys(), composed.notes

    for config, env, words in cases:
        by_parts = judged(config, env, words)
        with settings_only(), monkeypatch.context() as patched:
            patched.setattr(phalanx.registry, "_loaded", False)
            assert judged(config, env, words) == by_parts


def test_skeletons_are_the_parts_settings_and_needs() -> None:
    for kind in (*REGISTRIES.values(), LAUNCHERS, SINKS):
        for name in shipped_parts(kind.package):
            bare, part = skeleton(kind.package, name), kind.get(name)
            assert bare.__doc__ == part.__doc__
            assert needs(bare) == needs(part)
            for key, info in part.Config.model_fields.items():
                own = bare.Config.model_fields[key]
                assert re.sub("at 0x[0-9a-f]+", "", repr(own)) == re.sub(
                    "at 0x[0-9a-f]+", "", repr(info)
                ), key


def test_the_catalogue_has_what_the_registries_have() -> None:
    load_builtin_parts()
    for registry in (*REGISTRIES.values(), LAUNCHERS, SINKS):
        for name, summary in shipped_parts(registry.package).items():
            part = registry.get(name)
            assert summary == (part.__doc__ or "").strip().splitlines()[0]
        own = [n for n, p in registry.items() if p.__module__.startswith("phalanx.")]
        assert own == sorted(shipped_parts(registry.package))
