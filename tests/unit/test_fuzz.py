"""Hundreds of mutated configs, files, plugins and commands: each ends in a run or one sentence, soon."""

from __future__ import annotations

import functools
import json
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from phalanx import cli, plugins
from phalanx.checkpoint import _checksum, load_checkpoint, read_meta, save_checkpoint
from phalanx.config.schema import RunConfig
from phalanx.config.sources import CONFIG_DIR
from phalanx.registry import REGISTRIES, load_builtin_parts

CASES = 600
"""In all; the kinds of cases share them."""

ODD = (
    "", " ", "null", "True", "-1", "0", "1e400", ".inf", "nan", "1" * 5000, "9" * 26, "2020-13-45", "007",
    "[]", "[[]]", "[0]", "{}", "{[1]: 2}", "{a: 1}", "{a.b: 1}", "(1, 2)", "!tag 3", "*a", "&a [*a]",
    "'", "\"", "a b", "😀", "\t", "%", "~nouser/x", "../..", "/", "x" * 300, "0x1F", "1_000", "1e-3",
    "2e6", "b'x'", "lambda: 1", "__import__('os')", "[1, 2", "{", "- a", "a: b: c", "<<: 1",
    "none", "auto", "value",
)  # fmt: skip
CONFIGS = ("iql", "qmix", "vdfd", "mappo", "happo", "mat")
NAMED = (
    *(p.stem for p in (CONFIG_DIR / "algs").glob("*.yaml")),
    "qmx",
    "",
    "x.yaml",
    "/tmp",
    "a/b.json",
)
COMMANDS = (
    "print_config",
    "list",
    "evaluate",
    "render",
    "runs",
    "help",
    "train",
    "prnt",
    "compare",
    "plot",
)
PLUGIN = '''
from phalanx.registry import MIXERS, PartConfig
{before}

@MIXERS.register({name!r})
class Mine{base}:
    """{doc}"""

    class Config({config}):
        width: {type} = {default}

    def __init__(self, {parameters}):
        {body}
'''
FAULTS: dict[str, tuple[object, ...]] = {
    "name": ("mine", "mine", "qmix", "", 3),
    "before": ("", "", "1 / 0", "import no_such", "raise SystemExit(0)", "def f(:"),
    "base": ("", "(int)", "(object)"),
    "doc": ("A mixer.", "A mixer.", ""),
    "config": ("PartConfig", "PartConfig", "dict", "object"),
    "type": ("int", "int", "str", "list[int]", "Unknown"),
    "default": ("3", "3", "'a'", "None", "object()"),
    "parameters": ("config, spec, *, world_model", "config", "", "config, *, nobody"),
    "body": ("pass", "1 / 0", "raise SystemExit(0)", "self.x = config.no", "raise MemoryError"),
}
TINY = (
    "t_max=2",
    "mongo_url=none",
    "test_nepisode=1",
    "batch_size_run=1",
    "save_model=False",
    "game=climbing",
)


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """What plugins register is gone afterwards; files land nowhere else."""
    monkeypatch.chdir(tmp_path)
    load_builtin_parts()
    known = {kind: dict(registry._parts) for kind, registry in REGISTRIES.items()}
    monkeypatch.setattr(plugins, "_files", [])
    yield
    for kind, parts in known.items():
        REGISTRIES[kind]._parts.clear()
        REGISTRIES[kind]._parts.update(parts)


def keys() -> list[str]:
    """Every key there is, bare and in full."""
    parts = [
        (kind, key)
        for kind, registry in REGISTRIES.items()
        for _, part in registry.items()
        for key in part.Config.model_fields
    ]
    full = [f"{kind}_args.{key}" for kind, key in parts]
    return sorted({*RunConfig.model_fields, *REGISTRIES, *(key for _, key in parts), *full})


def mutated(draw: random.Random, text: str) -> str:
    """A few characters dropped, doubled or replaced."""
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(text) + 1)
        text = (
            text[:at]
            + draw.choice(["", ":", "\n", "  ", "[", "&x ", "*x", "!", '"', "-"])
            + text[at + 1 :]
        )
    return text


def words(draw: random.Random, folder: Path) -> list[str]:
    """A composed config with odd values under real, misspelt and foreign keys."""
    known = keys()
    pairs = []
    for _ in range(draw.randint(1, 3)):
        key = draw.choice(known)
        if draw.random() < 0.2:
            key = mutated(draw, key)
        pairs.append(f"{key}={draw.choice(ODD)}")
    env = draw.choice(("matrix", "gymma", "sc2", "sc2v2", "pettingzoo"))
    return [
        "print_config",
        f"--config={draw.choice(CONFIGS)}",
        f"--env-config={env}",
        "with",
        *pairs,
    ]


def files(draw: random.Random, folder: Path) -> list[str]:
    """A shipped YAML, or lines of odd values, with characters changed."""
    if draw.random() < 0.5:
        text = mutated(
            draw, (CONFIG_DIR / "algs" / f"{draw.choice(CONFIGS)}.yaml").read_text("utf-8")
        )
    else:
        chosen = draw.choices(keys(), k=4)
        lines = [f"{key}: {draw.choice(ODD)}" for key in chosen]
        lines.append(f"overrides: [{{when: {{{draw.choice(keys())}: {draw.choice(ODD)}}}, lr: 1}}]")
        text = "extends: qmix\n" + "\n".join(lines)
    path = folder / "fuzz.yaml"
    path.write_text(text, encoding="utf-8")
    return ["print_config", f"--config={path}", "--env-config=matrix"]


