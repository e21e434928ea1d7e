"""Every figure: drawn from any mix of statuses, honest in its words, with its data beside it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fakes.study_files import EMBEDDED, ON_A_GPU, ORDER, StudyFiles, make_study
from firsttoken.analysis.figures import latency_ecdf, token_time
from firsttoken.analysis.figures.base import FigureInputs, plot
from firsttoken.analysis.figures.palette import looks as looks_of
from firsttoken.analysis.figures.style import spread

FIGURES = (
    "ttft_by_length", "latency_ecdf", "memory", "setup_time", "run_order", "token_time", "speedup", "break_even",
)  # fmt: skip


@pytest.fixture(scope="session")
def studies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, StudyFiles]:
    folder = tmp_path_factory.mktemp("studies")
    failed = EMBEDDED | {"jit_only": "failed"}
    return {
        "embedded": make_study(folder / "embedded"),
        "gpu": make_study(folder / "gpu", ON_A_GPU | {"somebody_elses": "measured"}),
        "few": make_study(folder / "few", repeats=2, requests=3),
        "failed": make_study(folder / "failed", failed),
        "nothing": make_study(folder / "nothing", dict.fromkeys(ORDER, "unavailable")),
    }


def drawn(name: str, study: StudyFiles, folder: Path) -> tuple[str, pd.DataFrame]:
    """All text of the figure, its alternative text included, and the data beside it."""
    svg, csv = folder / "figure.svg", folder / "figure.csv"
    plot(name, study.figure_inputs(name), svg, csv)
    words = " ".join(ET.parse(svg).getroot().itertext()).split()
    return " ".join(words), pd.read_csv(csv)


@pytest.mark.parametrize("name", FIGURES)
def test_emulated_figures_say_so_and_absent_ones_are_named(
    name: str, studies: dict[str, StudyFiles], tmp_path: Path
) -> None:
    words, data = drawn(name, studies["embedded"], tmp_path)
    assert "jit_cuda (emulated)" in words
    assert "baseline (emulated)" not in words
    assert "tensorrt_llm (unavailable: the reason why tensorrt_llm is unavailable)" in words
    assert "tensorrt_llm" not in set(data["approach"])
    assert not data.empty
    assert set(data.loc[data["approach"] == "jit_cuda", "status"]) == {"emulated"}


@pytest.mark.parametrize("name", FIGURES)
def test_measured_figures_do_not_speak_of_emulation(name: str, studies: dict[str, StudyFiles], tmp_path: Path) -> None:
    words, data = drawn(name, studies["gpu"], tmp_path)
    assert "mulated" not in words
    assert "somebody_elses" in set(data["approach"])


@pytest.mark.parametrize("name", FIGURES)
def test_the_latency_of_a_failed_approach_is_not_shown(
    name: str, studies: dict[str, StudyFiles], tmp_path: Path
) -> None:
    words, data = drawn(name, studies["failed"], tmp_path)
    assert "jit_only" not in set(data["approach"])
    assert "jit_only (failed" in words


def test_one_figure_names_the_floor_and_its_share(studies: dict[str, StudyFiles], tmp_path: Path) -> None:
    name = "ttft_by_length"
    words, _ = drawn(name, studies["embedded"], tmp_path)
    assert "Floor of this device (one run), mean over prompt lengths: 1.03 ms TTFT, 0.5 ms ITL" in words
    assert "floor / median: baseline 30 % and 20 %, cuda_graph (emulated) 30 % and 20 %" in words
    summary = pd.read_csv(studies["embedded"].summary)
    summary.loc[0, ["floor_ttft_ms", "floor_itl_ms"]] /= 2  # as with 8-bit weights; seen to be the device's floor
    summary.to_csv(tmp_path / "summary.csv", index=False)
    words, _ = drawn(name, replace(studies["embedded"], summary=tmp_path / "summary.csv"), tmp_path)
    assert "prompt lengths: 1.03 ms TTFT, 0.5 ms ITL" in words
    summary[["floor_ttft_ms", "floor_itl_ms", "ttft_share_of_floor", "itl_share_of_floor"]] = None
    summary.to_csv(tmp_path / "summary.csv", index=False)
    words, _ = drawn(name, replace(studies["embedded"], summary=tmp_path / "summary.csv"), tmp_path)
    assert "No floor: the ceilings of this device were not measured." in words


@pytest.mark.parametrize("name", FIGURES)
def test_without_data_the_figure_says_so_in_words(name: str, studies: dict[str, StudyFiles], tmp_path: Path) -> None:
    words, data = drawn(name, studies["nothing"], tmp_path)
    assert data.empty
    assert "No " in words


@pytest.mark.parametrize("name", ["ttft_by_length", "speedup"])
def test_too_few_processes_are_named(name: str, studies: dict[str, StudyFiles], tmp_path: Path) -> None:
    words, _ = drawn(name, studies["few"], tmp_path)
    assert "No intervals: " in words and "too few" in words


@pytest.mark.parametrize("name", FIGURES)
def test_same_data_same_bytes_and_a_title_for_screen_readers(
    name: str, studies: dict[str, StudyFiles], tmp_path: Path
) -> None:
    (tmp_path / "again").mkdir()
    drawn(name, studies["embedded"], tmp_path)
    drawn(name, studies["embedded"], tmp_path / "again")
    svg = (tmp_path / "figure.svg").read_bytes()
    assert svg == (tmp_path / "again/figure.svg").read_bytes()
    assert b'role="img"' in svg and b"<title>" in svg and b"<desc>" in svg
    assert len(svg) < 400_000


@pytest.mark.parametrize("name", FIGURES)
def test_no_legend_is_cut_off(
    name: str, studies: dict[str, StudyFiles], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen failing: seven entries in one row under the title of the set-up times."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *arguments: Any, **options: Any) -> None:
        figures.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    drawn(name, studies["gpu"], tmp_path)
    for figure in figures:
        renderer: Any = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
        for legend in [*figure.legends, *(axes.get_legend() for axes in figure.axes)]:
            if legend is not None:
                box = legend.get_window_extent(renderer)
                assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1


def test_ecdf_marks_a_p99_of_368_samples_and_none_of_fewer(studies: dict[str, StudyFiles], tmp_path: Path) -> None:
    found = latency_ecdf.draw(studies["embedded"].figure_inputs("latency_ecdf"))
    for axes, (panel, rows) in zip(found.figure.axes, found.data.groupby("panel", sort=False), strict=True):
        marked = sum(line.get_linestyle() == "None" for line in axes.get_lines())
        sizes = rows.groupby("approach")["n"].first()
        assert marked == (sizes >= 368).sum(), panel
    sizes = found.data.groupby(["panel", "approach"])["n"].first()
    assert (sizes < 368).any() and (sizes > 100).any(), "some have a P99 and some have not"


@pytest.mark.parametrize("name", ["ttft_by_length", "speedup"])
def test_what_is_in_doubt_is_named(name: str, studies: dict[str, StudyFiles], tmp_path: Path) -> None:
    words, _ = drawn(name, studies["embedded"], tmp_path)
    assert "In doubt, with the reasons in the summary table: baseline." in words


def test_ecdf_shows_quantiles_of_untainted_samples_only(studies: dict[str, StudyFiles], tmp_path: Path) -> None:
    study = studies["embedded"]
    words, data = drawn("latency_ecdf", study, tmp_path)
    samples = pd.read_parquet(study.samples)
    wanted = samples[
        (samples["approach"] == "baseline") & (samples["prompt_length"] == 10) & (samples["token_index"] == 0)
    ]
    wanted = wanted[~wanted["tainted"]]
    curve = data[(data["approach"] == "baseline") & (data["panel"] == "TTFT, 10 prompt tokens")].set_index("share")
    assert curve["latency_ms"].loc[0.5] == pytest.approx(wanted["latency_ns"].median() / 1e6, rel=1e-4)
    assert curve["n"].iloc[0] == len(wanted)
    assert "P99" in words
    p99 = np.quantile(wanted["latency_ns"], 0.99, method="median_unbiased") / 1e6
    assert curve["latency_ms"].loc[0.99] == pytest.approx(p99, rel=1e-4), "as in the tables"


def test_the_parts_of_a_tokens_time_and_the_rest_make_up_its_latency(
    studies: dict[str, StudyFiles], tmp_path: Path
) -> None:
    study = studies["gpu"]
    words, data = drawn("token_time", study, tmp_path)
    samples = pd.read_parquet(study.samples)
    first = samples[(samples["approach"] == "jit_cuda") & (samples["token_index"] == 0) & ~samples["tainted"]]
    row = data[(data["approach"] == "jit_cuda") & (data["token"] == "first token")].iloc[0]
    assert row["device_ms"] == pytest.approx(first["device_ns"].astype(float).mean() / 1e6, rel=1e-4)
    assert row["latency_ms"] == pytest.approx(first["latency_ns"].mean() / 1e6, rel=1e-4)
    tracks = token_time._tracks(row.to_dict())
    assert list(tracks) == ["host", "device"], "they overlap, so they are not stacked"
    assert [sum(widths.values()) for widths in tracks.values()] == pytest.approx([row["latency_ms"]] * 2, rel=1e-3)
    assert f"{row['device_ms']:#.3g}" in words, "wide parts carry their number"
    silent = data[(data["approach"] == "baseline") & (data["token"] == "first token")].iloc[0]
    assert token_time._tracks(silent.to_dict()) == {"": {token_time.REST: silent["latency_ms"]}}
    assert "Gives no split: baseline" in words


@pytest.mark.parametrize(
    ("wanted", "placed"),
    [
        ([0.1, 0.5, 0.9], [0.1, 0.5, 0.9]),
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.3, 0.38, 0.4], [0.26, 0.36, 0.46]),
        ([1.0, 1.0, 1.0], [0.82, 0.92, 1.02]),
    ],
)
def test_names_that_would_touch_are_moved_apart_around_where_they_belong(
    wanted: list[float], placed: list[float]
) -> None:
    assert spread(wanted, 0.1) == pytest.approx(placed)


def test_tainted_requests_are_in_no_running_median(studies: dict[str, StudyFiles], tmp_path: Path) -> None:
    study = studies["embedded"]
    samples = pd.read_parquet(study.samples)
    slow = (samples["approach"] == "baseline") & (samples["order"] % 5 < 3)  # most of them
    samples["tainted"] = slow
    samples.loc[slow, "latency_ns"] *= 10
    samples.to_parquet(tmp_path / "samples.parquet", index=False)
    _, data = drawn("run_order", replace(study, samples=tmp_path / "samples.parquet"), tmp_path)
    baseline = data[data["approach"] == "baseline"]
    assert baseline["relative"].between(0.7, 1.4).all() and baseline["tainted"].sum() > baseline["n"].sum() / 2
    samples["tainted"] = samples["approach"] == "baseline"
    samples.to_parquet(tmp_path / "samples.parquet", index=False)
    words, data = drawn("run_order", replace(study, samples=tmp_path / "samples.parquet"), tmp_path)
    assert "baseline" not in set(data["approach"]) and "baseline (measured, but no data for this figure)" in words


def test_break_even_counts_the_requests_that_pay_for_the_start(tmp_path: Path) -> None:
    summary = tmp_path / "summary.csv"
    pd.DataFrame(
        {
            "approach": ["baseline", "jit_only", "cuda_graph"],
            "status": "measured",
            "reason": "",
            "doubts": "",
            "ready_s": [2.0, 7.0, 3.0],
            "ttft_mean_ms": [10.0, 5.0, 11.0],
            "itl_request_mean_ms": [5.0, 5.0, 5.0],
        }
    ).to_csv(summary, index=False)
    order = ["baseline", "jit_only", "cuda_graph"]
    inputs = FigureInputs(files=[], summary=summary, order=order, new_tokens=4)
    plot("break_even", inputs, tmp_path / "f.svg", tmp_path / "f.csv")
    data = pd.read_csv(tmp_path / "f.csv").set_index("approach")
    assert data.loc["jit_only", "break_even_requests"] == pytest.approx(1000)  # 5 s owed, 5 ms saved a request
    assert data.loc["cuda_graph", "break_even_requests"] == float("inf")
    drawing = (tmp_path / "f.svg").read_text()
    assert ">cuda_graph: never, not faster<" in drawing and ">jit_only: after 1,000<" in drawing
    plot("break_even", replace(inputs, order=order[::2]), tmp_path / "f.svg", tmp_path / "f.csv")
    assert "By the means, the baseline is never overtaken" in (tmp_path / "f.svg").read_text()


@pytest.mark.parametrize(("study", "column"), [("gpu", "Device memory reserved"), ("embedded", "emulated")])
def test_pool_memory_takes_device_memory_where_there_is_any(
    study: str, column: str, studies: dict[str, StudyFiles], tmp_path: Path
) -> None:
    words, _ = drawn("pool_memory", studies[study], tmp_path)
    assert column in words and "rolling" in words and "unbounded" in words


def test_pool_memory_draws_what_the_driver_counted_as_growth(studies: dict[str, StudyFiles], tmp_path: Path) -> None:
    """Seen failing: the device's whole use, in which some MiB of graphs cannot be seen."""
    pool = tmp_path / "pool_memory.csv"
    rows = pd.read_csv(studies["gpu"].pool)
    rows.assign(device_used_bytes=rows["graph_bytes"] + 15 * 2**30).to_csv(pool, index=False)
    words, _ = drawn("pool_memory", replace(studies["gpu"], pool=pool), tmp_path)
    assert "over the first length" in words and "unbounded +2.29 GiB" in words
    assert " 0.5 " in words, "an axis for 15 GiB would have no such tick"


