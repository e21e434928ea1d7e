"""A published study as data: its tables and claims, read from YAML, and what its own figures say about its claims."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Literal

import msgspec
import yaml

from firsttoken.plan import ModelManifest

Kind = Literal["ratio", "max_reduction", "ordering", "value", "bounded_memory", "uncaptured", "scales"]
Test = Literal["about", "at_least", "at_most", "above"]
METRICS = {  # of a claim -> metric and statistic of the study's tables
    "ttft_mean": ("ttft", "mean"),
    "ttft_p99": ("ttft", "p99"),
    "itl_request_mean": ("itl_request_mean", "mean"),
    "itl_p99": ("itl_token_gap", "p99"),
    "memory": ("memory", "device_over_idle"),
}
SAME_SIZE = 0.02  # of the parameters: vocabularies are padded
EXACT = ("source_lines",)  # counted, not sampled
_PAIR_KINDS = ("ratio", "max_reduction")
_METRIC_KINDS = (*_PAIR_KINDS, "ordering", "value")


class PublishedTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    source: str
    rows: dict[str, dict[str, float | str]]  # approach -> metric -> figure or level


class Claim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: str
    text: str
    source: str
    kind: Kind
    metric: str = ""
    operands: list[str | list[str]] = []
    published: float | None = None
    threshold: float | None = None
    test: Test = "about"
    tolerance: float = 0.0
    needs_gpu: bool = True

    @property
    def names(self) -> list[str]:
        """The operands of a kind that has no groups."""
        return [name for name in self.operands if isinstance(name, str)]

    @property
    def groups(self) -> list[list[str]]:
        """The operands of an ordering, lowest first."""
        return [group for group in self.operands if isinstance(group, list)]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Every pair of an ordering, the lower one first."""
        several = combinations(self.groups, 2)
        return [(low, high) for lower, higher in several for low in lower for high in higher]

    @property
    def target(self) -> float:
        """The figure that a claim is tested against."""
        target = self.threshold if self.threshold is not None else self.published
        if target is None:
            raise ValueError(f"claim {self.id}: needs `published` or `threshold`")
        return target

    @property
    def limits(self) -> tuple[float, float]:
        """The range that the figure must lie in for the claim to hold."""
        slack = abs(self.target) * self.tolerance
        return {
            "about": (self.target - slack, self.target + slack),
            "at_least": (self.target - slack, float("inf")),
            "at_most": (float("-inf"), self.target + slack),
            "above": (self.target, float("inf")),
        }[self.test]


class PublishedModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    parameters: int
    dtypes: list[str]

    def other_than(self, manifest: ModelManifest, dtype: str) -> str:
        """Why a study's model is not the one that the claims are about, or "". Any weights of its shape will do."""
        if abs(manifest.parameters / self.parameters - 1) <= SAME_SIZE and dtype in self.dtypes:
            return ""
        ours = f"{manifest.name} ({_millions(manifest.parameters)} million parameters) in {dtype}"
        theirs = f"{self.name} ({_millions(self.parameters)} million) in {' or '.join(self.dtypes)}"
        return f"the claim is about {theirs}, and this study ran {ours}"


def _millions(parameters: int) -> str:
    return f"{parameters / 1e6:,.0f}" if parameters >= 10**8 else f"{parameters / 1e6:.3g}"


class Published(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    study: str
    claims: list[Claim]
    model: PublishedModel | None = None
    levels: list[str] = []
    tables: list[PublishedTable] = []


def read_published(path: Path | str) -> Published:
    """Read and check a published study. Raises ValueError that names the file and what is wrong in it."""
    try:
        published = msgspec.convert(yaml.safe_load(Path(path).read_text(encoding="utf-8")), Published)
        for claim in published.claims:
            _check(claim)
        for table in published.tables:
            for row in table.rows.values():
                for figure in row.values():
                    _number(figure, published.levels)
    except (yaml.YAMLError, msgspec.ValidationError, ValueError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from error
    ids = [claim.id for claim in published.claims]
    double = sorted({name for name in ids if ids.count(name) > 1})
    if double:
        raise ValueError(f"{path}: claims with the same id: {', '.join(double)}")
    return published


def _check(claim: Claim) -> None:
    if claim.kind in _METRIC_KINDS and claim.metric not in (*METRICS, *EXACT):
        raise ValueError(f"claim {claim.id}: metric {claim.metric!r} is none of {', '.join((*METRICS, *EXACT))}")
    if claim.kind in _PAIR_KINDS and len(claim.names) != 2:
        raise ValueError(f"claim {claim.id}: a {claim.kind} has two operands, found {len(claim.names)}")
    if claim.kind == "max_reduction" and METRICS.get(claim.metric, ("memory", ""))[0] == "memory":
        raise ValueError(f"claim {claim.id}: a max_reduction needs a metric by prompt length, found {claim.metric}")
    if claim.kind == "value" and len(claim.names) != 1:
        raise ValueError(f"claim {claim.id}: a value has one operand, found {len(claim.names)}")
    if claim.kind == "ordering" and len(claim.groups) < 2:
        raise ValueError(f"claim {claim.id}: an ordering has at least two groups, e.g. [[a], [b, c]]")
    if claim.kind in (*_PAIR_KINDS, "value", "scales"):
        _ = claim.limits  # raises if there is nothing to test against


def _number(figure: float | str, levels: list[str]) -> float:
    """A figure, or the rank of a level such as Low."""
    if not isinstance(figure, str):
        return float(figure)
    if figure not in levels:
        raise ValueError(f"tables: {figure!r} is neither a number nor one of levels {levels}")
    return float(levels.index(figure))


def source_verdict(claim: Claim, published: Published) -> tuple[str, str]:
    """Whether the published figures alone bear the claim out: a verdict and why, "" where there is no figure."""
    found = []  # (holds, what the table gives)
    for table in published.tables:
        figures = {name: row[claim.metric] for name, row in table.rows.items() if claim.metric in row}
        values = {name: _number(figure, published.levels) for name, figure in figures.items()}
        outcome = _from_figures(claim, values)
        if outcome is not None:
            found.append((outcome[0], f"{table.source}: {outcome[1]}"))
    if not found:
        return "its source gives no figure", ""
    wrong = [text for holds, text in found if not holds]
    if wrong:
        return "contradicts its own source", f"the source's own figures contradict it ({'; '.join(wrong)})"
    return "follows from its source", f"the source's own figures give it ({'; '.join(text for _, text in found)})"


def _from_figures(claim: Claim, values: dict[str, float]) -> tuple[bool, str] | None:
    names = [name for group in claim.groups for name in group] if claim.kind == "ordering" else claim.names
    if not names or not set(names) <= set(values):
        return None
    if claim.kind == "ordering":
        wrong = [f"{low} is not below {high}" for low, high in claim.pairs if not values[low] < values[high]]
        more = f" and {len(wrong) - 2} pairs more" if len(wrong) > 2 else ""
        return not wrong, ", ".join(wrong[:2]) + more if wrong else "the same order"
    if claim.kind in ("ratio", "value"):
        value = values[names[0]] / values[names[1]] if claim.kind == "ratio" else values[names[0]]
        low, high = claim.limits
        return (value > low if claim.test == "above" else low <= value <= high), f"{value:.3g}"
    return None  # a largest reduction is by prompt length; averages cannot contradict it
