"""The whole distribution of TTFT and of token gaps, as empirical cumulative curves with P99 marked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from firsttoken.analysis.figures import floors, palette, style
from firsttoken.analysis.figures.base import FigureInputs

TITLE = "Distribution of TTFT and of token gaps"
# Curves are drawn through these shares of the samples: every point of a million would only make the file large.
SHARES = np.unique(np.concatenate([np.linspace(0, 1, 201), np.linspace(0.95, 1, 101), np.linspace(0.99, 1, 41)]))
P99 = 0.99
LEAST_FOR_P99 = 100  # fewer samples have no 99th percentile short of their largest


def plot(inputs: FigureInputs, out_svg: Path, out_csv: Path) -> None:
    """Draw pooled, untainted samples: TTFT at the shortest and the longest prompt, and all token gaps."""
    (samples_parquet,) = inputs.files
    entries = palette.read_entries(inputs.summary, inputs.order)
    shown = {entry.name: entry for entry in entries if entry.shown}
    samples = pd.read_parquet(
        samples_parquet, columns=["approach", "prompt_length", "token_index", "latency_ns", "tainted"]
    )
    samples = samples[samples["approach"].isin(list(shown))]
    n_tainted = int(samples["tainted"].sum())
    samples = samples[~samples["tainted"]]
    curves = _curves(samples)
    if curves.empty:
        style.save_message("No untainted samples to show.", curves, out_svg, out_csv, title=TITLE)
        return
    panels = list(dict.fromkeys(curves["panel"]))
    drawn = [name for name in shown if name in set(curves["approach"])]
    looks = palette.looks(inputs.order)
    with style.theme():
        figure = style.new_figure(3.5 * len(panels) + 0.6, 3.9)
        for axes, panel in zip(np.atleast_1d(figure.subplots(1, len(panels), sharey=True)), panels, strict=True):
            for name in drawn:
                rows = curves[(curves["panel"] == panel) & (curves["approach"] == name)]
                _draw(axes, rows, shown[name], looks[name])
            axes.set(xscale="log", xlabel="ms (log scale)", title=panel)
            style.plain_log_ticks(axes, "x")
            axes.axhline(P99, color=style.MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
            axes.text(
                0.02, P99 - 0.01, "P99", transform=axes.get_yaxis_transform(), va="top", fontsize=8, color=style.MUTED
            )
        figure.axes[0].set(ylabel="Share of samples at or below", ylim=(0, 1.02))
        handles = [
            Line2D([], [], label=shown[name].label, **palette.line_style(looks[name], shown[name].emulated))
            for name in drawn
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=min(len(drawn), 6), fontsize=8.5, handlelength=3)
        tainted = f"{n_tainted:,} tainted samples are left out." if n_tainted else ""
        marked = "Markers on the dotted line: P99 (drawn from 100 samples on)."
        floor = floors.note(inputs.summary, entries, drawn)
        style.add_note(figure, palette.note(entries, drawn, marked, tainted, floor))
        style.save(
            figure,
            palette.with_status(curves, entries),
            out_svg,
            out_csv,
            title=TITLE,
            description=_describe(curves, drawn, panels),
        )


def _curves(samples: pd.DataFrame) -> pd.DataFrame:
    """Quantiles a panel and approach: columns panel, approach, n, share, latency_ms."""
    lengths = sorted(samples["prompt_length"].unique())
    first = samples["token_index"] == 0
    ends = [] if not lengths else list(dict.fromkeys([lengths[0], lengths[-1]]))
    panels = {f"TTFT, {length} prompt tokens": samples[first & (samples["prompt_length"] == length)] for length in ends}
    panels["Token gaps, all lengths"] = samples[~first]
    frames = [
        pd.DataFrame(
            {
                "panel": panel,
                "approach": name,
                "n": len(rows),
                "share": SHARES,
                "latency_ms": np.quantile(rows["latency_ns"].to_numpy() / 1e6, SHARES),
            }
        )
        for panel, part in panels.items()
        for name, rows in part.groupby("approach")
    ]
    columns = ["panel", "approach", "n", "share", "latency_ms"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def _draw(axes: Axes, rows: pd.DataFrame, entry: palette.Entry, look: palette.Look) -> None:
    if rows.empty:
        return
    keywords = palette.line_style(look, entry.emulated)
    marker = {key: keywords.pop(key) for key in ("marker", "markerfacecolor", "markeredgecolor", "markersize")}
    axes.plot(rows["latency_ms"], rows["share"], **keywords)
    if rows["n"].iloc[0] >= LEAST_FOR_P99:
        at_p99 = float(np.interp(P99, rows["share"], rows["latency_ms"]))
        axes.plot([at_p99], [P99], linestyle="none", color=look.colour, zorder=5, **marker)


def _describe(curves: pd.DataFrame, drawn: Sequence[str], panels: Sequence[str]) -> str:
    medians = curves[(curves["panel"] == panels[0]) & np.isclose(curves["share"], 0.5)].set_index("approach")
    values = style.list_values(medians["latency_ms"], drawn, " ms")
    return f"Cumulative curves in {len(panels)} panels. Medians of {panels[0]}: {values}."
