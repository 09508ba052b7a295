"""Sphinx: Markdown by MyST, and the page of config keys made from the registry. `make docs` builds it."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

from phalanx import __version__
from phalanx.config.schema import RunConfig
from phalanx.config.sources import CONFIG_DIR, shipped_configs
from phalanx.listing import type_of
from phalanx.registry import LAUNCHERS, REGISTRIES, SINKS, needs, settings_only

HERE = Path(__file__).parent

project = "Phalanx"
author = "The Phalanx authors"
copyright = author
version = release = __version__
extensions = ["myst_parser"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_static_path = ["_static"]
html_css_files = ["phalanx.css"]
html_theme_options = {
    "description": "Cooperative multi-agent reinforcement learning from registered parts",
    "fixed_sidebar": True,
    "page_width": "1160px",
    "sidebar_width": "230px",
}
html_sidebars = {"**": ["about.html", "navigation.html", "searchbox.html"]}


def keys_page() -> str:
    """Every key there is: of runs, of each part, and what the shipped configs are."""
    lines = [
        "# Config keys",
        "",
        "Made from the registry when these pages are built. A bare key goes to the one chosen part that "
        "reads it; the full name of a part's key is `KIND_args.KEY`. `phalanx print_config "
        "--config=NAME` shows a whole composition with the origin of each value, `phalanx list "
        "KIND PART` one part.",
        "",
        "## Shipped configs",
        "",
    ]
    for kind, option in (("algs", "--config"), ("envs", "--env-config")):
        lines += [f"| `{option}` | what it is |", "| --- | --- |"]
        for name in shipped_configs(kind):
            text = (CONFIG_DIR / kind / f"{name}.yaml").read_text(encoding="utf-8")
            head = []
            for line in text.splitlines():
                if not line.startswith("#"):
                    break
                head.append(line.lstrip("# "))
            lines.append(f"| `{name}` | {_cell(' '.join(head))} |")
        lines.append("")
    lines += ["## Runs", "", *_table(RunConfig, "")]
    with settings_only():
        for registry in (*REGISTRIES.values(), LAUNCHERS, SINKS):
            lines += [
                f"## {registry.kind}",
                "",
                f"{registry.doc[0].upper()}{registry.doc[1:]}.",
                "",
            ]
            for name, part in registry.items():
                doc = (inspect.getdoc(part) or "").split("\n\n")[0]
                lines += [f"### {registry.kind}={name}", "", _cell(doc), ""]
                if asks := needs(part):
                    lines += [f"Works with the chosen {', '.join(asks)}.", ""]
                full = f"{registry.kind}_args." if registry.kind in REGISTRIES else ""
                lines += _table(part.Config, full)
    return "\n".join(lines) + "\n"


def _table(config: Any, prefix: str) -> list[str]:
    if not config.model_fields:
        return ["No keys.", ""]
    rows = ["| key | type | default | |", "| --- | --- | --- | --- |"]
    for key, info in config.model_fields.items():
        default = "(required)" if info.is_required() else f"`{info.get_default()!r}`"
        kind = _cell(type_of(info)).replace("<", "&lt;")
        rows.append(f"| `{prefix}{key}` | {kind} | {default} | {_cell(info.description or '')} |")
    return [*rows, ""]


def _cell(text: str) -> str:
    """One line that a table takes: no bars, and nothing that Markdown or MyST would read."""
    text = " ".join(text.split()).replace("|", "\\|").replace("``", "`")
    return text.replace("*", "\\*").replace("_", "\\_") if "`" not in text else text


def _outside(app: Any, docname: str, source: list[str]) -> None:
    """Links to other files of the checkout, which work where it is browsed, become their names."""
    link = r"(?<!!)\[([^\]]*)\]\((?:\.\./)+((?:results|benchmarks|examples|tests)[^)]*)\)"
    source[0] = re.sub(
        link, lambda m: f"{m[1]} (`{m[2]}`)" if m[1] != m[2] else f"`{m[2]}`", source[0]
    )


def setup(app: Any) -> None:
    """Write the page before the sources are read."""
    app.connect("source-read", _outside)
    page = HERE / "keys.md"
    text = keys_page()
    if not page.exists() or page.read_text(encoding="utf-8") != text:
        page.write_text(text, encoding="utf-8")
