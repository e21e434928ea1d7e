"""Where a token's time goes: IPC, queue, lookup, launch, device, sampling, and what none of them explains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from firsttoken.analysis.figures import floors, palette, style
from firsttoken.analysis.figures.base import Drawing, FigureInputs, nothing_to_draw

TITLE = "Where a token's time goes"
PARTS = {
    "ipc_ms": "IPC",
    "queue_ms": "queue",
    "lookup_ms": "graph lookup",
    "launch_ms": "launch",
    "device_ms": "device",
    "sampling_ms": "sampling",
}
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
    figure = style.new_figure(9.2, 0.42 * len(drawn) + 1.7)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, token in zip(panels, TOKENS, strict=True):
        _draw(axes, data[data["token"] == token].set_index("approach"), drawn)
        axes.set(title=token.capitalize(), xlabel="Mean, ms")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=8, fontsize=8, handlelength=1.2)
    read = "On a GPU the launch runs ahead of the device, so the parts may add up to more than the latency (diamond)."
    unsplit = data.set_index("approach")[list(PARTS)].isna().all(axis=1).groupby(level=0).all()
    silent = [entry.name for entry in drawn if unsplit[entry.name]]
    told = f"Gives no split: {', '.join(silent)}." if silent else ""
    first = data[data["token"] == "first token"].set_index("approach")["latency_ms"]
    values = style.list_values(first, inputs.shown, " ms")
    return Drawing(
        figure,
        data,
        f"Stacked bars of the parts of a token's latency. Mean latency of the first token: {values}.",
        palette.note(inputs.entries, drawn, read, told, floors.note(inputs, drawn)),
    )


def _means(samples: pd.DataFrame) -> pd.DataFrame:
    """A row an approach and kind of token: mean latency, mean parts and what is left, in milliseconds."""
    frames = []
    for token, is_first in TOKENS.items():
        rows = samples[(samples["token_index"] == 0) == is_first]
        means = rows.groupby("approach")[["latency_ns", *IN_SAMPLES]].mean() / 1e6
        means = means.rename(columns={"latency_ns": "latency_ms", **IN_SAMPLES})
        rest = means["latency_ms"] - means[list(PARTS)].sum(axis=1)
        frames.append(
            means.assign(token=token, n=rows.groupby("approach").size(), other_ms=rest.clip(lower=0)).reset_index()
        )
    return pd.concat(frames, ignore_index=True)


def _draw(axes: Axes, data: pd.DataFrame, drawn: Sequence[palette.Entry]) -> None:
    parts = PARTS | {"other_ms": "not told apart"}
    shades = [*palette.shades(len(PARTS)), "#d0d7de"]
    longest = float(np.maximum(data[list(parts)].sum(axis=1), data["latency_ms"]).max())
    style.stacked_bars(axes, data, drawn, parts, shades, longest, LEAST_LABELLED_SHARE, style.three_digits)
    latencies = data["latency_ms"].reindex([entry.name for entry in drawn])
    axes.plot(
        latencies, range(len(drawn)), "D", linestyle="none", color=style.INK, markerfacecolor="white",
        markersize=5.5, label="mean latency",
    )  # fmt: skip
