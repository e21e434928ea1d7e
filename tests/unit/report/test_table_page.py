"""Result tables as pages: numbers, intervals and notes together, and the whole CSV in the download."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pandas as pd

from fakes.study_files import ON_A_GPU, make_study
from firsttoken.report.table_page import emulation_note, html_table, render_table

ASSETS = Path(__file__).resolve().parents[3] / "report/assets"


def test_the_download_is_the_csv_and_no_cell_can_break_the_page(tmp_path: Path) -> None:
    source = tmp_path / "odd.csv"
    pd.DataFrame({"approach": ["</script><b>"], "value": [1.5]}).to_csv(source, index=False)
    render_table(source, tmp_path / "odd.html", "Odd", assets=ASSETS)
    html = (tmp_path / "odd.html").read_text()
    assert html.count("</script>") == 2, "the table's data and the page's own script"
    found = re.search(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    assert list(csv.DictReader(json.loads(found[1]).splitlines())) == [{"approach": "</script><b>", "value": "1.5"}]


def test_interval_and_note_share_the_cell_of_their_value() -> None:
    data = pd.DataFrame(
        {
            "approach": ["a", "b"],
            "ttft_mean_ms": [4.25, 5.0],
            "ttft_mean_low_ms": [4.0, None],
            "ttft_mean_high_ms": [4.5, None],
            "ttft_mean_note": ["", "too few processes"],
        }
    )
    html = html_table(data, "t")
    assert html.count('<th scope="col"') == 2
    assert "TTFT mean, ms" in html
    assert '<td class="number" data-value="4.25">4.25 <small>4.00 to 4.50</small>' in html
    assert "<small>too few processes</small>" in html


def test_the_status_stands_in_the_first_cell_of_its_row(tmp_path: Path) -> None:
    study = make_study(tmp_path / "study", requests=3)
    render_table(study.latency, tmp_path / "t.html", "Latency", assets=ASSETS)
    html = (tmp_path / "t.html").read_text()
    rows = re.findall(r'<tr><th scope="row">(.*?)</th>', html)
    assert len(rows) == 2 * 12, "in sight, and behind the fold with all columns"
    assert all(("emulated" in row) == ("cuda" in row) for row in rows)


def test_a_page_may_have_a_second_table_with_a_download_of_its_own(tmp_path: Path) -> None:
    first, second = tmp_path / "combined.csv", tmp_path / "hosts.csv"
    first.write_text("approach,prompt_length,ttft_mean_spread_percent\na,0,3.21\n")
    second.write_text("approach,host\na,GPU-1\n")
    render_table(first, tmp_path / "t.html", "Two", assets=ASSETS, below=[("Each <host>", second)])
    html = (tmp_path / "t.html").read_text()
    assert (
        html.index("Download combined.csv")
        < html.index("<h2>Each &lt;host&gt;</h2>")
        < html.index("Download hosts.csv")
    )
    assert "TTFT mean spread, %" in html and ">all<" in html


def test_an_experiment_without_a_gpu_says_that_it_is_emulated(tmp_path: Path) -> None:
    environment = make_study(tmp_path / "study", requests=3).environment
    assert emulation_note(environment).startswith("Emulated: ")
    on_gpu = tmp_path / "gpu.json"
    on_gpu.write_text(environment.read_text().replace('"device": "cpu"', '"device": "cuda"'))
    assert emulation_note(on_gpu) == ""


def test_an_empty_table_says_so(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("approach,value\n")
    render_table(tmp_path / "e.csv", tmp_path / "e.html", "Empty", assets=ASSETS)
    assert "no rows in this study" in (tmp_path / "e.html").read_text()


def test_rows_that_have_only_a_reason_are_told_once_below(tmp_path: Path) -> None:
    """Seen failing: in a study without controls the page of effects was 72 rows of "not identifiable"."""
    rows: list[dict[str, object]] = [
        {"effect": "graphs", "metric": "ttft", "prompt_length": n, "ratio": 0.5, "reason": ""} for n in (0, 10)
    ]
    rows += [
        {**row, "effect": name, "ratio": None, "reason": "x is not there"} for name in ("jit", "both") for row in rows
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "effects.csv", index=False)
    render_table(tmp_path / "effects.csv", tmp_path / "a.html", "Effects", assets=ASSETS)
    html = (tmp_path / "a.html").read_text()
    assert html.count("<tr>") == 3
    assert html.count("<p>No figure for jit, both: x is not there.</p>") == 1
    pd.DataFrame(rows[2:]).to_csv(tmp_path / "effects.csv", index=False)
    render_table(tmp_path / "effects.csv", tmp_path / "a.html", "Effects", assets=ASSETS)
    assert "<table" not in (tmp_path / "a.html").read_text()


def test_columns_without_a_value_are_named_below_and_not_shown(tmp_path: Path) -> None:
    study = make_study(tmp_path / "study", requests=3)
    render_table(study.summary, tmp_path / "t.html", "Summary", assets=ASSETS)
    html = (tmp_path / "t.html").read_text()
    head = html[html.rindex("<thead>") : html.rindex("</thead>")]
    assert "Device memory over idle, GiB" not in head
    assert re.search(r"Without a value in this study: [^<]*Device memory over idle, GiB", html)
    assert head.index("Reason") > head.index("TTFT mean")


def test_the_columns_that_decide_are_in_sight_by_speed_and_the_rest_is_folded(tmp_path: Path) -> None:
    """Seen failing: all columns in one table that is three screens wide, in the order of the config."""
    study = make_study(tmp_path / "study", ON_A_GPU, requests=3)
    render_table(study.summary, tmp_path / "t.html", "Summary", assets=ASSETS)
    sight, folded = (tmp_path / "t.html").read_text().split("<details>")
    headings = re.findall(r'<th scope="col"[^>]*><button type="button">(.*?)</button>', sight)
    assert headings == [
        "Approach", "Speedup, TTFT", "TTFT mean, ms", "Request mean ITL, ms", "Floor / TTFT", "Floor / ITL",
        "In doubt",
    ]  # fmt: skip
    rows = re.findall(r'<th scope="row">(.*?)</th>', sight)
    assert rows[0] == 'compiled_graph <span class="badge lowest-TTFT">lowest TTFT</span>'
    assert "baseline" in rows[-1] and "Source lines" in folded


def test_the_approach_null_is_no_gap(tmp_path: Path) -> None:
    """Seen failing: pandas' defaults read `null` as NaN, and the row had no name."""
    (tmp_path / "instrument.csv").write_text("approach,status,first_token_us\nnull,measured,0.5\nnull_2p,measured,\n")
    render_table(tmp_path / "instrument.csv", tmp_path / "i.html", "Instrument", assets=ASSETS)
    assert '<th scope="row">null <span' in (tmp_path / "i.html").read_text()


