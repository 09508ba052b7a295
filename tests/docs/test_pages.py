"""What the documentation shows works as it is printed."""

from __future__ import annotations

import json
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from phalanx.catalogue import shipped_parts
from phalanx.cli import COMMANDS, parse
from phalanx.config import compose
from phalanx.config.schema import RunConfig
from phalanx.registry import REGISTRIES, load_builtin_parts

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
_FENCE = re.compile(r"(?m)^(<!-- not run: .+ -->\n+)?```(\w*)\n(.*?)^```$", re.DOTALL)
_RUN = {
    page.relative_to(ROOT).as_posix(): page
    for page in PAGES
    if any(kind == "python" and not why for why, kind, _ in _FENCE.findall(page.read_text()))
}


@pytest.mark.parametrize("name", _RUN)
def test_python_blocks_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a page's blocks one after the other, as a reader would type them, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PHALANX_MONGO_URL", "none")
    load_builtin_parts()
    for registry in REGISTRIES.values():  # a page's own parts are of that page alone
        monkeypatch.setattr(registry, "_parts", dict(registry._parts))
    namespace: dict[str, object] = {"__name__": "__main__"}
    text = _RUN[name].read_text()
    for match in _FENCE.finditer(text):
        why, kind, code = match.groups()
        if kind == "python" and not why:
            line = text[: match.start(3)].count("\n")
            exec(compile("\n" * line + code, str(_RUN[name]), "exec"), namespace)


def _commands() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for _, kind, block in _FENCE.findall(page.read_text()):
            if kind in ("", "console"):
                for line in block.replace("\\\n", " ").splitlines():
                    command = line.partition(" #")[0].removeprefix("$ ").strip()
                    if re.match(r"(phalanx|python src/main\.py) ", command):
                        yield page.name, command


def test_commands_are_understood() -> None:
    """Every line that starts Phalanx: its command exists, and what it trains can be composed."""
    seen = 0
    for page, line in _commands():
        words = shlex.split(line.replace(" ...", "").replace("|", "-"))
        parsed = parse(
            words[words.index("src/main.py") + 1 :] if words[0] == "python" else words[1:]
        )
        assert parsed.command in COMMANDS, (page, line)
        stray = [word for word in parsed.sacred if not word.startswith("-")]
        assert parsed.command != "train" or not stray, (page, line)
        goes_on = any(word.startswith("resume=") for word in parsed.updates)
        assert parsed.command != "train" or parsed.config or goes_on, (page, line)
        if parsed.config and not parsed.config.endswith(".yaml"):
            named = [word for word in parsed.updates if not word.startswith("plugins=")]
            if named == parsed.updates:  # a plugin's own parts are tested where they are shown
                compose(parsed.config, parsed.env_config, parsed.updates)
        seen += 1
    assert seen > 10


def test_the_page_of_keys_has_them_all() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "conf.py"))["keys_page"]()
    for key in RunConfig.model_fields:
        assert f"| `{key}` |" in page
    for kind, registry in REGISTRIES.items():
        for name in shipped_parts(registry.package):
            assert f"\n### {kind}={name}\n" in page
            for key in registry.get(name).Config.model_fields:
                assert f"| `{kind}_args.{key}` |" in page


def test_every_page_is_in_the_contents() -> None:
    listed = set(re.findall(r"(?m)^[\w/]+$", (ROOT / "docs" / "index.md").read_text()))
    pages = {p.relative_to(ROOT / "docs").with_suffix("").as_posix() for p in PAGES[1:]}
    assert pages - {"index", "keys"} <= listed


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PHALANX_MONGO_URL", "none")
    notebook = json.loads((ROOT / "examples" / "first_steps.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == [1, 2, 3, 4, 5]
    namespace: dict[str, object] = {"__name__": "__main__"}
    for cell in cells:
        code = "".join(cell["source"]).replace("t_max=3000", "t_max=400")
        exec(compile(code, "first_steps.ipynb", "exec"), namespace)
