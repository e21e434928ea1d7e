"""The page of claims: by publication with its link; one line where no GPU was there."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from fakes.study_files import make_study
from firsttoken.report.claims_page import NO_GPU, render_claims

ASSETS = Path(__file__).resolve().parents[3] / "report/assets"


def test_claims_stand_under_their_publication_with_their_sentences(tmp_path: Path) -> None:
    """Seen failing: a table of 17 columns with neither introduction nor link."""
    source = make_study(tmp_path / "study", requests=3).claims
    table = pd.read_csv(source).assign(url="https://example.org/a?b=1&c=2")
    table.to_csv(source, index=False)
    render_claims(source, tmp_path / "c.html", "Claims", assets=ASSETS)
    html = (tmp_path / "c.html").read_text()
    sight = html[: html.index("<details>")]
    assert sight.count('<h2><a href="https://example.org/a?b=1&amp;c=2">A paper</a></h2>') == 1
    assert sight.count("<strong>jit_cuda is 4.48 times as fast</strong>") == 1, "one claim, two readings"
    assert "<em>P99 &lt;of&gt; TTFT</em>: One sentence about it." in sight and NO_GPU not in html


def test_without_a_gpu_one_line_stands_for_all(tmp_path: Path) -> None:
    """Seen failing: 41 rows of "not testable here"."""
    source = make_study(tmp_path / "study", requests=3).claims
    why = "Not testable here: the claim is about a GPU, and this study ran on none."
    pd.read_csv(source).assign(sentence=why).to_csv(source, index=False)
    render_claims(source, tmp_path / "c.html", "Claims", assets=ASSETS)
    html = (tmp_path / "c.html").read_text()
    assert html[: html.index("<details>")].count(NO_GPU) == 1 and "insights" not in html.split("</style>")[1]
