"""Publications as data: config/claims/*.yaml, read and checked, and what their own figures say of their claims.

config/claims/README.md describes the keys. Light imports: the files are checked before any job runs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import combinations
from math import inf
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from firsttoken.plan import ModelManifest
from firsttoken.results import Environment
from firsttoken.yaml_files import read_yaml

Metric = Literal["ttft_mean", "ttft_p99", "itl_request_mean", "memory", "source_lines"]
Range = tuple[float, float]  # low, high
Words = Annotated[str, Meta(min_length=1, max_length=500)]


class _Data(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all structs: immutable, keywords only, unknown fields are errors."""


class Reading(_Data, frozen=True, kw_only=True, tag_field="kind"):
    """One way to take the words of a claim, and the figures with which it holds."""

    words: Words
    at_least: float = -inf
    at_most: float = inf
    refuted_below: float | None = None  # by default `at_least`; between the two a figure decides nothing
    refuted_above: float | None = None

    @property
    def limits(self) -> Range:
        """The range that the figure must lie in for the claim to hold."""
        return self.at_least, self.at_most


class Figure(Reading, frozen=True, kw_only=True, tag="figure"):
    """The metric of an approach, or its ratio of two: mean over prompt lengths, or the largest of all lengths."""

    metric: Metric
    operands: Annotated[list[str], Meta(min_length=1, max_length=2)]
    lengths: list[Annotated[int, Meta(ge=1)]] | Literal["largest"] = []  # empty: all of the study
    # A difference of at least this share is claimed; less than it is no difference.
    margin: Annotated[float, Meta(ge=0, le=10)] = 0.0

    @property
    def limits(self) -> Range:
        return (1 + self.margin, inf) if self.margin else (self.at_least, self.at_most)


