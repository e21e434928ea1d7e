"""Where a token's time goes: what the host does and what the device does, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from firsttoken.analysis.figures import palette, style
from firsttoken.analysis.figures.base import Drawing, FigureInputs, nothing_to_draw

TITLE = "Where a token's time goes"
HOST = {"ipc_ms": "IPC", "queue_ms": "queue", "lookup_ms": "graph lookup", "launch_ms": "launch"}
DEVICE = {"device_ms": "step", "sampling_ms": "dynamic operations"}
PARTS = HOST | DEVICE
COLOURS = dict(zip(PARTS, palette.shades(len(PARTS)), strict=True))
REST, REST_COLOUR = "waits, or not recorded", "#d0d7de"
IN_SAMPLES = {part.removesuffix("_ms") + "_ns": part for part in PARTS}  # the samples are in nanoseconds
LEAST_LABELLED_SHARE = 0.12  # of the longest bar: narrower parts have no room for their number
TOKENS = {"first token": True, "next tokens": False}


def draw(inputs: FigureInputs) -> Drawing:
    """Draw the mean parts of the first and of the next tokens; means, since means add up and medians do not."""
    columns = ["approach", "token_index", "latency_ns", "tainted", *IN_SAMPLES]
    samples = pd.read_parquet(inputs.files[0], columns=columns)
    samples = samples[samples["approach"].isin(inputs.shown) & ~samples["tainted"]]
    for part in IN_SAMPLES:  # nullable integers in the file, plain floats here
        samples[part] = samples[part].to_numpy(dtype=float, na_value=np.nan)
    data = _means(samples)
    if data[list(PARTS)].isna().all(axis=None):
        return nothing_to_draw("No approach in this study tells how the latency of its tokens splits.", data, TITLE)
    drawn = inputs.drawn(data)
    figure = style.new_figure(9.2, 0.5 * len(drawn) + 1.7)
    tokens = [token for token in TOKENS if (data["token"] == token).any()]  # one new token has no next one
    panels = figure.subplots(1, len(tokens), sharey=True, squeeze=False)[0]
    for axes, token in zip(panels, tokens, strict=True):
        _draw(axes, data[data["token"] == token], drawn)
        axes.set(title=token.capitalize(), xlabel="Mean, ms")
    recorded = [part for part in PARTS if data[part].notna().any()]
    handles = [Patch(color=COLOURS[part], label=PARTS[part]) for part in recorded]
    handles.append(Patch(color=REST_COLOUR, label=REST))
    figure.legend(handles=handles, loc="outside upper left", ncols=8, fontsize=8, handlelength=1.2)
    read = "Each bar is as long as the mean latency. Two bars: host and device work at the same time."
    unsplit = data.set_index("approach")[list(PARTS)].isna().all(axis=1).groupby(level=0).all()
    silent = [entry.name for entry in drawn if unsplit[entry.name]]
    told = f"Gives no split: {', '.join(silent)}." if silent else ""
    first = data[data["token"] == "first token"].set_index("approach")["latency_ms"]
    values = style.list_values(first, inputs.shown, " ms")
    return Drawing(
        figure,
        data,
        f"Bars of a token's latency, one track for the host and one for the device. First token: {values}.",
        palette.note(inputs.entries, drawn, read, told, _graph_note(data)),
    )


def _means(samples: pd.DataFrame) -> pd.DataFrame:
    """A row an approach and kind of token: mean latency and mean parts, in milliseconds."""
    frames = []
    for token, is_first in TOKENS.items():
        rows = samples[(samples["token_index"] == 0) == is_first]
        means = rows.groupby("approach")[["latency_ns", *IN_SAMPLES]].mean() / 1e6
        means = means.rename(columns={"latency_ns": "latency_ms", **IN_SAMPLES})
        frames.append(means.assign(token=token, n=rows.groupby("approach").size()).reset_index())
    return pd.concat(frames, ignore_index=True)


def _draw(axes: Axes, data: pd.DataFrame, drawn: Sequence[palette.Entry]) -> None:
    """A bar for each track of an approach, each as long as its latency."""
    rows = {str(row["approach"]): row for row in data.to_dict("records")}
    longest = float(data["latency_ms"].max())
    for place, entry in enumerate(drawn):
        if entry.name not in rows:
            continue
        tracks = _tracks(rows[entry.name])
        height = 0.72 / len(tracks)
        for track, (name, widths) in enumerate(tracks.items()):
            y, left = place - 0.36 + height * (track + 0.5), 0.0
            for part, width in widths.items():
                axes.barh(
                    y, width, left=left, height=height, color=COLOURS.get(part, REST_COLOUR), edgecolor="white",
                    linewidth=0.5, hatch=palette.EMULATED_HATCH if entry.emulated else None,
                )  # fmt: skip
                if width > LEAST_LABELLED_SHARE * longest:
                    axes.text(
                        left + width / 2, y, style.three_digits(width), ha="center", va="center", fontsize=7,
                        color=style.INK, bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.6},
                    )  # fmt: skip
                left += width
            axes.annotate(
                name, (left, y), xytext=(3, 0), textcoords="offset points", va="center", fontsize=7, color=style.MUTED
            )
    style.approach_rows(axes, drawn)
    axes.set_xlim(0, longest * 1.16)


def _tracks(row: Mapping[Any, Any]) -> dict[str, dict[str, float]]:
    """Track -> part -> milliseconds. One track where nothing overlaps: one process on a CPU."""
    told = {part for part in PARTS if not np.isnan(row[part])}
    tracks: dict[str, Mapping[str, str]] = {"": PARTS}
    if "launch_ms" in told:
        tracks = {"host": HOST, "device": DEVICE}
    elif "ipc_ms" in told and "device_ms" in told:
        tracks = {"host": HOST, "step": DEVICE}
    widths = {name: {part: row[part] for part in parts if part in told} for name, parts in tracks.items()}
    return {name: found | {REST: max(row["latency_ms"] - sum(found.values()), 0.0)} for name, found in widths.items()}


def _graph_note(data: pd.DataFrame) -> str:
    """What a graph changes for a next token, by the two approaches that differ in it alone."""
    rows = {str(row["approach"]): row for row in data[data["token"] == "next tokens"].to_dict("records")}
    for eager, graph in (("eager_loop", "cuda_graph_1p"), ("jit_only", "jit_cuda_1p")):
        if {eager, graph} <= set(rows) and not np.isnan(rows[eager]["launch_ms"] + rows[graph]["launch_ms"]):
            return (
                f"Without a graph the host launches operations for {rows[eager]['launch_ms']:.3g} of "
                f"{rows[eager]['latency_ms']:.3g} ms a token ({eager}); one replay takes it "
                f"{rows[graph]['launch_ms']:.2g} ms ({graph}). Gaps between the operations are not in it; "
                "the experiment `launches` draws them."
            )
    return ""
