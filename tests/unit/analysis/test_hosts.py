"""Studies of several hosts: what is combined, how sure that is, what is refused, and what the words say."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import permutations
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from firsttoken.analysis.finished_study import FinishedStudy, read_study
from firsttoken.analysis.hosts import check_combinable, combine_studies, host_estimate, in_words, over_hosts
from firsttoken.analysis.schemas import read_table
from firsttoken.analysis.statistics import t_interval
from firsttoken.results import Gpu
from fixtures_samples import BOUNDS, H200, Known, Table, analyse, make_study

SPEED = {"a": 0.9, "b": 1.0, "c": 1.2}  # of the hosts, by study


def gpu(name: str) -> Gpu:
    return msgspec.structs.replace(H200, uuid=f"GPU-{name}")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three hosts; jit_cuda has failed on the last."""
    root = tmp_path_factory.mktemp("results")
    for seed, (name, factor) in enumerate(SPEED.items()):
        known = {
            "baseline": Known(40 * factor, 20 * factor),
            "cuda_graph": Known(20 * factor, 5 * factor),
            "jit_cuda": Known(15, status="failed" if name == "c" else "measured", reason="broke"),
        }
        analyse(make_study(root / name, known, seed=seed, gpu=gpu(name)))
    return [root / name for name in SPEED]


@pytest.fixture(scope="module")
def studies(folders: list[Path]) -> list[FinishedStudy]:
    return [read_study(folder, BOUNDS) for folder in folders]


class Combined(NamedTuple):
    """`table` is combined.csv by approach and prompt length."""

    hosts: Table
    table: Table
    text: str


def combined(folders: Sequence[Path], out: Path) -> Combined:
    paths = out / "hosts.csv", out / "combined.csv", out / "combined.txt"
    combine_studies(folders, BOUNDS, *paths)
    hosts, table = read_table(paths[0], "hosts"), read_table(paths[1], "combined")
    return Combined(hosts, table.set_index(["approach", "prompt_length"]), paths[2].read_text())


