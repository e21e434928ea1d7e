"""Each gate is seen to pass, to fail with one line that names all offences, and to leave its evidence."""

import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from firsttoken import files
from firsttoken.analysis.compare import compare_studies
from firsttoken.analysis.gates import GateFailed, gate_equality, gate_floors, gate_regression, gate_status
from firsttoken.results import Ceilings, DatasheetPeak
from fixtures_samples import BOUNDS, Known, Study, analyse, make_study


def refused(gate: Callable[[], None], evidence: Path) -> str:
    before = evidence.read_bytes()
    with pytest.raises(GateFailed) as error:
        gate()
    assert evidence.read_bytes() == before
    text = str(error.value)
    assert "\n" not in text and text.endswith(f"see {evidence}")
    return text


def refused_floors(study: Study) -> str:
    table = study.table("latency_by_length")
    return refused(lambda: gate_floors(table, study.root / "ceilings.json"), table)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Study:
    known = {"baseline": Known(28.0), "jit_cuda": Known(15.0), "jit_only": Known(wrong_by=0.0005)}
    return analyse(make_study(tmp_path_factory.mktemp("good"), known, requests=10))


def test_a_good_study_passes_all(good: Study, tmp_path: Path) -> None:
    gate_floors(good.table("latency_by_length"), good.root / "ceilings.json")
    gate_equality(good.table("equivalence"))
    gate_status(good.table("summary"), good.records, "fail")
    compare_studies(good.root, good.root, BOUNDS, 0.05, tmp_path / "c.csv", tmp_path / "c.json")
    gate_regression(tmp_path / "c.json")


def test_floors(tmp_path: Path) -> None:
    """3.5 ms is under 0.9 of the floor of 4 ms, 3.7 is not; 2.5 ms a token is under 0.9 of 3."""
    known = {"baseline": Known(3.7), "jit_cuda": Known(3.5, per_token_ms=0), "jit_only": Known(20.0, itl_ms=2.5)}
    study = analyse(make_study(tmp_path, known, requests=40))
    text = refused_floors(study)
    assert text.count("median TTFT of jit_cuda 3.") == 2 and "at 10 tokens" in text and "at 100 tokens" in text
    assert text.count("median request mean ITL of jit_only 2.") == 2
    assert "baseline" not in text


@pytest.mark.parametrize(
    ("under", "datasheet", "suspect"),
    [
        (1, None, "the measurement of jit_cuda: 1 of 3 approaches is under the floor, and the device was measured at "
                  "4 TB/s (no datasheet peak is known)"),
        (1, 4.8e12, "the measurement of jit_cuda: 1 of 3 approaches is under the floor, and the device was measured at "
                    "4 TB/s (83% of the datasheet's 4.8)"),
        (1, 8e12, "the ceiling: 1 of 3 approaches is under the floor, and the device was measured at 4 TB/s (50% of"),
        (2, 4.8e12, "the ceiling: 2 of 3 approaches are under the floor"),
    ],
)  # fmt: skip
def test_a_floor_that_is_beaten_says_which_is_more_likely_wrong(
    tmp_path: Path, under: int, datasheet: float | None, suspect: str
) -> None:
    """Several approaches under it, or a ceiling far below the datasheet's peak: the ceiling; one: its measurement."""
    fast, slow = Known(3.0, per_token_ms=0), Known(28.0)
    known = {"baseline": slow, "jit_cuda": fast, "jit_only": fast if under == 2 else slow}
    study = make_study(tmp_path, known, requests=40)
    if datasheet:
        peak = DatasheetPeak(read_bandwidth_bytes_per_s=datasheet, matrix_flops_per_s=1e15, document="d", url="u")
        path = study.root / "ceilings.json"
        files.write_json(path, msgspec.structs.replace(files.read_json(path, Ceilings), datasheet=peak))
    text = refused_floors(analyse(study))
    assert text.count(f"more likely wrong is {suspect}") == 2, "at both prompt lengths"
    if under == 2:
        assert re.search(
            r"TTFT of jit_only \S+ ms \(floor 4 ms\) and jit_cuda \S+ ms \(floor 4 ms\) is under 0.9 of its", text
        )