@pytest.mark.parametrize(("study", "emulated"), [("gpu", False), ("embedded", True)])
def test_pool_misses_tells_the_medians(
    study: str, emulated: bool, studies: dict[str, StudyFiles], tmp_path: Path
) -> None:
    files = studies[study]
    words, data = drawn("pool_misses", files, tmp_path)
    medians = data.groupby("kind")["ttft_ms"].median()
    assert f"{medians['miss']:.3g} ms" in words
    assert ("Emulated" in words) == emulated


def test_launches_are_counted_with_the_share_in_which_the_device_works(
    studies: dict[str, StudyFiles], tmp_path: Path
) -> None:
    words, data = drawn("launches", studies["gpu"], tmp_path)
    assert "eager_loop, host: 20 launches in 0.232 ms" in words
    assert "eager_loop, device: 20 kernels and copies in 0.233 ms, at work for 43 % of it" in words
    assert "cuda_graph_1p, host: 1 launch in 0.007 ms" in words and "at work for 100 % of it" in words
    assert len(data) == 61
    words, data = drawn("launches", studies["embedded"], tmp_path)
    assert "No launches: on a CPU" in words and data.empty


def test_looks_are_distinct_and_do_not_depend_on_the_figure() -> None:
    order = [*ON_A_GPU, "one", "two", "three", "four"]
    looks = looks_of(order)
    assert list(looks) != [] and set(looks) == set(order)
    assert len({look.colour for look in looks.values()}) == len(order)
    assert looks_of(order)["two"] == looks["two"]
    known = [looks[name] for name in ON_A_GPU]
    assert len({(look.marker) for look in known}) == len(known), "markers must tell them apart in black and white"


def test_one_new_token_has_no_next_ones(tmp_path: Path) -> None:
    """Seen failing: an axis up to NaN, after everything was measured."""
    study = make_study(tmp_path / "study", ON_A_GPU, requests=3)
    samples = pd.read_parquet(study.samples)
    samples[samples["token_index"] == 0].to_parquet(study.samples)
    _, data = drawn("token_time", study, tmp_path)
    assert set(data["token"]) == {"first token"}
