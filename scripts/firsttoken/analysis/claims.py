"""Published claims against what was measured: reproduced, refuted, inconclusive, or not testable here.

A claim is reproduced when its whole interval lies where the claim says (two one-sided tests, Schuirmann 1987), refuted
when the whole interval lies outside, and inconclusive between. Orderings need every pair (an intersection-union test,
Berger 1982); their refutation by any one pair, and a largest value over prompt lengths, are corrected for the number of
looks (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from firsttoken import files
from firsttoken.analysis.claim_experiments import EXPERIMENTS, ClaimVerdict, judge_experiment, read_experiments
from firsttoken.analysis.processes import ProcessTable
from firsttoken.analysis.published import EXACT, METRICS, Claim, read_published, source_verdict
from firsttoken.analysis.schemas import read_table, write_table
from firsttoken.analysis.statistics import CONFIDENCE, NOTHING, Estimate
from firsttoken.plan import ModelManifest
from firsttoken.results import Environment


@dataclass(frozen=True)
class Measured:
    """What a claim is put to: per-process values, statuses, exact counts, and the device."""

    processes: ProcessTable
    statuses: dict[str, tuple[str, str]]  # approach -> status, reason
    source_lines: dict[str, float]
    device: str
    other_model: str  # why the study's model is not that of the claims, or ""
    experiments: dict[str, pd.DataFrame]

    def missing(self, claim: Claim, names: Sequence[str]) -> list[str]:
        """Why operands cannot be used, one sentence part each."""
        if claim.metric in EXACT:
            return [f"{name} has no count of {claim.metric}" for name in names if name not in self.source_lines]
        reasons = []
        for name in names:
            status, reason = self.statuses.get(name, ("absent", ""))
            if status != "measured":
                what = "is not in this study" if status == "absent" else f"is {status}"
                reasons.append(f"{name} {what}" + (f" ({reason})" if reason else ""))
        return reasons

    def ratio(self, claim: Claim, a: str, b: str, lengths: Sequence[int], confidence: float = CONFIDENCE) -> Estimate:
        """a over b of the claim's metric."""
        if claim.metric in EXACT:
            value = self.source_lines[a] / self.source_lines[b]
            return Estimate(value, value, value, 1)
        return self.processes.ratio(a, b, *METRICS[claim.metric], lengths, confidence)


def judge_claims(
    published: Path | str,
    summary: Path | str,
    process_statistics: Path | str,
    environment: Path | str,
    manifest: Path | str,
    dtype: str,
    out_csv: Path | str,
    pool_memory: Path | str | None = None,
    pool_misses: Path | str | None = None,
    ipc: Path | str | None = None,
    clients: Path | str | None = None,
) -> None:
    """Write claims.csv: a row a claim, with the measured figure, its interval, both verdicts and one sentence."""
    study = read_published(published)
    table = read_table(summary, "summary")
    rows = table.to_dict("records")
    measured = Measured(
        processes=ProcessTable.read(process_statistics),
        statuses={row["approach"]: (row["status"], row["reason"]) for row in rows},
        source_lines={row["approach"]: float(row["source_lines"]) for row in rows if pd.notna(row["source_lines"])},
        device=files.read_json(environment, Environment).device,
        other_model=study.model.other_than(files.read_json(manifest, ModelManifest), dtype) if study.model else "",
        experiments=read_experiments(pool_memory=pool_memory, pool_misses=pool_misses, ipc=ipc, clients=clients),
    )
    verdicts = []
    for claim in study.claims:
        finding = judge(claim, measured)
        from_source, source_why = source_verdict(claim, study)
        why = "; ".join(part for part in (finding.why, source_why) if part)
        verdicts.append(
            {
                "id": claim.id,
                "claim": claim.text,
                "source": claim.source,
                "published_value": np.nan if claim.published is None else claim.published,
                "measured_value": finding.estimate.value,
                "low": finding.estimate.low,
                "high": finding.estimate.high,
                "verdict": finding.verdict,
                "verdict_from_source": from_source,
                "sentence": f"{finding.verdict[0].upper()}{finding.verdict[1:]}: {why}.",
            }
        )
    write_table(pd.DataFrame(verdicts), "claims", out_csv)


def judge(claim: Claim, measured: Measured) -> ClaimVerdict:
    """The verdict on one claim from what was measured."""
    if claim.needs_gpu and measured.device != "cuda":
        return ClaimVerdict("not testable here", NOTHING, "the claim is about a GPU, and this study ran on none")
    if claim.needs_gpu and measured.other_model:
        return ClaimVerdict("not testable here", NOTHING, measured.other_model)
    if claim.kind in EXPERIMENTS:
        return judge_experiment(claim, measured.experiments)
    if claim.kind == "ordering":
        return _ordering(claim, measured)
    missing = measured.missing(claim, claim.names)
    if missing:
        return ClaimVerdict("not testable here", NOTHING, "; ".join(missing))
    if claim.kind == "max_reduction":
        return _max_reduction(claim, measured)
    if claim.kind == "ratio":
        a, b = claim.names
        return _against_limits(claim, measured.ratio(claim, a, b, measured.processes.lengths), f"{a} / {b} is")
    name = claim.names[0]
    if claim.metric in EXACT:
        n = measured.source_lines[name]
        estimate = Estimate(n, n, n, 1)
    else:
        estimate = measured.processes.estimate(name, *METRICS[claim.metric], measured.processes.lengths)
    return _against_limits(claim, estimate, f"{claim.metric} of {name} is")