@pytest.fixture(scope="module")
def three(folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Combined:
    return combined(folders, tmp_path_factory.mktemp("combined"))


def test_three_hosts_give_the_true_value_in_95_of_100_studies() -> None:
    """Against simulated hosts; the processes of all hosts in one interval would be right in under 70."""
    rng = np.random.default_rng(3)
    logs = rng.normal(0, 0.05, (3000, 3, 1)) + rng.normal(0, 0.02, (3000, 3, 5))  # of processes; the true value is 1
    by_host = [host_estimate(values)[0] for values in np.exp(logs.mean(axis=2))]
    by_process = [t_interval(values.ravel()) for values in logs[:300]]
    covered = [np.mean([found.low < 1 < found.high for found in unit]) for unit in (by_host, by_process)]
    assert 0.94 < covered[0] < 0.96 and covered[1] < 0.7, covered


def test_the_host_is_the_unit(three: Combined) -> None:
    hosts, table, text = three
    rows = hosts[(hosts["approach"] == "cuda_graph") & (hosts["prompt_length"] == 100)]
    assert list(rows["study"]) == ["a", "b", "c"] and list(rows["host"]) == ["GPU-a", "GPU-b", "GPU-c"]
    assert (rows["n_processes"] == 5).all()
    logs = np.log(rows["ttft_mean_ms"])
    found = table.loc[("cuda_graph", 100)]
    low, high = np.exp(stats.ttest_1samp(logs, 0).confidence_interval())
    assert found["ttft_mean_low_ms"] == pytest.approx(low) and found["ttft_mean_high_ms"] == pytest.approx(high)
    assert found["ttft_mean_ms"] == pytest.approx(np.exp(logs.mean())) and found["n_hosts"] == 3
    assert found["ttft_mean_spread_percent"] == pytest.approx(100 * logs.std())
    assert found["ttft_mean_spread_percent"] == pytest.approx(
        100 * np.std(np.log(list(SPEED.values())), ddof=1), rel=0.1
    )
    assert "its factor is 4.3 for 3 hosts" in text and "3 hosts (NVIDIA H200): a (GPU-a); b (GPU-b)" in text


def test_one_prompt_length_has_no_mean_over_several(tmp_path: Path) -> None:
    """Seen failing: every row stood there twice."""
    for name in "ab":
        analyse(make_study(tmp_path / name, {"baseline": Known()}, lengths=(10,), gpu=gpu(name)))
    hosts, table, text = combined([tmp_path / "a", tmp_path / "b"], tmp_path)
    assert list(table.index) == [("baseline", 10)] and list(hosts["study"]) == ["a", "b"]
    assert re.search(r"baseline measured +\d", text), "the terminal shows it"


def test_a_host_slower_throughout_changes_latencies_but_no_speedup(three: Combined) -> None:
    table = three.table
    found = table.loc[("cuda_graph", 10)]
    assert found["ttft_mean_spread_percent"] > 10 and found["speedup_ttft_spread_percent"] < 3
    assert found["speedup_ttft_low"] < (40 + 0.2) / (20 + 0.2) < found["speedup_ttft_high"]
    assert found["speedup_itl"] == pytest.approx(4, rel=0.03)


def test_the_mean_over_prompt_lengths_is_taken_on_each_host(three: Combined) -> None:
    hosts, table, _ = three
    wide = hosts[hosts["approach"] == "baseline"].pivot(index="study", columns="prompt_length", values="ttft_mean_ms")
    assert wide[0].to_numpy() == pytest.approx(wide[[10, 100]].mean(axis=1).to_numpy())
    assert table.loc[("baseline", 0), "ttft_mean_ms"] == pytest.approx(np.exp(np.log(wide[0]).mean()))


def test_p99_is_that_of_each_host_and_never_pooled(folders: list[Path], three: Combined) -> None:
    hosts, table, text = three
    own: Table = read_table(folders[1] / "tables" / "latency_by_length.csv", "latency_by_length")
    own = own[(own["approach"] == "baseline") & (own["prompt_length"] == 10)].iloc[0]
    row = hosts[(hosts["approach"] == "baseline") & (hosts["prompt_length"] == 10) & (hosts["study"] == "b")].iloc[0]
    for column in ("ttft_p99_ms", "ttft_p99_low_ms", "ttft_p99_high_ms"):
        assert row[column] == pytest.approx(own[column])
    over_lengths = hosts[hosts["prompt_length"] == 0]
    assert over_lengths["ttft_p99_ms"].notna().any() and over_lengths["ttft_p99_low_ms"].isna().all()
    assert not [column for column in table.columns if "p99" in column]
    assert "P99 is per host" in text


def test_the_order_of_the_studies_does_not_matter(
    studies: list[FinishedStudy], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    read = {study.folder: study for study in studies}
    monkeypatch.setattr("firsttoken.analysis.hosts.read_study", lambda folder, _: read[folder])
    made = set()
    for order in list(permutations(read))[::2]:
        combined(order, tmp_path)
        made.add(b"".join(path.read_bytes() for path in sorted(tmp_path.iterdir())))
    assert len(made) == 1


def test_an_approach_that_failed_on_a_host_has_no_value_over_hosts(three: Combined) -> None:
    hosts, table, _ = three
    found = table.loc[("jit_cuda", 10)]
    assert found["status"] == "measured and failed"
    assert found["reason"] == "measured in a; measured in b; failed in c"
    assert np.isnan(found["ttft_mean_ms"]) and np.isnan(found["ttft_mean_spread_percent"])
    assert hosts[hosts["approach"] == "jit_cuda"].groupby("study")["ttft_mean_ms"].count().to_dict() == {
        "a": 3, "b": 3, "c": 0
    }  # fmt: skip


@pytest.mark.parametrize(
    ("n", "reason", "said"),
    [
        (1, "this machine, these minutes", "This machine, these minutes."),
        (2, "two hosts: no interval", "Two hosts: no interval."),
    ],
)
def test_under_three_hosts_have_no_interval_and_say_so(
    folders: list[Path], tmp_path: Path, n: int, reason: str, said: str
) -> None:
    _, table, text = combined(folders[:n], tmp_path)
    measured = table[table["status"] == "measured"]
    assert measured["ttft_mean_ms"].notna().all() and (measured["reason"] == reason).all()
    assert measured["ttft_mean_low_ms"].isna().all() and measured["speedup_ttft_high"].isna().all()
    assert measured["ttft_mean_spread_percent"].notna().all() == (n == 2)
    assert f"\n{said}\n" in text and "Intervals" not in text


def test_a_study_over_several_gpus_names_them_all(studies: list[FinishedStudy]) -> None:
    """Seen failing: the GPU on which the environment was recorded, alone."""
    a, *others = studies
    spread = [msgspec.structs.replace(run, gpu_uuid=f"GPU-a{run.repeat}") for run in a.records]
    lines = in_words([a._replace(records=spread), *others])
    gpus = ", ".join(f"GPU-a{repeat}" for repeat in range(1, 6))
    assert lines[0] == f"3 hosts (NVIDIA H200): a (5 GPUs together: {gpus}); b (GPU-b); c (GPU-c)."


def with_environment(**changes: object) -> Callable[[FinishedStudy], FinishedStudy]:
    return lambda study: study._replace(environment=msgspec.structs.replace(study.environment, **changes))


def with_config(**keys: object) -> Callable[[FinishedStudy], FinishedStudy]:
    return lambda study: study._replace(config=study.config | keys)


def with_records(approach: str, **changes: object) -> Callable[[FinishedStudy], FinishedStudy]:
    """Of one approach; "" changes all."""

    def change(study: FinishedStudy) -> FinishedStudy:
        changed = [
            msgspec.structs.replace(run, **changes) if approach in ("", run.approach) else run for run in study.records
        ]
        return study._replace(records=changed)

    return change


H100 = msgspec.structs.replace(H200, name="NVIDIA H100", uuid="GPU-b")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (with_environment(gpu=H100), "device is NVIDIA H200 in {a} and NVIDIA H100 in {b}"),
        (with_environment(gpu=None), "device is NVIDIA H200 in {a} and Test CPU in {b}"),
        (with_environment(python="3.12.1"), "Python is 3.11.7 in {a} and 3.12.1 in {b}"),
        (with_config(approaches=["baseline"]), "config key approaches is missing in {a} and ['baseline'] in {b}"),
        (with_config(workload={"new_tokens": 9}), "config key workload.new_tokens is missing in {a} and 9 in {b}"),
        (with_records("", model_hash="m2"), "model hash is m1 in {a} and m2 in {b}"),
        (
            with_records("cuda_graph", versions={"torch": "2.14.0"}),
            "package torch of cuda_graph is 2.13.0 in {a} and 2.14.0 in {b}",
        ),
        (
            with_records("baseline", versions={"torch": "2.13.0", "triton": "3.5"}),
            "package triton of baseline is missing in {a} and 3.5 in {b}",
        ),
        (
            with_records("cuda_graph", code_sha256="new"),
            "code_sha256 of cuda_graph is code-cuda_graph in {a} and new in {b}",
        ),
        (with_records("cuda_graph", kernels="triton"), "kernels of cuda_graph is missing in {a} and triton in {b}"),
        (with_environment(gpu=gpu("a")), "{a} and {b} were measured on the same GPU (GPU-a); name one of them"),
        (with_records("baseline", gpu_uuid="GPU-a"), "{a} and {b} were measured on the same GPU (GPU-a); name one"),
        (with_records("", status="failed"), "no approach ran in {b}; leave it out, or measure it again"),
    ],
)
def test_other_measurements_and_the_same_gpu_are_refused(
    studies: list[FinishedStudy], change: Callable[[FinishedStudy], FinishedStudy], found: str
) -> None:
    a, b, c = studies
    check_combinable(studies)
    with pytest.raises(ValueError) as refused:
        check_combinable([a, change(b), c])
    assert str(refused.value).startswith(f"cannot combine: {found.format(a=a.folder, b=b.folder)}")
    assert "\n" not in str(refused.value)


