"""The published study as a file: its claims are all there, its contradictions are found, a wrong file is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fakes.claim_studies import PUBLISHED, invented
from firsttoken.analysis.published import read_published, source_verdict


def test_the_source_contradicts_itself_where_it_does() -> None:
    published = read_published(PUBLISHED)
    found = {claim.id: source_verdict(claim, published)[0] for claim in published.claims}
    contradicted = {name for name, verdict in found.items() if verdict == "contradicts its own source"}
    assert contradicted == {"speedup_4_48", "speedup_4_48_p99", "p99_order"}
    claims = {claim.id: claim for claim in published.claims}
    assert "1.79" in source_verdict(claims["speedup_4_48"], published)[1]
    assert "1.34" in source_verdict(claims["speedup_4_48_p99"], published)[1]
    assert found["ttft_order"] == found["memory_order"] == "follows from its source"
    assert found["reduction_66"] == found["ipc_scales"] == "its source gives no figure"


def test_the_published_claims_are_all_there() -> None:
    published = read_published(PUBLISHED)
    assert len(published.tables) == 2 and all(len(table.rows) == 5 for table in published.tables)
    insights = [re.findall(r"key insight (\d)", claim.source) for claim in published.claims]
    assert {number for found in insights for number in found} == {"1", "2", "3", "4", "5"}
    orders = {claim.metric: claim.groups for claim in published.claims if claim.id.endswith("_order")}
    assert orders == {
        metric: _published_order(metric) for metric in ("ttft_mean", "ttft_p99", "memory", "source_lines")
    }
    (reduction,) = (claim for claim in published.claims if claim.source == "abstract")
    assert (reduction.published, reduction.names) == (0.66, ["jit_cuda", "tensorrt_llm"])
    figures = {claim.id: claim.published for claim in published.claims if claim.published is not None}
    rows = published.tables[0].rows
    for name, (slow, fast) in {
        "graphs_alone_struggle": ("cuda_graph", "baseline"),
        "jit_is_crucial": ("cuda_graph", "jit_cuda"),
    }.items():
        assert figures[name] == pytest.approx(rows[slow]["ttft_mean"] / rows[fast]["ttft_mean"], abs=0.006)  # type: ignore[operator]


def _published_order(metric: str) -> list[list[str]]:
    """The approaches of the published table by their figure, those with the same level together."""
    published = read_published(PUBLISHED)
    level = {word: rank for rank, word in enumerate(published.levels)}
    found: dict[float, list[str]] = {}
    for name, row in published.tables[0].rows.items():
        found.setdefault(level.get(row[metric], row[metric]), []).append(name)  # type: ignore[call-overload]
    return [sorted(found[figure]) for figure in sorted(found)]


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        ({"kind": "guess"}, "Invalid enum value 'guess'"),
        ({"kind": "ratio", "metric": "speed", "operands": ["a", "b"]}, "claim x: metric 'speed'"),
        ({"kind": "ratio", "metric": "ttft_mean", "operands": ["a"]}, "two operands"),
        ({"kind": "ratio", "metric": "ttft_mean", "operands": ["a", "b"]}, "`published` or `threshold`"),
        ({"kind": "ordering", "metric": "ttft_mean", "operands": ["a", "b"]}, "at least two groups"),
        ({"kind": "value", "metric": "ttft_mean", "operands": [], "published": 1}, "one operand"),
        ({"kind": "max_reduction", "metric": "memory", "operands": ["a", "b"], "published": 1}, "by prompt length"),
        ({"kind": "ratio", "wrong": 1}, "unknown field `wrong`"),
    ],
)
def test_a_wrong_file_is_one_clear_line(tmp_path: Path, claim: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=r"other\.yaml") as error:
        read_published(invented(tmp_path, {"id": "x"} | claim))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_ids_are_unique(tmp_path: Path) -> None:
    claim: dict[str, object] = {"id": "x", "kind": "uncaptured"}
    with pytest.raises(ValueError, match="same id: x"):
        read_published(invented(tmp_path, claim, claim))
