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
        words = name.removesuffix("_bytes").replace("_", " ")
        assert words[:1].upper() + words[1:] in html, name
    assert "A CPU with &lt;angles&gt; &amp; *stars*" in html
    assert "transformers" in html and "5.23.0" in html
    assert "tensorrt_llm.status" in html


def test_lists_are_told_and_long_ones_counted(tmp_path: Path) -> None:
    source = tmp_path / "c.json"
    source.write_text(json.dumps({"samples": list(range(20)), "floors": [{"ms": 1.5}, {"ms": None}], "on": True}))
    render_record(source, tmp_path / "c.html", "Ceilings", assets=ASSETS)
    html = (tmp_path / "c.html").read_text()
    assert "10, 11, and 8 more" in html
    assert '<th scope="row" class="number" data-value="1.5">1.50' in html
    assert ">yes<" in html


def test_units_are_those_that_a_person_reads(tmp_path: Path) -> None:
    """Seen failing: 3105000000000.0 under the field's own name."""
    source = tmp_path / "c.json"
    samples = {"read_bandwidth_bytes_per_s": 3.105e12, "matrix_flops_samples": [6e14], "memory_bytes": 2**31}
    source.write_text(json.dumps(samples))
    render_record(source, tmp_path / "c.html", "Ceilings", assets=ASSETS)
    html = (tmp_path / "c.html").read_text()
    for cells in (
        "Read bandwidth, GB/s</th><td>3,105",
        "Matrix rate samples, TFLOP/s</th><td>600.0",
        "Memory, GiB</th><td>2.000",
    ):
        assert cells in html
