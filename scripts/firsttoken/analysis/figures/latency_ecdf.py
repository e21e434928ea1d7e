"""The whole distribution of TTFT and of token gaps, as empirical cumulative curves with P99 marked."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from firsttoken.analysis.figures import palette, style
from firsttoken.analysis.figures.base import Drawing, FigureInputs, nothing_to_draw
from firsttoken.analysis.quantiles import smallest_pooled_n

TITLE = "Distribution of TTFT and of token gaps"
# Curves are drawn through these shares of the samples: every point of a million would only make the file large.
SHARES = np.unique(np.concatenate([np.linspace(0, 1, 201), np.linspace(0.95, 1, 101), np.linspace(0.99, 1, 41)]))
P99 = 0.99


def draw(inputs: FigureInputs) -> Drawing:
    """Draw pooled, untainted samples: TTFT at the shortest and the longest prompt, and all token gaps."""
    columns = ["approach", "prompt_length", "token_index", "latency_ns", "tainted"]
    samples = pd.read_parquet(inputs.files[0], columns=columns)
    samples = samples[samples["approach"].isin(inputs.shown)]
    n_tainted = int(samples["tainted"].sum())
    curves = _curves(samples[~samples["tainted"]])
    if curves.empty:
        return nothing_to_draw("No untainted samples to show.", curves, TITLE)
    panels = list(dict.fromkeys(curves["panel"]))
    drawn = inputs.drawn(curves)
    figure = style.new_figure(3.5 * len(panels) + 0.6, 3.9)
    for axes, panel in zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True):
        for entry in drawn:
            _draw(axes, curves[(curves["panel"] == panel) & (curves["approach"] == entry.name)], entry)
        axes.set(xscale="log", xlabel="ms (log scale)", title=panel)
        style.plain_log_ticks(axes.xaxis)
        axes.axhline(P99, color=style.MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
        axes.text(
            0.02, P99 - 0.01, "P99", transform=axes.get_yaxis_transform(), va="top", fontsize=8, color=style.MUTED
        )
    figure.axes[0].set(ylabel="Share of samples at or below", ylim=(0, 1.02))
    handles = [Line2D([], [], label=entry.label, **palette.line_style(entry.look, entry.emulated)) for entry in drawn]
    figure.legend(handles=handles, loc="outside upper left", ncols=min(len(drawn), 6), fontsize=8.5, handlelength=3)
    tainted = f"{n_tainted:,} tainted samples are left out." if n_tainted else ""
    marked = f"Markers on the dotted line: P99 (of {smallest_pooled_n(P99)} samples or more)."
    medians = curves[(curves["panel"] == panels[0]) & np.isclose(curves["share"], 0.5)].set_index("approach")
    values = style.list_values(medians["latency_ms"], inputs.shown, " ms")
    return Drawing(
        figure,
        curves,
        f"Cumulative curves in {len(panels)} panels. Medians of {panels[0]}: {values}.",
        palette.note(inputs.entries, drawn, marked, tainted),
    )


def _curves(samples: pd.DataFrame) -> pd.DataFrame:
    """Quantiles a panel and approach: columns panel, approach, n, share, latency_ms."""
    first = samples["token_index"] == 0
    panels = {
        f"TTFT, {length} prompt tokens": samples[first & (samples["prompt_length"] == length)]
        for length in samples["prompt_length"].agg(["min", "max"]).dropna().astype(int)
    }
    panels["Token gaps, all lengths"] = samples[~first]
    frames = [
        pd.DataFrame(
            {
                "panel": panel,
                "approach": name,
                "n": len(rows),
                "share": SHARES,
                "latency_ms": np.quantile(rows["latency_ns"].to_numpy() / 1e6, SHARES, method="median_unbiased"),
            }
        )
        for panel, part in panels.items()
        for name, rows in part.groupby("approach")
    ]
    columns = ["panel", "approach", "n", "share", "latency_ms"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def _draw(axes: Axes, rows: pd.DataFrame, entry: palette.Entry) -> None:
    if rows.empty:
        return
    keywords = palette.line_style(entry.look, entry.emulated)
    marker = {key: keywords.pop(key) for key in ("marker", "markerfacecolor", "markeredgecolor", "markersize")}
    axes.plot(rows["latency_ms"], rows["share"], **keywords)
    if rows["n"].iloc[0] >= smallest_pooled_n(P99):
        at_p99 = float(np.interp(P99, rows["share"], rows["latency_ms"]))
        axes.plot([at_p99], [P99], linestyle="none", color=entry.look.colour, zorder=5, **marker)