def parts(draw: random.Random, folder: Path) -> list[str]:
    """A plugin with one or two things wrong, asked for in a run of two steps."""
    text = PLUGIN.format(**{slot: draw.choice(choices) for slot, choices in FAULTS.items()})
    path = folder / "part.py"
    path.write_text(text, encoding="utf-8")
    named = draw.choice((f"[{path}]", f"[{path}]", str(path), "[part]", "[no.such]", "5", "[1]"))
    return ["--config=qmix", "--env-config=matrix", "with", f"plugins={named}", "mixer=mine", *TINY]


def commands(draw: random.Random, folder: Path) -> list[str]:
    """Commands with odd arguments."""
    line = [draw.choice(COMMANDS)]
    line += [f"--config={draw.choice(NAMED)}"] if draw.random() < 0.4 else []
    line += draw.choices(
        (*ODD, *REGISTRIES, "--help", "-l", "NOPE", "--step", "--out"), k=draw.randint(0, 3)
    )
    line += ["with", draw.choice(ODD)] if draw.random() < 0.3 else []
    # A shipped config without further words is a real run of hours.
    return line if line[0] != "train" else ["train", "--config=qmix", "-l", "NOPE", *line[2:]]


def somewhere(draw: random.Random, tree: Any) -> tuple[Any, Any]:
    """A dictionary or list somewhere inside of ``tree``, and one of its keys."""
    while True:
        key = draw.choice(list(tree) if isinstance(tree, dict) else range(len(tree)))
        inner = tree[key]
        if not (isinstance(inner, (dict, list)) and inner) or draw.random() < 0.2:
            return tree, key
        tree = inner


def spoil(draw: random.Random, tree: Any) -> None:
    """Something inside of ``tree`` left out, or put in the place of another thing."""
    for _ in range(draw.randint(1, 2)):
        place, key = somewhere(draw, tree)
        if isinstance(place, dict) and draw.random() < 0.3:
            place[draw.choice(ODD)] = place.pop(key)
        else:
            place[key] = draw.choice((*ODD, None, -1, 1e300, 2**70, True, [], {}, [[1]], {"a": 1}))


@functools.cache
def sound(folder: Path) -> Path:
    """A run's checkpoint; one serves all cases."""
    assert (
        cli.run(["--config=qmix", "--env-config=matrix", "with", *TINY[:4], "game=climbing"]) == 0
    )
    (made,) = Path("results/runs").glob("*/checkpoints/latest")
    return made.rename(folder / "sound")


def checkpoints(draw: random.Random, folder: Path) -> list[str]:
    """A checkpoint whose meta.json or state is odd, with checksums that fit and without."""
    whole = sound(folder.parent)
    given = folder / "latest"
    if draw.random() < 0.3:
        meta, state = read_meta(whole), load_checkpoint(whole)
        spoil(draw, state)
        save_checkpoint(given, meta["config"], meta["t_env"], state, meta["recorded"])
    else:
        shutil.copytree(whole, given)
        meta = read_meta(whole)
        spoil(draw, meta["config"] if draw.random() < 0.6 else meta)
        if draw.random() < 0.7:
            meta["checksum"] = _checksum(meta)
        text = json.dumps(meta) if draw.random() < 0.9 else draw.choice((*ODD, "[]", "null"))
        (given / "meta.json").write_text(text, "utf-8")
    if draw.random() < 0.5:
        return ["evaluate", str(given), "with", "test_nepisode=1"]
    return ["with", f"checkpoint_path={given}", *TINY]


KINDS: dict[str, tuple[Callable[[random.Random, Path], list[str]], int]] = {
    "words": (words, 240),
    "files": (files, 140),
    "parts": (parts, 80),
    "commands": (commands, 80),
    "checkpoints": (checkpoints, 60),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_case_ends_in_a_run_or_a_sentence(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, cases = KINDS[kind]
    for case in range(cases):
        draw = random.Random(f"{kind} {case}")
        folder = tmp_path / str(case)
        folder.mkdir()
        line = make(draw, folder)
        start = time.process_time()  # what it costs, however busy the machine is
        try:
            status = cli.run(line)
        except SystemExit as end:  # the parser of a command's options
            status = int(end.code or 0) if isinstance(end.code, int) else 1
            assert line[0] in cli.TRACKING_COMMANDS or line[0] in ("evaluate", "render"), line
        seconds = time.process_time() - start
        said = capsys.readouterr()
        what = f"{kind} {case}: {line}\n{said.out[-500:]}\n{said.err[-2000:]}"
        assert seconds < 10, f"{seconds:.1f} s, {what}"
        assert "Traceback" not in said.err, what
        assert status == 0 or said.err.strip(), what


def test_there_are_enough_cases() -> None:
    assert sum(cases for _, cases in KINDS.values()) == CASES
