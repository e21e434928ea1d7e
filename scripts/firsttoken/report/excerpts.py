"""Functions from the source, found by name when a page is rendered: a renamed one fails the build, not the reader."""

from __future__ import annotations

import ast
import textwrap
from dataclasses import dataclass
from html import escape
from pathlib import Path

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

Named = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class SourceMissingError(ValueError):
    """A page names a file or a function that the source does not have."""


@dataclass(frozen=True)
class Excerpt:
    """Lines of one function or class, dedented; `first_line` and `last_line` are where they stand in `path`."""

    path: str
    name: str
    first_line: int
    last_line: int
    code: str

    @property
    def html(self) -> str:
        """The highlighted code under its name and place; it can be folded, and is open at first."""
        body = highlight(self.code, PythonLexer(), HtmlFormatter(nowrap=True))
        place = f"{self.path}, lines {self.first_line} to {self.last_line}"
        return (
            f'<details class="source" open><summary><code>{escape(self.name)}</code> '
            f'<span class="place">{escape(place)}</span></summary>'
            f'<pre class="code" tabindex="0" aria-label="{escape(self.name)}"><code>{body}</code></pre></details>'
        )


def excerpt(package: Path, name: str) -> Excerpt:
    """The source of `name`, e.g. `engine/loop.py:ModelEngine.generate`, of the package in folder `package`.

    Raises SourceMissingError that says which names the file has instead.
    """
    file, _, qualified = name.partition(":")
    path = package / file
    if not path.is_file():
        raise SourceMissingError(f"{name}: there is no file {path}")
    text = path.read_text(encoding="utf-8")
    node = _find(ast.parse(text), name, qualified)
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    last = node.end_lineno or node.lineno
    code = textwrap.dedent("\n".join(text.splitlines()[first - 1 : last]))
    return Excerpt(f"{package.name}/{file}", qualified, first, last, code)


def _find(tree: ast.Module, name: str, qualified: str) -> Named:
    scope: list[ast.stmt] = tree.body
    found: Named | None = None
    for part in qualified.split("."):
        named = {node.name: node for node in scope if isinstance(node, Named)}
        if part not in named:
            raise SourceMissingError(f"{name}: no {part!r} there; it has {', '.join(sorted(named)) or 'no functions'}")
        found = named[part]
        scope = found.body
    assert found is not None
    return found


def code_styles() -> str:
    """CSS of the highlighted code, light and dark; both keep a contrast that can be read."""
    light = HtmlFormatter(style="default").get_style_defs(".code")
    dark = HtmlFormatter(style="github-dark").get_style_defs(".code")
    return f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}"