def test_another_driver_cpu_or_commit_is_named_and_no_reason_to_refuse(studies: list[FinishedStudy]) -> None:
    a, b, c = studies
    assert not [line for line in in_words(studies) if "Not the same" in line]
    changed = [a, with_environment(driver="580.2", cpu="Other CPU", git_commit="1" * 40)(b), c]
    check_combinable(changed)
    said = in_words(changed)
    assert "Not the same on all hosts: driver: 570.1 (a, c); 580.2 (b)." in said
    assert "Not the same on all hosts: cpu: Test CPU (a, c); Other CPU (b)." in said
    assert f"Not the same on all hosts: git commit: {'0' * 40} (a, c); {'1' * 40} (b)." in said


def test_keys_that_change_no_latency_may_differ(studies: list[FinishedStudy]) -> None:
    a, b, c = studies
    check_combinable([a, with_config(study="mine", hardware={"gpu": "NVIDIA H200"}, claims={"file": "x"})(b), c])


def test_an_approach_that_ran_on_one_host_only_is_no_difference(studies: list[FinishedStudy]) -> None:
    """jit_cuda failed on c; its record there has other code."""
    a, b, c = studies
    check_combinable([a, b, with_records("jit_cuda", code_sha256="new")(c)])


def test_without_a_gpu_a_host_is_its_cpu_and_machine(studies: list[FinishedStudy]) -> None:
    on_cpu = [with_environment(gpu=None, memory_bytes=2**34 + place)(study) for place, study in enumerate(studies)]
    check_combinable(on_cpu)
    assert in_words(on_cpu)[0].startswith("3 hosts (no GPU, so that a host is known by CPU, cores, memory and system")
    a, b, _ = on_cpu
    with pytest.raises(ValueError, match=r"measured on the same machine \(Test CPU, 2 cores, 17179869184 bytes"):
        check_combinable([a, with_environment(memory_bytes=2**34)(b)])
    with pytest.raises(ValueError, match=r"device is Test CPU in .* and Other CPU in"):
        check_combinable([a, with_environment(cpu="Other CPU")(b)])


def test_emulated_figures_carry_the_word() -> None:
    row = {"approach": "jit_cuda", "prompt_length": 10, "ttft_mean_ms": 2.0, "itl_request_mean_ms": 1.0}
    row |= {"speedup_ttft": 1.0, "speedup_itl": 1.0}
    hosts = pd.DataFrame([row | {"study": study, "status": "emulated"} for study in "abc"])
    assert list(over_hosts(hosts)["status"]) == ["emulated"] and over_hosts(hosts)["ttft_mean_ms"].item() == 2.0
    hosts.loc[0, "status"] = "measured"
    mixed = over_hosts(hosts).iloc[0]
    assert mixed["status"] == "measured and emulated" and np.isnan(mixed["ttft_mean_ms"])
