"""Published claims against what was measured: every reading of a claim, and the verdict that they give together.

The verdict is that of the readings where they agree, else `depends on the reading`; readings that cannot be tested do
not count. Where the study's conditions are not those of the publication, config/claims/README.md says which verdicts
are left; the others become `not shown here`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from firsttoken.analysis.claim_experiments import judge_experiment
from firsttoken.analysis.claim_files import (
    AnyReading,
    Claim,
    Figure,
    LongestContext,
    Ordering,
    read_publications,
    source_verdict,
)
from firsttoken.analysis.claim_readings import (
    NOT_TESTABLE,
    Finding,
    Measured,
    judge_figure,
    judge_longest_context,
    judge_ordering,
)
from firsttoken.analysis.schemas import Row, with_interval, write_table
from firsttoken.analysis.study_tables import StudyTables
from firsttoken.experiment_tables import read_experiment


def judge_claims(
    study: StudyTables, published: Sequence[Path | str], dtype: str, out_csv: Path | str, **experiments: Path | str
) -> None:
    """Write claims.csv: a row a reading, with its figure, interval and verdict, and the verdict on its claim."""
    machine = study.environment
    measured = Measured(
        processes=study.processes,
        summary=study.summary.set_index("approach"),
        by_length=study.by_length,
        manifest=study.manifest,
        experiments={name: read_experiment(path, name) for name, path in experiments.items()},
    )
    rows: list[Row] = []
    for publication in read_publications(published):
        lengths = measured.processes.lengths
        differences = publication.conditions.differences(machine, measured.manifest, dtype, lengths)
        for claim in publication.claims:
            findings = [judge_reading(reading, measured, machine.device) for reading in claim.readings]
            row: Row = {"id": claim.id, "publication": publication.name, "url": publication.url, "claim": claim.text}
            row |= {"source": claim.source, "published_value": claim.published, "claimed_for": claim.claimed_for}
            row |= {"verdict": verdict_on(claim, findings, differences), "other_conditions": "; ".join(differences)}
            for reading, finding in zip(claim.readings, findings, strict=True):
                from_source, source_why = source_verdict(reading, publication)
                why = "; ".join(part for part in (finding.why, source_why) if part)
                sentence = f"{finding.verdict[0].upper()}{finding.verdict[1:]}: {why}."
                one = {"reading": reading.words, "reading_verdict": finding.verdict, "sentence": sentence}
                figure = with_interval("measured_value", finding.estimate)
                one |= {"doubts": "" if finding.verdict == NOT_TESTABLE else measured.doubts(reading)}
                rows.append(row | one | figure | {"verdict_from_source": from_source})
    write_table(pd.DataFrame(rows), "claims", out_csv)


def verdict_on(claim: Claim, findings: Sequence[Finding], differences: Sequence[str]) -> str:
    """What the readings give together under these conditions."""
    verdicts = {finding.verdict for finding in findings} - {NOT_TESTABLE}
    if not verdicts:
        return NOT_TESTABLE
    verdict = next(iter(verdicts)) if len(verdicts) == 1 else "depends on the reading"
    match claim.claimed_for:
        case "all conditions":
            covered = True
        case "some conditions":  # where it is not seen, another machine may still show it
            covered = "reproduced" in verdicts
        case _:
            covered = not differences
    return verdict if covered else "not shown here"


def judge_reading(reading: AnyReading, measured: Measured, device: str) -> Finding:
    """The verdict on one reading of a claim, from what it needs."""
    if device != "cuda":
        return Finding(NOT_TESTABLE, "the claim is about a GPU, and this study ran on none")
    match reading:
        case Figure():
            return judge_figure(reading, measured)
        case Ordering():
            return judge_ordering(reading, measured)
        case LongestContext():
            return judge_longest_context(reading, measured)
        case _:
            return judge_experiment(reading, measured.experiments)
