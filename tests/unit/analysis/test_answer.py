"""The three sentences, for every combination of statuses, and the table for the terminal."""

import re
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from firsttoken.analysis.answer import NO_GPU, Setting, sentences, summary_table_text, write_answer
from firsttoken.analysis.processes import ProcessTable
from firsttoken.analysis.schemas import read_table, write_table
from firsttoken.report.documents import read_answer
from fixtures_samples import Known, Study, Table, analyse, make_study


def answered(study: Study) -> list[str]:
    write_answer(study.tables(), study.root / "answer.txt")
    return read_answer(study.root / "answer.txt")


def made(root: Path, approaches: dict[str, Known], **options: object) -> list[str]:
    return answered(analyse(make_study(root, approaches, **({"requests": 20} | options))))  # type: ignore[arg-type]


def test_a_clear_winner(tmp_path: Path) -> None:
    who, how, meaning = made(tmp_path, {"baseline": Known(28.0), "jit_only": Known(20.0), "jit_cuda": Known(10.0)})
    assert who.startswith("jit_cuda had the lowest mean TTFT for tiny-llama with random weights on NVIDIA H200: 11")
    assert how.startswith("The TTFT of jit_only, the next, was 1.9") and "95 % interval" in how
    assert "every other ranked approach had a longer" in how and "lowest TTFT at 2 of 2 prompt lengths" in how
    assert "instead of 29" in meaning and "ms" in meaning


def test_prompt_lengths_are_counted_only_where_there_are_several(tmp_path: Path) -> None:
    how = made(tmp_path, {"baseline": Known(28.0), "jit_cuda": Known(10.0)}, lengths=(10,))[1]
    assert how.startswith("The TTFT of baseline, the next, was ") and "prompt length" not in how and how.endswith(").")


def test_no_winner_is_claimed_where_none_is_shown(tmp_path: Path) -> None:
    close = {name: Known(20.0, process_sd=0.2) for name in ("baseline", "jit_cuda")}
    who, how, meaning = made(tmp_path, close | {"jit_only": Known(90.0)})
    winner, _, rest = who.partition(" had the lowest mean TTFT")
    (other,) = close.keys() - {winner}
    assert rest.endswith(f" Its difference from {other} is not certain."), "that from jit_only is"
    assert "no difference is shown" in how
    assert "no difference shown from" in meaning


def test_too_few_processes_are_said(tmp_path: Path) -> None:
    who, how, meaning = made(tmp_path, {"baseline": Known(28.0), "jit_cuda": Known(10.0)}, repeats=3)
    assert "does not show that jit_cuda gives the first token sooner" in meaning and "instead of" not in meaning
    assert "is not certain" in who and "too few processes (3)" in how


def test_a_baseline_that_wins(tmp_path: Path) -> None:
    who, _, meaning = made(tmp_path, {"baseline": Known(10.0), "jit_only": Known(20.0)})
    assert who.startswith("baseline had") and "no other ranked approach is sooner" in meaning


def test_the_fastest_gap_may_be_another_ones(tmp_path: Path) -> None:
    known = {"baseline": Known(28.0, itl_ms=2.0), "jit_cuda": Known(10.0, itl_ms=4.0)}
    assert "the next tokens were fastest with baseline (2" in made(tmp_path, known)[2]


def test_without_a_gpu_that_comes_first(tmp_path: Path) -> None:
    known = {"baseline": Known(28.0), "cuda_graph": Known(1.0, status="emulated", reason="no CUDA device")}
    who, how, meaning = made(tmp_path, known, gpu=None)
    assert who.startswith(NO_GPU) and "baseline is the only approach that is ranked" in who
    assert "no second approach" in how
    assert "not ranked: cuda_graph is emulated" in meaning and "only a study on a GPU" in meaning


def test_a_control_cannot_win(tmp_path: Path) -> None:
    who, *_ = made(tmp_path, {"baseline": Known(28.0), "jit_only": Known(20.0), "eager_loop": Known(5.0)})
    assert who.startswith("jit_only had")


def test_what_is_not_ranked_and_faster_is_named(tmp_path: Path) -> None:
    """Seen failing: "every other approach had a longer TTFT" beside a control that had a shorter one."""
    known = {
        "baseline": Known(28.0, itl_ms=2.0),
        "eager_loop": Known(9.0, itl_ms=1.0),
        "compiled_graph_int8": Known(7.0, itl_ms=3.0, status="approximate"),
    }
    who, _, meaning = made(tmp_path / "one", known)
    assert who.startswith("baseline is the only approach that is ranked")
    assert re.search(r"Lower, but not ranked: compiled_graph_int8 \(approximate, .*eager_loop \(control, ", who)
    assert "nothing else is ranked" in meaning and re.search(r"not ranked: eager_loop \(control, 1", meaning)
    who, how, _ = made(tmp_path / "two", {"jit_only": Known(20.0), **known})
    assert who.startswith("jit_only had the lowest mean TTFT of the ranked approaches")
    assert "jit_only had the lowest TTFT of the ranked approaches at 2 of 2 prompt lengths" in how


