"""From a template to one self-contained HTML file: front matter, Jinja, Markdown, style sheet and script inlined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml
from markdown_it import MarkdownIt

from firsttoken.files import write_text
from firsttoken.report.excerpts import code_styles
from firsttoken.results import RunRecord

ASSETS = ("page.css", "page.js")


@dataclass(frozen=True)
class Template:
    """A page's Markdown template and its front matter."""

    name: str
    meta: Mapping[str, Any]
    body: str


@dataclass(frozen=True)
class PageInputs:
    """Where the words, code and figures of the approaches' pages come from."""

    templates: Path  # report/approaches
    assets: Path  # report/assets
    package: Path  # scripts/firsttoken
    summary_csv: Path
    latency_csv: Path
    claims_csv: Path
    answer_txt: Path
    study: str
    records: Sequence[RunRecord]  # of all processes


class Slots:
    """HTML that Markdown must not change: a mark stands for it until the Markdown is rendered."""

    def __init__(self) -> None:
        self._html: list[str] = []

    def put(self, html: str) -> str:
        """The mark for `html`, on a line of its own."""
        self._html.append(html)
        return f"\n\nSLOT-{len(self._html) - 1}-SLOT\n\n"

    def fill(self, text: str) -> str:
        for place, html in enumerate(self._html):
            mark = f"SLOT-{place}-SLOT"
            text = text.replace(f"<p>{mark}</p>", html).replace(mark, html)
        return text


def read_template(templates: Path, name: str) -> Template:
    """`{name}.md.j2`: YAML between two lines of three dashes, then Markdown with Jinja. Raises ValueError naming it."""
    path = templates / f"{name}.md.j2"
    if not path.is_file():
        raise ValueError(f"{path}: no such page; there are {', '.join(page_names(templates))} and overview")
    text = path.read_text(encoding="utf-8")
    parts = text.split("---\n", 2)
    if len(parts) != 3 or parts[0].strip():
        raise ValueError(f"{path}: begins with no front matter between lines of three dashes")
    meta = yaml.safe_load(parts[1])
    if not isinstance(meta, dict):
        raise ValueError(f"{path}: the front matter is no mapping")
    return Template(name, meta, parts[2])


def page_names(templates: Path) -> list[str]:
    """The approaches that have a page, in the order that their front matter's `place` gives."""
    names = [path.name.removesuffix(".md.j2") for path in sorted(templates.glob("*.md.j2"))]
    pages = [read_template(templates, name) for name in names if name != "overview"]
    return [page.name for page in sorted(pages, key=lambda page: page.meta["place"])]


def read_answer(answer_txt: Path) -> list[str]:
    """The three sentences of `answer.txt`, which follow its last empty line; above it is a table for a terminal."""
    return answer_txt.read_text(encoding="utf-8").strip().split("\n\n")[-1].splitlines()


def render_markdown(template: Template, context: Mapping[str, Any], slots: Slots) -> str:
    """The template's body as HTML. An unknown name in it is an error."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    try:
        markdown = environment.from_string(template.body).render(**context)
    except jinja2.UndefinedError as error:
        raise ValueError(f"{template.name}.md.j2: {error}") from error
    return slots.fill(str(MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown)))


def write_document(
    out_html: Path, *, assets: Path, title: str, description: str, body: str, navigation: str = ""
) -> None:
    """Write one self-contained HTML file. `assets` holds the style sheet, the script and the layout."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(assets), undefined=jinja2.StrictUndefined, autoescape=False
    )
    parts = {name.replace(".", "_"): (assets / name).read_text(encoding="utf-8") for name in ASSETS}
    html = environment.get_template("layout.html.j2").render(
        title=title, description=description, body=body, navigation=navigation, code_css=code_styles(), **parts
    )
    write_text(out_html, html)
