"""The summary to paste: one Markdown table by speed; JSON in which a gap is null."""

from __future__ import annotations

import json
import re
from pathlib import Path

from fakes.study_files import ANSWER, ON_A_GPU, make_study
from firsttoken.report.conditions import read_conditions
from firsttoken.report.summary_files import write_markdown, write_summary_json

WORKLOAD = {"prompt_lengths": [10, 50], "new_tokens": 4, "requests": 20, "repeats": 5}


def test_markdown_has_the_machine_one_table_by_speed_and_the_settings(tmp_path: Path) -> None:
    study = make_study(tmp_path / "study", ON_A_GPU | {"jit_only": "unavailable"}, requests=3)
    conditions = read_conditions(study.environment, study.manifest, WORKLOAD, "float16")
    write_markdown(study.summary, conditions, tmp_path / "s.md")
    machine, table, said, settings = (tmp_path / "s.md").read_text().removesuffix("\n").split("\n\n")
    heading, _, *rows = table.splitlines()
    assert machine.startswith("NVIDIA H200 (140 GiB, driver 575.1)") and "commit 00000000" in machine
    assert heading.startswith("| Approach | Status | Speedup | TTFT, ms | Next token, ms | Floor / TTFT |")
    assert re.match(r"\| compiled_graph \(lowest TTFT\)( \(in doubt\))? \| measured \| ", rows[0])
    doubted = [re.match(r"\| (\w+) .*\(in doubt\) \|", row) for row in rows]
    marked = {found[1] for found in doubted if found}
    assert marked == set(re.findall(r"^- (\w+) in doubt: .+\.$", said, re.MULTILINE))
    assert marked, "seen to be told by the terminal alone"
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