def test_an_approximate_approach_alone_is_not_ranked(tmp_path: Path) -> None:
    who, what, where = made(tmp_path / "one", {"compiled_graph_int8": Known(status="approximate")})
    assert who.startswith("No approach can be ranked") and what.endswith(": compiled_graph_int8 is approximate.")
    assert "the summary table has the reasons" in where
    what = made(tmp_path / "two", {"compiled_graph_int8": Known(status="approximate", tainted=1.0)})[1]
    assert "compiled_graph_int8 has no process with untainted requests" in what


def test_a_tie_at_a_prompt_length_is_no_win(every_approach: Study) -> None:
    """Seen failing: of two equal means the one whose name comes first was the lowest."""
    tables = every_approach.tables()
    lengths = tables.by_length.assign(ttft_mean_ms=5.0)
    table, about = tables.summary.assign(ttft_mean_ms=5.0), Setting("a model", "a machine", True)
    how = sentences(table, lengths, ProcessTable(tables.statistics), about)[1]
    assert re.search(r" had the lowest TTFT.* at 0 of 2 prompt lengths", how)


def test_a_tie_with_the_baseline_is_one_in_every_sentence(tmp_path: Path) -> None:
    """Seen failing: "no approach has a lower TTFT" after "no difference is shown"."""
    close = {"baseline": Known(19.0, process_sd=0.2), "jit_cuda": Known(20.0, process_sd=0.2)}
    who, how, meaning = made(tmp_path, close)
    assert who.startswith("baseline had") and "no difference is shown;" in how
    assert "no difference between plain eager execution and jit_cuda is shown" in meaning


def test_an_approach_without_untainted_requests_is_named(every_approach: Study) -> None:
    """Seen failing: it was named nowhere; without the baseline's there was "no baseline"."""
    tables = every_approach.tables()
    summary, lengths, processes = tables.summary, tables.by_length, tables.statistics
    about = Setting("a model", "a machine", True)
    for lost in ("jit_cuda", "baseline"):
        table, kept = summary.copy(), processes[processes["approach"] != lost]
        table.loc[table["approach"] == lost, ["ttft_mean_ms", "itl_request_mean_ms", "speedup_ttft"]] = np.nan
        found = sentences(table, lengths[lengths["approach"] != lost], ProcessTable(kept), about)
        assert f"not ranked: {lost} has no process with untainted requests at every prompt length" in found[2]


def test_processes_are_counted_as_the_interval_counts_them(every_approach: Study) -> None:
    """Seen failing: five, where one of them had lost a prompt length."""
    tables = every_approach.tables()
    summary, lengths, processes = tables.summary, tables.by_length, tables.statistics
    about = Setting("a model", "a machine", True)
    lost = (processes["approach"] == "jit_only") & (processes["repeat"] == 2) & (processes["prompt_length"] == 10)
    assert "too few processes (4)" in sentences(summary, lengths, ProcessTable(processes[~lost]), about)[1]
    apart = (processes["approach"] == "jit_only") == (processes["repeat"] <= 2)
    assert "no repeat in common" in sentences(summary, lengths, ProcessTable(processes[apart]), about)[1]


def test_a_sentence_says_that_its_number_is_in_doubt(every_approach: Study) -> None:
    tables = every_approach.tables()
    summary, lengths, processes = tables.summary, tables.by_length, tables.statistics
    about = Setting("a model", "a machine", True)
    assert not any("In doubt" in text for text in sentences(summary, lengths, ProcessTable(processes), about))
    for name, place in (("jit_cuda", 0), ("jit_only", 1), ("baseline", 2)):
        doubted = lengths.assign(ttft_doubts=np.where(lengths["approach"] == name, "drift over the repeats", ""))
        found = sentences(summary, doubted, ProcessTable(processes), about)
        expected = f" In doubt: TTFT of {name} at 10, 100 tokens: drift over the repeats."
        assert [expected in text for text in found] == [each == place for each in range(3)], name
    doubted = lengths.assign(
        itl_request_mean_doubts=np.where(lengths["approach"] == "baseline", "drift over the repeats", "")
    )
    assert sum("In doubt" in text for text in sentences(summary, doubted, ProcessTable(processes), about)) == 1