class Ordering(Reading, frozen=True, kw_only=True, tag="ordering"):
    """Groups of approaches from the lowest to the highest metric."""

    metric: Metric
    operands: Annotated[list[Annotated[list[str], Meta(min_length=1)]], Meta(min_length=2)]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Every pair of two groups, the lower one first."""
        groups = combinations(self.operands, 2)
        return [(low, high) for lower, higher in groups for low in lower for high in higher]


class PoolMemory(Reading, frozen=True, kw_only=True, tag="pool_memory"):
    """Growth of the rolling pool over that of the unbounded one, in the second half of the prompt lengths."""

    least_steps: Annotated[int, Meta(ge=1)]
    least_growth_mib: float  # an unbounded pool that grows by less has not been put to the test


class PoolMisses(Reading, frozen=True, kw_only=True, tag="pool_misses"):
    """TTFT at lengths that were not captured beforehand, once they are, over TTFT where they were."""


class LongestContext(Reading, frozen=True, kw_only=True, tag="longest_context"):
    """Positions of the longest sequence that the KV cache can hold."""


class Clients(Reading, frozen=True, kw_only=True, tag="clients"):
    """Ratio of two loads of the experiment `clients`, each an arrangement and its number of clients."""

    metric: Literal["requests_per_s", "ttft_mean_ms", "ttft_median_ms"]
    operands: tuple[tuple[str, int], tuple[str, int]]


AnyReading = Figure | Ordering | PoolMemory | PoolMisses | LongestContext | Clients


class Claim(_Data, frozen=True, kw_only=True):
    id: Annotated[str, Meta(min_length=1, max_length=100)]
    text: Words
    source: Words  # page, section or table
    published: float | None = None
    claimed_for: Literal["its conditions", "all conditions", "some conditions"] = "its conditions"
    readings: Annotated[list[AnyReading], Meta(min_length=1)]


class PublishedConditions(_Data, frozen=True, kw_only=True):
    """Under what a publication measured; what it does not say is left out."""

    gpu: str  # in words
    gpu_name: str = ""  # part of the name as NVML reports it
    gpu_memory_gib: Range = (0.0, inf)
    model: str
    parameters: Range
    dtypes: list[str]
    weights: Literal["trained", "random"]
    prompt_lengths: list[int] = []

    def differences(
        self, environment: Environment, manifest: ModelManifest, dtype: str, lengths: Iterable[int]
    ) -> list[str]:
        """What is different in a study, each with what the publication had."""
        found = []
        gpu = environment.gpu
        if gpu is not None:
            memory_gib = gpu.memory_bytes / 2**30
            low, high = self.gpu_memory_gib
            if self.gpu_name not in gpu.name or not low <= memory_gib <= high:
                found.append(f"GPU {gpu.name} with {memory_gib:.1f} GiB (source: {self.gpu})")
        if not self.parameters[0] <= manifest.parameters <= self.parameters[1]:
            found.append(f"a model of {manifest.parameters / 1e6:,.4g} million parameters (source: {self.model})")
        if dtype not in self.dtypes:
            found.append(f"{dtype} (source: {' or '.join(self.dtypes)})")
        if manifest.weights != self.weights:
            found.append(f"{manifest.weights} weights (source: {self.weights})")
        measured, published = sorted(lengths), sorted(self.prompt_lengths)
        if measured and published and measured != published:
            ours, theirs = (", ".join(map(str, several)) for several in (measured, published))
            found.append(f"prompts of {ours} tokens (source: {theirs})")
        return found


class PublishedTable(_Data, frozen=True, kw_only=True):
    source: str
    rows: dict[str, dict[Metric, float | str]]  # approach -> metric -> figure or level


class Publication(_Data, frozen=True, kw_only=True):
    name: Words
    url: Annotated[str, Meta(pattern=r"^https?://[^\s<>\"]{1,500}\Z")]
    conditions: PublishedConditions
    claims: Annotated[list[Claim], Meta(min_length=1)]
    levels: list[str] = []  # words of the tables, from the lowest
    tables: list[PublishedTable] = []

    def rank(self, figure: float | str) -> float:
        """A figure, or the place of a word such as Low."""
        if not isinstance(figure, str):
            return figure
        if figure not in self.levels:
            raise ValueError(f"found {figure!r} in tables, must be a number or one of levels {self.levels}")
        return self.levels.index(figure)


def read_publications(paths: Iterable[Path | str], approaches: Collection[str] = ()) -> list[Publication]:
    """Read and check files of claims; where `approaches` are given, claims may name no others.

    Raises ValueError: one line with the file, the key, what was found.
    """
    publications: list[Publication] = []
    ids: dict[str, Path | str] = {}
    for path in paths:
        content = read_yaml(path)
        try:
            publication = msgspec.convert(content, Publication)
            for figure in (
                figure for table in publication.tables for row in table.rows.values() for figure in row.values()
            ):
                publication.rank(figure)
            for low, high in (publication.conditions.gpu_memory_gib, publication.conditions.parameters):
                if low > high:
                    raise ValueError(f"conditions: found the range {low:g} to {high:g}; write the lower end first")
            for claim in publication.claims:
                _check(claim, approaches)
                if claim.id in ids:
                    raise ValueError(f"claim {claim.id}: the same id stands in {ids[claim.id]}; give it another")
                ids[claim.id] = path
        except ValueError as error:
            raise ValueError(f"{path}: {error}; config/claims/README.md describes every key") from error
        publications.append(publication)
    return publications


def _check(claim: Claim, approaches: Collection[str]) -> None:
    """What the types leave open."""
    for reading in claim.readings:
        where = f"claim {claim.id}, reading {reading.words!r}"
        unknown = [name for name in compared(reading) if approaches and name not in approaches]
        if unknown:
            raise ValueError(f"{where}: found {unknown[0][:60]!r}, which is no approach")
        if not isinstance(reading, Ordering) and reading.limits == (-inf, inf):
            raise ValueError(f"{where}: found no limit, needs at_least, at_most or margin")
        if isinstance(reading, Figure) and reading.margin and len(reading.operands) != 2:
            raise ValueError(f"{where}: found margin with one operand, needs two to compare")
        if isinstance(reading, Ordering) and reading.limits != (-inf, inf):
            raise ValueError(f"{where}: found at_least or at_most, which an ordering has not; leave them out")
        if isinstance(reading, Ordering) and len(set(compared(reading))) < len(compared(reading)):
            raise ValueError(f"{where}: found an approach twice in operands; name each once")
        if reading.at_least > reading.at_most:
            raise ValueError(f"{where}: found at_least above at_most, which no figure meets; exchange them")


def compared(reading: Reading) -> list[str]:
    """The approaches that a reading compares."""
    if isinstance(reading, Figure):
        return reading.operands
    return [name for group in reading.operands for name in group] if isinstance(reading, Ordering) else []


def source_verdict(reading: AnyReading, publication: Publication) -> tuple[str, str]:
    """Whether the published figures alone bear a reading out: a verdict and why, "" where there is no figure."""
    found = []  # (holds, what the table gives)
    if isinstance(reading, Figure | Ordering):
        for table in publication.tables:
            rows = table.rows.items()
            values = {name: publication.rank(row[reading.metric]) for name, row in rows if reading.metric in row}
            outcome = _from_figures(reading, values)
            if outcome is not None:
                found.append((outcome[0], f"{table.source}: {outcome[1]}"))
    if not found:
        return "its source gives no figure", ""
    wrong = [text for holds, text in found if not holds]
    if wrong:
        return "contradicts its own source", f"the source's own figures contradict it ({'; '.join(wrong)})"
    return "follows from its source", f"the source's own figures give it ({'; '.join(text for _, text in found)})"


def _from_figures(reading: Figure | Ordering, values: Mapping[str, float]) -> tuple[bool, str] | None:
    if not set(compared(reading)) <= set(values):
        return None
    if isinstance(reading, Ordering):
        wrong = [f"{low} is not below {high}" for low, high in reading.pairs if not values[low] < values[high]]
        more = f" and {len(wrong) - 2} pairs more" if len(wrong) > 2 else ""
        return not wrong, ", ".join(wrong[:2]) + more if wrong else "the same order"
    if reading.lengths:
        return None  # averages say nothing of single lengths
    value = values[reading.operands[0]] / (values[reading.operands[1]] if len(reading.operands) == 2 else 1)
    low, high = reading.limits
    return low <= value <= high, f"{value:.3g}"