def _against_limits(claim: Claim, estimate: Estimate, what: str) -> ClaimVerdict:
    """Reproduced inside the claim's limits, refuted outside, by the whole interval."""
    low, high = claim.limits
    text = f"{what} {show(estimate)}, claimed {_limits_text(claim)}"
    if np.isnan(estimate.low):
        return ClaimVerdict("inconclusive", estimate, f"{text}; {estimate.note or 'no interval'}")
    if claim.published is not None and claim.threshold not in (None, claim.published):
        inside = estimate.low <= claim.published <= estimate.high
        text += f"; the published figure, {claim.published:.3g}, is {'in' if inside else 'out'}side the interval"
    if (estimate.low > low if claim.test == "above" else estimate.low >= low) and estimate.high <= high:
        return ClaimVerdict("reproduced", estimate, text)
    if estimate.high < low or estimate.low > high or (claim.test == "above" and estimate.high <= low):
        return ClaimVerdict("refuted", estimate, text)
    return ClaimVerdict("inconclusive", estimate, text)


def _ordering(claim: Claim, measured: Measured) -> ClaimVerdict:
    """Every member of a group below every member of the later ones."""
    names = [name for group in claim.groups for name in group]
    missing = measured.missing(claim, names)
    usable = {name for name in names if not measured.missing(claim, [name])}
    pairs = [(low, high) for low, high in claim.pairs if low in usable and high in usable]
    if not pairs:
        return ClaimVerdict("not testable here", NOTHING, "; ".join(missing))
    lengths = measured.processes.lengths
    plain = {pair: measured.ratio(claim, pair[1], pair[0], lengths) for pair in pairs}
    confidence = 1 - (1 - CONFIDENCE) / len(pairs)
    strict = {pair: measured.ratio(claim, pair[1], pair[0], lengths, confidence) for pair in pairs}
    worst = min(pairs, key=lambda pair: np.nan_to_num(plain[pair].value, nan=np.inf))
    estimate = plain[worst]
    text = f"the closest pair is {worst[1]} / {worst[0]} at {show(estimate)}"
    wrong = [pair for pair in pairs if strict[pair].high < 1]
    if claim.metric in EXACT:
        wrong = [pair for pair in pairs if plain[pair].value <= 1]
    if wrong:
        shown = ", ".join(f"{high} is not above {low} ({plain[low, high].value:.3g}x)" for low, high in wrong)
        return ClaimVerdict("refuted", plain[wrong[0]], shown)
    if missing:
        return ClaimVerdict("not testable here", NOTHING, "; ".join(missing))
    if all(plain[pair].low > 1 for pair in pairs):
        return ClaimVerdict("reproduced", estimate, text)
    notes = sorted({plain[pair].note for pair in pairs} - {""})
    return ClaimVerdict("inconclusive", estimate, "; ".join([text, *notes]))


def _max_reduction(claim: Claim, measured: Measured) -> ClaimVerdict:
    """Up to: 1 - a/b at the prompt length where it is largest, with intervals simultaneous over the lengths."""
    a, b = claim.names
    lengths = measured.processes.lengths
    confidence = 1 - (1 - CONFIDENCE) / max(len(lengths), 1)
    ratios = {length: measured.ratio(claim, a, b, [length], confidence) for length in lengths}
    known = {length: ratio for length, ratio in ratios.items() if not np.isnan(ratio.value)}
    if not known:
        return ClaimVerdict("inconclusive", NOTHING, f"no prompt length with both {a} and {b}")
    best = min(known, key=lambda length: known[length].value)
    ratio = known[best]
    estimate = Estimate(1 - ratio.value, 1 - ratio.high, 1 - ratio.low, ratio.n, ratio.note)
    text = f"the largest reduction is {show(estimate)}, at {best} prompt tokens, claimed {_limits_text(claim)}"
    if np.isnan(estimate.low):
        return ClaimVerdict("inconclusive", estimate, f"{text}; {estimate.note or 'no interval'}")
    low, _ = claim.limits
    if any(1 - ratio.high >= low for ratio in known.values()):
        return ClaimVerdict("reproduced", estimate, text)
    if all(1 - ratio.low < low for ratio in known.values()):
        return ClaimVerdict("refuted", estimate, text)
    return ClaimVerdict("inconclusive", estimate, text)


def show(estimate: Estimate) -> str:
    """A value with its interval in three digits."""
    if np.isnan(estimate.value):
        return "unknown"
    if np.isnan(estimate.low) or estimate.low == estimate.high:
        return f"{estimate.value:.3g}"
    return f"{estimate.value:.3g} (95 % interval {estimate.low:.3g} to {estimate.high:.3g})"


def _limits_text(claim: Claim) -> str:
    slack = f" with {claim.tolerance:.0%} of slack" if claim.tolerance else ""
    return f"{claim.test.replace('_', ' ')} {claim.target:.3g}{slack}"
