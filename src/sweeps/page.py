"""A page of tables and figures that needs no other file."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Collection, Sequence
from typing import Any

_STYLE = """\
:root { color-scheme: light dark; --line: #d8dce3; --soft: #667085; --mark: #eef4ff; }
@media (prefers-color-scheme: dark) { :root { --line: #39404b; --soft: #98a2b3; --mark: #1d2b45; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; max-width: 68rem; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .3rem; padding-top: .8rem; border-top: 1px solid var(--line); }
p { margin: .2rem 0 .8rem; max-width: 50rem; color: var(--soft); }
nav a { margin-right: 1rem; color: inherit; }
.wide { overflow-x: auto; margin: 0 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { text-align: left; padding: .35rem 1.2rem .35rem 0; border-bottom: 1px solid var(--line); }
td { white-space: nowrap; }
th { font-weight: 600; vertical-align: bottom; }
tr.best td { background: var(--mark); font-weight: 600; }
.figures { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: .8rem; }
@media (max-width: 48rem) { .figures { grid-template-columns: 1fr; } }
figure { margin: 0; padding: .4rem; background: #fff; border: 1px solid var(--line); }
figure svg { display: block; width: 100%; height: auto; }
@media print { nav { display: none; } figure, table { break-inside: avoid; } }
"""


class Page:
    """HTML that is put together from top to bottom.

    Args:
        title: of the page.
        facts: lines below it.
    """

    def __init__(self, title: str, facts: Sequence[str]) -> None:
        self._title, self._facts = title, facts
        self._sections: list[str] = []
        self._body: list[str] = []

    def section(self, title: str, text: str) -> None:
        """Begin a section with a sentence or two on what it shows."""
        anchor = _anchor(title)
        self._sections.append(f'<a href="#{anchor}">{html.escape(title)}</a>')
        self._body.append(f'<h2 id="{anchor}">{html.escape(title)}</h2>')
        if text:
            self._body.append(f"<p>{html.escape(text)}</p>")

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        marked: Collection[int] = (),
    ) -> None:
        """A table; ``marked`` rows stand out."""
        head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
        lines = []
        for number, row in enumerate(rows):
            cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
            lines.append(
                f'<tr class="best">{cells}</tr>' if number in marked else f"<tr>{cells}</tr>"
            )
        body = "\n".join(lines)
        self._body.append(
            f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'
        )

    def figures(self, drawings: Sequence[tuple[str, str]]) -> None:
        """SVG drawings with a description each, side by side where there is room."""
        each = "\n".join(
            f'<figure role="img" aria-label="{html.escape(description)}">{drawing}</figure>'
            for drawing, description in drawings
        )
        self._body.append(f'<div class="figures">{each}</div>')

    def html(self) -> str:
        """The whole page."""
        facts = "".join(f"<p>{html.escape(fact)}</p>" for fact in self._facts)
        title = html.escape(self._title)
        return (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<style>\n{_STYLE}</style></head>\n<body><h1>{title}</h1>{facts}"
            f"<nav>{''.join(self._sections)}</nav>\n" + "\n".join(self._body) + "\n</body></html>\n"
        )


def svg(figure: Any) -> str:
    """A figure of matplotlib as SVG with its text as text, the same bytes for the same figure."""
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "phalanx"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    drawing = text.getvalue()
    return drawing[drawing.index("<svg") :]


def _anchor(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower())
