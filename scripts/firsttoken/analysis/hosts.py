"""Studies of one config from several hosts, combined with the host as the unit.

A host is what one study ran on: a GPU, known by its UUID, or several, over which its processes were spread. More
processes on one host do not tell how others differ, so that the interval is
Student's t over the logarithms of per-host values (Student 1908), from three hosts on. P99 is a figure of one host and
never pooled over hosts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from firsttoken import files
from firsttoken.analysis.finished_study import FinishedStudy, read_study
from firsttoken.analysis.latency_tables import BASELINE, latency_by_length
from firsttoken.analysis.schemas import Row, split_unit, with_interval, write_table
from firsttoken.analysis.statistics import CONFIDENCE, Estimate, Floats
from firsttoken.pooled_runs import RAN, SAME_CODE

MIN_HOSTS = 3
ONE_HOST, TWO_HOSTS = "this machine, these minutes", "two hosts: no interval"
ALL_LENGTHS = 0  # in the place of a prompt length: the mean over prompt lengths
_FIGURES = ("ttft_mean_ms", "itl_request_mean_ms", "speedup_ttft", "speedup_itl")
_P99 = ["ttft_p99_ms", "ttft_p99_low_ms", "ttft_p99_high_ms"]
_TERMINAL = {  # column -> its heading on a terminal
    "approach": "approach", "status": "status", "ttft_mean_ms": "TTFT ms", "ttft_mean_low_ms": "low",
    "ttft_mean_high_ms": "high", "ttft_mean_spread_percent": "spread %", "p99": "P99 ms by host",
    "itl_request_mean_ms": "gap ms", "speedup_ttft": "speedup", "speedup_ttft_low": "low", "speedup_ttft_high": "high",
}  # fmt: skip
# Config keys that change no latency, or that say where a study runs.
_FREE_KEYS = ("study", "device", "hardware", "on_unavailable", "experiments", "equivalence", "claims", "compare")
_NO_CODE = ("versions", "status")  # versions are named one by one; an approach may have failed on one host
_MAY_DIFFER = ("driver", "cuda", "cpu", "cores", "os", "git_commit")  # fields of the environment; the page names them


def combine_studies(
    folders: Sequence[Path | str], bounds: Path | str, out_hosts: Path | str, out_csv: Path | str, out_txt: Path | str
) -> None:
    """Write the figures of each host, those over hosts, and what they are in words, with a table for a terminal.

    `folders` are finished studies in any order; `bounds` is config/equality_bounds.csv. Raises ValueError, one line,
    where they are not the same measurement on different hosts.
    """
    studies = sorted((read_study(Path(folder), bounds) for folder in folders), key=lambda study: study.name)
    check_combinable(studies)
    hosts = pd.DataFrame([row for study in studies for row in _host_rows(study)])
    cell = hosts.groupby(["approach", "prompt_length"], sort=False).ngroup()
    hosts = hosts.iloc[np.argsort(cell, kind="stable")]  # the hosts of an approach and prompt length below each other
    combined = over_hosts(hosts)
    write_table(hosts, "hosts", out_hosts)
    write_table(combined, "combined", out_csv)
    files.write_text(out_txt, f"{_terminal_table(combined, hosts)}\n\n" + "\n".join(in_words(studies)) + "\n")


def check_combinable(studies: Sequence[FinishedStudy]) -> None:
    """Raise ValueError, one line, that names the first difference between two studies, or two studies of one host."""
    by_host: dict[str, FinishedStudy] = {}
    for study in studies:
        if not any(run.status in RAN for run in study.records):
            raise ValueError(f"cannot combine: no approach ran in {study.folder}; leave it out, or measure it again")
        difference = _difference(studies[0], study)
        if difference:
            raise ValueError(f"cannot combine: {difference}; measure the same config with the same packages and code")
        machine = study.environment
        for host in sorted({machine.gpu.uuid if machine.gpu else study.host, *study.gpus}):
            if (seen := by_host.setdefault(host, study)) is not study:
                device = "GPU" if machine.gpu else "machine"
                raise ValueError(
                    f"cannot combine: {seen.folder} and {study.folder} were measured on the same {device} "
                    f"({host}); name one of them"
                )


def _difference(a: FinishedStudy, b: FinishedStudy) -> str:
    """The first fact in which the studies differ, "" if none; facts of an approach only where it ran in both."""
    first, second = _facts(a), _facts(b)
    shared = {approach for approach, _ in first} & {approach for approach, _ in second}
    for approach, what in sorted({*first, *second}):
        found, other = (facts.get((approach, what)) or "missing" for facts in (first, second))
        if approach in shared and found != other:
            return f"{what}{approach and f' of {approach}'} is {found} in {a.folder} and {other} in {b.folder}"
    return ""


def _facts(study: FinishedStudy) -> dict[tuple[str, str], str]:
    """What the studies must share: of the whole study with "" as approach, then of each approach that ran."""
    environment = study.environment
    device = environment.gpu.name if environment.gpu else environment.cpu
    facts = {("", "device"): device, ("", "Python"): environment.python}
    keys = {key: value for key, value in study.config.items() if key not in _FREE_KEYS}
    for key, value in pd.json_normalize(keys).to_dict("records")[0].items():
        facts["", f"config key {key}"] = str(value)
    for run in [run for run in study.records if run.status in RAN]:
        facts["", "model hash"] = run.model_hash
        facts |= {(run.approach, f"package {name}"): version for name, version in run.versions.items()}
        facts |= {(run.approach, what): str(getattr(run, what)) for what in SAME_CODE if what not in _NO_CODE}
    return facts


def _host_rows(study: FinishedStudy) -> list[Row]:
    """A row an approach and prompt length, and one for the mean over several; intervals over processes."""
    processes, lengths = study.processes, study.processes.lengths
    by_length = latency_by_length(study.results, study.requests, processes, {})
    rows = []
    for result in study.results:
        each = [(length, [length]) for length in lengths]
        for length, over in [(ALL_LENGTHS, lengths), *each] if len(each) > 1 else each:
            ttft, itl = (processes.estimate(result.name, name, "mean", over) for name in ("ttft", "itl_request_mean"))
            row: Row = {"approach": result.name, "status": result.status, "prompt_length": length}
            row |= {"study": study.name, "host": study.host, "n_processes": ttft.n}
            row |= with_interval("ttft_mean_ms", ttft) | with_interval("itl_request_mean_ms", itl)
            for name, metric in (("speedup_ttft", "ttft"), ("speedup_itl", "itl_request_mean")):
                row |= with_interval(name, processes.ratio(BASELINE, result.name, metric, "mean", over))
            here = (by_length["approach"] == result.name) & by_length["prompt_length"].isin(over)
            p99 = by_length.loc[here, _P99].to_numpy(np.float64).mean(axis=0)
            rows.append(row | dict(zip(_P99, p99 if len(over) == 1 else [p99[0], np.nan, np.nan], strict=True)))
    return rows


def over_hosts(hosts: pd.DataFrame) -> pd.DataFrame:
    """The table `combined` from the table `hosts`; an approach has values where it ran on every host."""
    rows = []
    for (approach, length), found in hosts.groupby(["approach", "prompt_length"], sort=False):
        n, status = len(found), " and ".join(dict.fromkeys(found["status"]))
        reason = ONE_HOST if n == 1 else TWO_HOSTS if n < MIN_HOSTS else ""
        if status not in RAN:
            pairs = zip(found["status"], found["study"], strict=True)
            reason = "; ".join(f"{became} in {study}" for became, study in pairs)
            found = found.assign(**dict.fromkeys(_FIGURES, np.nan))
        row: Row = {"approach": approach, "status": status, "prompt_length": length, "n_hosts": n, "reason": reason}
        for name in _FIGURES:
            estimate, spread_percent = host_estimate(found[name].to_numpy(np.float64))
            row |= with_interval(name, estimate) | {f"{split_unit(name)[0]}_spread_percent": spread_percent}
        rows.append(row)
    return pd.DataFrame(rows)


def host_estimate(values: Floats) -> tuple[Estimate, float]:
    """The geometric mean of one value a host with its interval, and the standard deviation of the logarithms in %."""
    n, logs = len(values), np.log(values)
    spread = float(np.std(logs, ddof=1)) if n > 1 else np.nan
    half = _t(n) * spread / np.sqrt(n) if n >= MIN_HOSTS else np.nan
    value, low, high = np.exp(np.mean(logs) + np.array([0, -half, half])).tolist()
    return Estimate(value, low, high, n), 100 * spread


def _t(n: int) -> float:
    """Student's factor of an interval over n hosts."""
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1))


