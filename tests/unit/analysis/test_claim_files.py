"""Publications as files: their claims are all there, their contradictions are found, a wrong file is told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fakes.claim_studies import ANY, CLAIMS, HYBRID, invented
from firsttoken.analysis.claim_files import Figure, Ordering, Publication, read_publications, source_verdict

FIGURE: dict[str, Any] = {"id": "x", "kind": "figure", "metric": "ttft_mean", "operands": ["a", "b"], "at_least": 1}


@pytest.fixture(scope="module")
def hybrid() -> Publication:
    return read_publications([HYBRID])[0]


def test_the_source_contradicts_itself_where_it_does(hybrid: Publication) -> None:
    found = {
        (claim.id, reading.words): source_verdict(reading, hybrid)
        for claim in hybrid.claims
        for reading in claim.readings
    }
    contradicted = {key for key, (verdict, _) in found.items() if verdict == "contradicts its own source"}
    mean, p99 = "mean TTFT over all prompt lengths", "P99 of TTFT over all prompt lengths"
    assert contradicted == {
        ("speedup_4_48", mean), ("speedup_4_48", p99), ("graphs_alone_struggle", "P99 of TTFT"),
        ("p99_order", "P99 of TTFT"),
    }  # fmt: skip
    assert "1.79" in found["speedup_4_48", mean][1] and "1.34" in found["speedup_4_48", p99][1]
    follows = {claim for (claim, _), (verdict, _) in found.items() if verdict == "follows from its source"}
    assert {"ttft_order", "memory_order", "best_overall", "jit_is_crucial"} <= follows
    silent = {claim for (claim, _), (verdict, _) in found.items() if verdict == "its source gives no figure"}
    assert {"reduction_66", "ipc_scales"} <= silent - follows


def test_the_published_claims_are_all_there(hybrid: Publication) -> None:
    assert len(hybrid.tables) == 2 and all(len(table.rows) == 5 for table in hybrid.tables)
    insights = [re.findall(r"key insight (\d)", claim.source) for claim in hybrid.claims]
    assert {number for found in insights for number in found} == {"1", "2", "3", "4", "5"}
    first = {claim.id: claim.readings[0] for claim in hybrid.claims}
    orders = [reading for name, reading in first.items() if name.endswith("_order") and isinstance(reading, Ordering)]
    assert [reading.metric for reading in orders] == ["ttft_mean", "ttft_p99", "memory", "source_lines"]
    for reading in orders:
        assert reading.operands == _published_order(hybrid, reading.metric)
    published = {claim.id: claim.published for claim in hybrid.claims if claim.published is not None}
    rows = hybrid.tables[0].rows
    for name in ("graphs_alone_struggle", "jit_is_crucial"):
        figure = first[name]
        assert isinstance(figure, Figure)
        slow, fast = (float(rows[operand]["ttft_mean"]) for operand in figure.operands)
        assert published[name] == pytest.approx(slow / fast, abs=0.006)
    assert published["reduction_66"] == pytest.approx(1 / (1 - 0.66), abs=0.006)


def _published_order(hybrid: Publication, metric: Any) -> list[list[str]]:
    """The approaches of the published table by their figure, those with the same level together."""
    found: dict[float, list[str]] = {}
    for name, row in hybrid.tables[0].rows.items():
        found.setdefault(hybrid.rank(row[metric]), []).append(name)
    return [sorted(found[figure]) for figure in sorted(found)]


def test_all_files_that_ship_are_read() -> None:
    publications = read_publications(sorted(CLAIMS.glob("*.yaml")))
    assert len(publications) >= 3
    for publication in publications:
        assert publication.url.startswith("https://") and all(claim.source for claim in publication.claims)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "guess"}, "Invalid value 'guess' - at `$.claims[0].readings[0].kind`"),
        ({"metric": "speed"}, "Invalid enum value 'speed' - at `$.claims[0].readings[0].metric`"),
        ({"operands": ["a", "b", "c"]}, "length <= 2 - at `$.claims[0].readings[0].operands`"),
        ({"at_least": "much"}, "Expected `float`, got `str` - at `$.claims[0].readings[0].at_least`"),
        ({"wrong": 1}, "unknown field `wrong` - at `$.claims[0].readings[0]`"),
        ({"kind": "ordering"}, "at `$.claims[0].readings[0]"),
        ({"readings": []}, "length >= 1 - at `$.claims[0].readings`"),
        ({"at_least": -float("inf")}, "claim x, reading 'as it stands': found no limit"),
        ({"operands": ["a"], "margin": 0.1}, "found margin with one operand"),
        ({"at_most": 0.5}, "found at_least above at_most"),
        ({"kind": "ordering", "operands": [["a"], ["b", "a"]], "at_least": -float("inf")}, "found an approach twice"),
        ({"kind": "ordering", "operands": [["a"], ["b"]]}, "found at_least or at_most, which an ordering has not"),
        ({"margin": -1}, "Expected `float` >= 0.0 - at `$.claims[0].readings[0].margin`"),
        ({"lengths": [0]}, "Expected `int` >= 1 - at `$.claims[0].readings[0].lengths[0]`"),
        ({"claimed_for": "me"}, "Invalid enum value 'me' - at `$.claims[0].claimed_for`"),
    ],
)
def test_a_wrong_file_is_one_clear_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    read_publications([invented(tmp_path, FIGURE)])
    with pytest.raises(ValueError, match=r"other\.yaml: .*; config/claims/README\.md describes every key") as error:
        read_publications([invented(tmp_path, FIGURE | change)])
    assert message in str(error.value) and "\n" not in str(error.value)


def test_wrong_tables_and_no_file_are_one_clear_line(tmp_path: Path) -> None:
    table = {"source": "page 2", "rows": {"a": {"memory": "Huge"}}}
    with pytest.raises(ValueError, match="found 'Huge' in tables, must be a number or one of levels"):
        read_publications([invented(tmp_path, FIGURE, tables=[table])])
    with pytest.raises(ValueError, match=r"none\.yaml: No such file"):
        read_publications([tmp_path / "none.yaml"])
    (tmp_path / "broken.yaml").write_text("claims: [")
    with pytest.raises(ValueError, match=r"broken\.yaml"):
        read_publications([tmp_path / "broken.yaml"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"url": "javascript:alert(1)"}, "at `$.url`"),
        ({"claims": []}, "length >= 1 - at `$.claims`"),
        ({"name": "x" * 501}, "length <= 500 - at `$.name`"),
        ({"conditions": ANY | {"parameters": [7, 6]}}, "found the range 7 to 6; write the lower end first"),
    ],
)
def test_a_wrong_publication_is_one_clear_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        read_publications([invented(tmp_path, FIGURE, **change)])


def test_a_claim_about_no_approach_can_never_be_judged(tmp_path: Path) -> None:
    path = invented(tmp_path, FIGURE)
    read_publications([path], ["a", "b"])
    with pytest.raises(ValueError, match="claim x, reading 'as it stands': found 'b', which is no approach"):
        read_publications([path], ["a"])


def test_ids_are_unique_over_all_files(tmp_path: Path) -> None:
    path = invented(tmp_path, FIGURE)
    for paths in ([path, path], [invented(tmp_path, FIGURE, FIGURE)]):
        with pytest.raises(ValueError, match="claim x: the same id stands in"):
            read_publications(paths)