def test_an_interval_right_behind_its_value_joins_it(tmp_path: Path) -> None:
    study = make_study(tmp_path / "study", requests=3)
    render_table(study.claims, tmp_path / "c.html", "Claims", assets=ASSETS)
    html = (tmp_path / "c.html").read_text()
    assert "1.90 <small>1.71 to 2.09</small>" in html
    assert '<span class="badge contradicts-its-own-source">contradicts its own source</span>' in html


def test_the_verdict_stands_beside_what_it_is_about_and_ids_stand_last(tmp_path: Path) -> None:
    study = make_study(tmp_path / "study", requests=3)
    render_table(study.claims, tmp_path / "c.html", "Claims", assets=ASSETS)
    html = (tmp_path / "c.html").read_text()
    headings = re.findall(r'<th scope="col"[^>]*><button type="button">(.*?)</button>', html)
    assert headings[:2] == ["Claim", "Verdict"] and headings[-3:] == ["Publication", "Source", "Id"]


def test_a_row_about_all_lengths_says_so() -> None:
    data = pd.DataFrame({"approach": ["a", "b", "c"], "prompt_length": [0.0, None, 10.0], "status": ["emulated"] * 3})
    html = html_table(data, "t")
    assert html.count(">all</td>") == 2 and ">10</td>" in html
    assert html.count('<span class="badge emulated">') == 3 and "Status" not in html


def test_a_status_belongs_to_the_approach_wherever_its_column_is() -> None:
    html = html_table(pd.DataFrame({"panel": ["TTFT"], "approach": ["a"], "status": ["emulated"]}), "t")
    assert '<th scope="row">TTFT</th><td>a <span class="badge emulated">' in html