def in_words(studies: Sequence[FinishedStudy]) -> list[str]:
    """What was combined and what the figures are, one sentence a line."""
    n, machine = len(studies), studies[0].environment
    named = "; ".join(
        f"{study.name} ({f'{len(study.gpus)} GPUs together: ' if len(study.gpus) > 1 else ''}{study.host})"
        for study in studies
    )
    device = (
        machine.gpu.name if machine.gpu else "no GPU, so that a host is known by CPU, cores, memory and system only"
    )
    lines = [f"{n} host{'' if n == 1 else 's'} ({device}): {named}."]
    if n < MIN_HOSTS:
        lines.append(f"{(ONE_HOST if n == 1 else TWO_HOSTS).capitalize()}.")
    else:
        lines.append(
            "Intervals are 95 % over hosts, Student's t over logarithms of per-host values; its factor is "
            f"{_t(n):.1f} for {n} hosts (2.0 for many)."
        )
    if n > 1:
        lines.append(
            "Values are geometric means over hosts; the spread is the standard deviation of the logarithms, in which "
            "the variation between the processes of a host is included."
        )
    lines.append("P99 is per host and never pooled over hosts.")
    for field in _MAY_DIFFER:
        found: dict[str, list[str]] = {}
        for study in studies:
            found.setdefault(str(getattr(study.environment, field)), []).append(study.name)
        if len(found) > 1:
            values = "; ".join(f"{value} ({', '.join(names)})" for value, names in found.items())
            lines.append(f"Not the same on all hosts: {field.replace('_', ' ')}: {values}.")
    return lines


def _terminal_table(combined: pd.DataFrame, hosts: pd.DataFrame) -> str:
    """The means over prompt lengths; P99 of each host, in the order of the studies' names."""
    first = int(hosts["prompt_length"].min())  # ALL_LENGTHS, or the only one
    hosts = hosts[hosts["prompt_length"] == first]
    p99 = hosts.groupby("approach")["ttft_p99_ms"].agg(lambda values: ", ".join(f"{value:.3g}" for value in values))
    shown = combined[combined["prompt_length"] == first].assign(p99=combined["approach"].map(p99))
    shown["p99"] = shown["p99"].str.replace("nan", "-")
    shown, headings = shown[list(_TERMINAL)], list(_TERMINAL.values())
    return shown.to_string(index=False, header=headings, float_format="{:.3g}".format, na_rep="-")
