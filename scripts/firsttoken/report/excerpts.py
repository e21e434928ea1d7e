"""Excerpts of the source, found by name when a page is rendered; a name that is missing is an error."""

from __future__ import annotations

import ast
import textwrap
from html import escape
from pathlib import Path

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

Named = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class SourceMissingError(ValueError):
    """A page names a file or a function that the source does not have."""


def excerpt(package: Path, name: str) -> str:
    """The source of `name`, e.g. `engine/loop.py:ModelEngine.generate`, of the package in folder `package`, as HTML.

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
    body = highlight(code, PythonLexer(), HtmlFormatter(nowrap=True))
    return (
        f'<details class="source" open><summary><code>{escape(qualified)}</code> '
        f'<span class="place">{escape(f"{package.name}/{file}, lines {first} to {last}")}</span></summary>'
        f'<pre class="code" tabindex="0" aria-label="{escape(qualified)}"><code>{body}</code></pre></details>'
    )


def _find(tree: ast.Module, name: str, qualified: str) -> Named:
    scope: ast.Module | Named = tree
    for part in qualified.split("."):
        named = {node.name: node for node in scope.body if isinstance(node, Named)}
        if part not in named:
            raise SourceMissingError(f"{name}: no {part!r} there; it has {', '.join(sorted(named)) or 'no functions'}")
        scope = named[part]
    assert not isinstance(scope, ast.Module)
    return scope


def code_styles() -> str:
    """CSS of the highlighted code, with enough contrast (WCAG AA)."""
    return str(HtmlFormatter(style="default").get_style_defs(".code"))
