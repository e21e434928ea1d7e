"""Records as pages: every field is there, whatever it holds."""

from __future__ import annotations

import json
from pathlib import Path

from fakes.study_files import make_study
from firsttoken.report.record_page import render_record

ASSETS = Path(__file__).resolve().parents[3] / "report/assets"


def test_the_environment_shows_every_field(tmp_path: Path) -> None:
    study = make_study(tmp_path / "study", requests=3)
    render_record(study.environment, tmp_path / "e.html", "Environment", assets=ASSETS)
    html = (tmp_path / "e.html").read_text()
    for name in json.loads(study.environment.read_text()):
        assert name in html or name.replace("_", " ").capitalize() in html, name
    assert "A CPU with &lt;angles&gt; &amp; *stars*" in html
    assert "transformers" in html and "5.23.0" in html
    assert "tensorrt_llm.status" in html


def test_lists_are_told_and_long_ones_counted(tmp_path: Path) -> None:
    source = tmp_path / "c.json"
    source.write_text(json.dumps({"samples": list(range(20)), "floors": [{"ms": 1.5}, {"ms": None}], "on": True}))
    render_record(source, tmp_path / "c.html", "Ceilings", assets=ASSETS)
    html = (tmp_path / "c.html").read_text()
    assert "10, 11, and 8 more" in html
    assert "floors.2.ms" in html and "1.5000" in html
    assert ">yes<" in html
