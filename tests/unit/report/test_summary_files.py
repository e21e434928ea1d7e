"""The summary to paste: one Markdown table by speed; JSON in which a gap is null."""

from __future__ import annotations

import json
from pathlib import Path

from fakes.study_files import ANSWER, ON_A_GPU, make_study
from firsttoken.report.conditions import read_conditions
from firsttoken.report.summary_files import write_markdown, write_summary_json

WORKLOAD = {"prompt_lengths": [10, 50], "new_tokens": 4, "requests": 20, "repeats": 5}


def test_markdown_has_the_machine_one_table_by_speed_and_the_settings(tmp_path: Path) -> None:
    study = make_study(tmp_path / "study", ON_A_GPU | {"jit_only": "unavailable"}, requests=3)
    conditions = read_conditions(study.environment, study.manifest, WORKLOAD, "float16")
    write_markdown(study.summary, conditions, tmp_path / "s.md")
    machine, _, heading, _, *rows, _, settings = (tmp_path / "s.md").read_text().splitlines()
    assert machine.startswith("NVIDIA H200 (140 GiB, driver 575.1)") and "commit 00000000" in machine
    assert heading.startswith("| Approach | Status | Speedup | TTFT, ms | Next token, ms | Floor / TTFT |")
    assert rows[0].startswith("| compiled_graph (lowest TTFT) | measured | ")
    assert rows[-1].startswith("| jit_only | unavailable | – |") and len(rows) == 6
    assert {row.count("|") for row in [heading, *rows]} == {11}
    assert "float16" in settings and "4 greedy tokens" in settings


def test_json_has_the_answer_and_every_column(tmp_path: Path) -> None:
    study = make_study(tmp_path / "study", ON_A_GPU, requests=3)
    conditions = read_conditions(study.environment, study.manifest, WORKLOAD, "float16")
    write_summary_json(study.answer, study.summary, conditions, tmp_path / "s.json")
    found = json.loads((tmp_path / "s.json").read_text(), parse_constant=lambda name: f"{name} is no JSON")
    assert found["answer"] == list(ANSWER)
    first = found["approaches"][0]
    assert first["approach"] == "compiled_graph" and first["source_lines"] == 210
    assert first["device_allocated_gib"] is None and first["control"] is False