def test_a_floor_of_8_bit_weights_names_its_own_ceiling(tmp_path: Path) -> None:
    """Seen failing: the bandwidth, which set the model's floor."""
    known = {"baseline": Known(28.0), "compiled_graph_int8": Known(1.0, per_token_ms=0, record={"weight_bits": 8})}
    study = make_study(tmp_path, known, requests=40)
    path = study.root / "ceilings.json"
    found = files.read_json(path, Ceilings)
    int8 = tuple(msgspec.structs.replace(floor, ttft_ms=2.0, ttft_bound="arithmetic") for floor in found.floors)
    files.write_json(path, msgspec.structs.replace(found, floors_int8=int8))
    text = refused_floors(analyse(study))
    assert text.count("median TTFT of compiled_graph_int8") == 2 and "TFLOP/s" in text and "TB/s" not in text


def test_a_median_without_a_floor_does_not_pass(tmp_path: Path) -> None:
    study = make_study(tmp_path, {"baseline": Known()}, requests=40)
    path = study.root / "ceilings.json"
    found = files.read_json(path, Ceilings)
    files.write_json(path, msgspec.structs.replace(found, floors=found.floors[:1]))
    text = refused_floors(analyse(study))
    assert "baseline at 100 tokens: median TTFT has no floor" in text and "at 10 tokens" not in text


def test_single_short_gaps_are_no_offence(tmp_path: Path) -> None:
    """Gaps near zero (chunks, rings) are fine as long as the request's mean is not."""
    study = analyse(make_study(tmp_path, {"baseline": Known(itl_ms=4.0, request_sd=0.5)}, requests=40))
    gate_floors(study.table("latency_by_length"), study.root / "ceilings.json")


def test_equality(tmp_path: Path) -> None:
    known = {"baseline": Known(), "jit_cuda": Known(wrong_by=1.0), "jit_only": Known(wrong_by=1.0)}
    table = analyse(make_study(tmp_path, known, requests=2)).table("equivalence")
    text = refused(lambda: gate_equality(table), table)
    assert (
        "jit_cuda: prompt 10/0, token 2: chose a token" in text
        and "jit_only: prompt 10/0" in text
        and "baseline" not in text
    )


def test_status(tmp_path: Path) -> None:
    known = {"baseline": Known(), "jit_cuda": Known(status="failed", reason="out of memory")}
    study = analyse(make_study(tmp_path, known, requests=2, repeats=2))
    table = study.table("summary")
    text = refused(lambda: gate_status(table, study.records), table)
    assert "jit_cuda is failed: out of memory" in text
    assert f"to try again, delete jit_cuda/1.json, jit_cuda/2.json in {tmp_path}/raw and run again" in text


def test_another_function_is_not_tried_again(tmp_path: Path) -> None:
    study = analyse(make_study(tmp_path, {"baseline": Known(), "jit_cuda": Known(wrong_by=1.0)}, requests=2))
    table = study.table("summary")
    text = refused(lambda: gate_status(table, study.records), table)
    assert "jit_cuda is failed" in text and "try again" not in text


def test_unavailable_only_fails_where_the_study_says_so(tmp_path: Path) -> None:
    known = {"baseline": Known(), "tensorrt_llm": Known(status="unavailable", reason="no engine")}
    study = analyse(make_study(tmp_path, known, requests=2))
    table = study.table("summary")
    gate_status(table, study.records, "record")
    assert "tensorrt_llm is unavailable: no engine" in refused(lambda: gate_status(table, study.records, "fail"), table)


def test_emulated_is_no_offence(tmp_path: Path) -> None:
    known = {"cuda_graph": Known(status="emulated", reason="no CUDA device")}
    study = analyse(make_study(tmp_path, known, requests=2))
    gate_status(study.table("summary"), study.records, "fail")


def test_regression(good: Study, tmp_path: Path) -> None:
    slow = {"baseline": Known(28.0), "jit_cuda": Known(30.0)}
    other = analyse(make_study(tmp_path / "slow", slow, requests=10))
    out = tmp_path / "c.json"
    compare_studies(good.root, other.root, BOUNDS, 0.05, tmp_path / "c.csv", out)
    text = refused(lambda: gate_regression(out), out)
    assert "jit_cuda TTFT mean at 10 tokens takes" in text and "beyond 5%" in text and "baseline" not in text


def test_what_cannot_be_compared_does_not_pass(good: Study, tmp_path: Path) -> None:
    known = {"baseline": Known(28.0), "jit_cuda": Known(15.0)}
    other = analyse(make_study(tmp_path / "cpu", known, requests=10, gpu=None))
    out = tmp_path / "c.json"
    compare_studies(good.root, other.root, BOUNDS, 0.05, tmp_path / "c.csv", out)
    assert "cannot be compared: other device: cuda and cpu" in refused(lambda: gate_regression(out), out)
