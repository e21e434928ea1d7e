"""Signs that an interval may not hold: each is seen where its cause is planted, and none in data without."""

import numpy as np
import pandas as pd
import pytest

from firsttoken.analysis.doubts import ALARM, cell_doubts, doubts, drift_p_value, process_signs, summary_doubts


def made(seed: int = 1, processes: int = 10, n: int = 75) -> np.ndarray:
    """Benign values in ms, [processes, n]."""
    rng = np.random.default_rng(seed)
    return 10 * np.exp(0.25 * rng.standard_normal((processes, n)) + rng.normal(0, 0.02, (processes, 1)))


def found(values: np.ndarray) -> str:
    return cell_doubts(list(values), range(1, len(values) + 1))


def test_benign_data_are_not_in_doubt() -> None:
    assert [found(made(seed)) for seed in range(20)] == [""] * 20


def test_a_slow_process_is_named_with_its_size() -> None:
    values = made()
    values[6] *= 1.5
    more = values[6].mean() / np.median(np.delete(values, 6, axis=0).mean(axis=1)) - 1
    assert 0.4 < more < 0.7
    assert found(values) == f"process 7 is apart ({100 * more:+.2g} %)"


def test_a_fast_process_is_apart_too() -> None:
    values = made()
    values[2] *= 0.6
    assert found(values).startswith("process 3 is apart (-")


def test_drift_is_seen_in_the_order_of_repeats_only() -> None:
    values = made(processes=12) * np.linspace(1, 1.4, 12)[:, None]
    assert found(values) == "drift over the repeats"
    assert found(values[np.random.default_rng(0).permutation(12)]) == ""


def test_stalls_are_counted_with_what_they_cost() -> None:
    values = made()
    values[[1, 5, 8], [3, 40, 70]] *= 30
    assert "3 of 750 took over 4 times the median and add" in found(values)
    values[:, ::10] *= 30
    assert "took over" not in found(values), "one request in ten is how this approach behaves"


def test_a_single_long_request_that_moves_no_number_is_no_stall() -> None:
    values = made()
    values[1, 3] = 45.0  # 0.5 % of the mean
    assert found(values) == ""


def test_correlation_gives_the_effective_number() -> None:
    rng = np.random.default_rng(4)
    noise = rng.standard_normal((10, 75))
    for step in range(1, 75):
        noise[:, step] = 0.9 * noise[:, step - 1] + np.sqrt(0.19) * noise[:, step]
    text = found(10 * np.exp(0.25 * noise))
    assert "successive ones correlate at 0.8" in text and "750 count as" in text


def test_too_few_processes_show_nothing_about_processes() -> None:
    assert process_signs(np.array([1.0, 1.0, 1.0, 9.0]), [1, 2, 3, 4]) == []
    assert process_signs(np.full(5, 3.0), [1, 2, 3, 4, 5]) == [], "equal processes"
    assert cell_doubts([np.empty(0)], [1]) == ""


@pytest.mark.parametrize("n", [5, 10, 20])
def test_the_probability_of_drift_is_uniform_without_drift(n: int) -> None:
    rng = np.random.default_rng(n)
    values = np.array([drift_p_value(rng.standard_normal(n)) for _ in range(4000)])
    assert np.mean(values < ALARM) < 0.01
    for level in (0.05, 0.5):
        assert np.mean(values < level) == pytest.approx(level, abs=4 * np.sqrt(level / 4000))


def test_a_number_is_told_the_doubts_about_its_cells() -> None:
    table = pd.DataFrame(
        {
            "approach": ["a", "a", "b"],
            "prompt_length": [10, 500, 10],
            "ttft_doubts": ["drift over the repeats", "", ""],
            "itl_token_gap_doubts": ["successive ones correlate at 0.8, so that 750 count as 83"] * 2 + [""],
            "itl_request_mean_doubts": [
                "",
                "process 2 is apart (+50 %), successive ones correlate at 0.6, so that 9 count as 2",
                "",
            ],
            "ttft_p99_ms": [9.0] * 3,
            "itl_token_gap_p99_ms": [9.0] * 3,
        }
    )
    assert doubts(table, "a", "ttft", [10, 500]) == ["TTFT of a at 10 tokens: drift over the repeats"]
    assert doubts(table, "a", "ttft", [500]) == doubts(table, "b", "ttft", [10]) == []
    assert doubts(table, "not there", "ttft", [10]) == []
    assert doubts(table, "a", "itl_token_gap", [10, 500]) == [], "the interval of a mean holds with correlation"
    correlated = doubts(table, "a", "itl_token_gap", [10, 500], "p99")
    assert correlated == ["token gap of a at 10, 500 tokens: correlated requests"]
    of_means = "a process apart (ITL); drift over the repeats (TTFT)"
    assert summary_doubts(table, "a") == {"doubts": of_means, "p99_doubts": "correlated requests (token gap)"}
    assert summary_doubts(table, "b") == {"doubts": "", "p99_doubts": ""}
    without = table.assign(itl_token_gap_p99_ms=np.nan)
    assert summary_doubts(without, "a") == {"doubts": of_means, "p99_doubts": ""}, "no P99, no doubt about it"