def test_the_terminal_table_marks_what_is_in_doubt(every_approach: Study, tmp_path: Path) -> None:
    summary = read_table(every_approach.table("summary"), "summary")
    summary["doubts"] = np.where(summary["approach"] == "jit_only", "drift over the repeats (TTFT); " * 8, "")
    summary["p99_doubts"] = np.where(
        summary["approach"] == "jit_cuda", "correlated requests (TTFT)", "rare stalls (token gap)"
    )
    write_table(summary, "summary", tmp_path / "summary.csv")
    lines = summary_table_text(read_table(tmp_path / "summary.csv", "summary")).splitlines()
    assert {line.split()[0] for line in lines if line.split()[1:2] == ["?"]} == {"jit_only"}
    assert {line.split()[0] for line in lines if re.search(r" (-|[\d.]+) \? ", line)} == {"jit_cuda"}, "on its P99"
    assert "? jit_only in doubt: drift over the repeats (TTFT);" in "\n".join(lines)
    assert "? P99 in doubt: correlated requests (jit_cuda)" in lines, "the P99 of token gaps is not in this table"
    assert all(len(line) <= 120 for line in lines)


ORDERED = ["jit_cuda", "jit_only", "baseline"]  # fastest first


@pytest.mark.parametrize("gpu", [True, False])
def test_every_combination_of_statuses(every_approach: Study, gpu: bool) -> None:
    """125 studies: three sentences each, the winner is the fastest measured one, and nothing unmeasured wins."""
    study = every_approach.tables()
    tables = [study.summary, study.by_length, study.statistics]
    about = Setting("a model", "a machine", gpu)
    first = "" if gpu else f"{NO_GPU}: "
    for statuses in product(("measured", "emulated", "approximate", "unavailable", "failed"), repeat=len(ORDERED)):
        status = dict(zip(ORDERED, statuses, strict=True))
        summary, lengths, processes = with_statuses(tables, status)
        found = sentences(summary, lengths, ProcessTable(processes), about)
        assert len(found) == 3 and all(text.endswith(".") and "nan" not in text for text in found), status
        winner = next((name for name in ORDERED if status[name] == "measured"), None)
        if winner is None:
            assert found[0].startswith(first) and "o approach can be ranked" in found[0], found
        else:
            assert found[0].startswith(f"{first}{winner} "), found
        for name in ORDERED:
            if status[name] != "measured":
                assert f"{name} is {status[name]}" in " ".join(found[1:]), found


def with_statuses(tables: list[Table], status: dict[str, str]) -> list[Table]:
    """The tables as if the approaches had come out like this."""
    gone = [name for name, value in status.items() if value in ("unavailable", "failed")]
    changed = [table.copy() for table in tables]
    for table in changed[:2]:
        table["status"] = table["approach"].map(status)
        numbers = [name for name in table if pd.api.types.is_float_dtype(table[name]) and "floor_" not in str(name)]
        table.loc[table["approach"].isin(gone), numbers] = float("nan")
        if "baseline" in gone:
            table[[name for name in table if str(name).startswith("speedup")]] = float("nan")
    changed[2] = changed[2][~changed[2]["approach"].isin(gone)]
    return changed


def test_the_terminal_table_names_status_and_reason(tmp_path: Path) -> None:
    known = {
        "baseline": Known(28.0),
        "cuda_graph": Known(9.0, status="emulated", reason="no CUDA device"),
        "tensorrt_llm": Known(status="unavailable", reason="no engine"),
        "eager_loop": Known(20.0),
    }
    study = analyse(make_study(tmp_path, known, requests=10))
    lines = summary_table_text(study.tables().summary).splitlines()
    rows = {line.split()[0]: line for line in lines}
    assert "emulated" in rows["cuda_graph"] and "unavailable" in rows["tensorrt_llm"]
    assert rows["eager_loop"].startswith("eager_loop (control)")
    assert re.search(r" 14%, 6\d% ", rows["baseline"]), "4 ms of 28.9 ms, 3 ms of 5 ms: the shares of the floor"
    assert lines[6].startswith("*: lowest TTFT; floor %: the floor (of one run) in percent of the median")
    assert "tensorrt_llm: no engine" in lines and "cuda_graph: no CUDA device" in lines
    assert all(len(line) <= 120 for line in lines) and "nan" not in "".join(lines)
    said = answered(study)
    assert (study.root / "answer.txt").read_text().splitlines() == [*lines, "", *said]
