"""Where a token's time goes: IPC, queue, lookup, launch, device, sampling, and what none of them explains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from firsttoken.analysis.figures import floors, palette, style
from firsttoken.analysis.figures.base import FigureInputs

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


def plot(inputs: FigureInputs, out_svg: Path, out_csv: Path) -> None:
    """Draw the mean parts of the first and of the next tokens; means, since means add up and medians do not."""
    (samples_parquet,) = inputs.files
    entries = palette.read_entries(inputs.summary, inputs.order)
    shown = {entry.name: entry for entry in entries if entry.shown}
    samples = pd.read_parquet(
        samples_parquet, columns=["approach", "token_index", "latency_ns", "tainted", *IN_SAMPLES]
    )
    samples = samples[samples["approach"].isin(list(shown)) & ~samples["tainted"]]
    for part in IN_SAMPLES:  # nullable integers in the file, plain floats here
        samples[part] = samples[part].to_numpy(dtype=float, na_value=np.nan)
    data = _means(samples)
    split = data[list(PARTS)].notna().any(axis=None) if not data.empty else False
    if not split:
        message = "No approach in this study tells how the latency of its tokens splits."
        style.save_message(message, data, out_svg, out_csv, title=TITLE)
        return
    drawn = [entry for name, entry in shown.items() if name in set(data["approach"])]
    with style.theme():
        figure = style.new_figure(9.2, 0.42 * len(drawn) + 1.7)
        panels = figure.subplots(1, 2, sharey=True)
        for axes, token in zip(panels, TOKENS, strict=True):
            _draw(axes, data[data["token"] == token].set_index("approach"), drawn)
            axes.set(title=token.capitalize(), xlabel="Mean, ms")
        handles, labels = panels[0].get_legend_handles_labels()
        unique = dict(zip(labels, handles, strict=True))
        figure.legend(unique.values(), unique.keys(), loc="outside upper left", ncols=8, fontsize=8, handlelength=1.2)
        read = (
            "On a GPU the launch runs ahead of the device, so the parts may add up to more than the latency (diamond)."
        )
        silent = [entry.name for entry in drawn if _is_silent(data, entry.name)]
        told = f"Gives no split: {', '.join(silent)}." if silent else ""
        names = [entry.name for entry in drawn]
        style.add_note(figure, palette.note(entries, names, read, told, floors.note(inputs.summary, entries, names)))
        style.save(
            figure,
            palette.with_status(data, entries),
            out_svg,
            out_csv,
            title=TITLE,
            description=_describe(data, drawn),
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


def _is_silent(data: pd.DataFrame, name: str) -> bool:
    return bool(data.loc[data["approach"] == name, list(PARTS)].isna().all(axis=None))


def _draw(axes: Axes, data: pd.DataFrame, drawn: Sequence[palette.Entry]) -> None:
    shades = [*palette.shades(len(PARTS)), "#d0d7de"]
    longest = max(_bar_length(row) for row in style.as_rows(data))
    for place, entry in enumerate(drawn):
        if entry.name not in data.index:
            continue
        row, left = data.loc[entry.name].to_dict(), 0.0
        hatch = palette.EMULATED_HATCH if entry.emulated else None
        for part, name, shade in zip([*PARTS, "other_ms"], [*PARTS.values(), "not told apart"], shades, strict=True):
            width = float(row[part]) if pd.notna(row[part]) else 0.0
            axes.barh(place, width, left=left, height=0.62, color=shade, edgecolor="white", hatch=hatch, label=name)
            if width > LEAST_LABELLED_SHARE * longest:
                style.bar_number(axes, left, width, place, style.three_digits(width))
            left += width
        axes.plot(
            [row["latency_ms"]], [place], "D", linestyle="none", color=style.INK, markerfacecolor="white",
            markersize=5.5, label="mean latency",
        )  # fmt: skip
    axes.set_yticks(range(len(drawn)), [entry.label for entry in drawn])
    axes.set_ylim(len(drawn) - 0.4, -0.6)
    axes.set_xlim(0, 1.06 * longest)
    axes.grid(axis="y", visible=False)


def _bar_length(row: dict[str, float]) -> float:
    """How far a row's bar or its diamond reaches."""
    return max(float(np.nansum([row[part] for part in [*PARTS, "other_ms"]])), row["latency_ms"])


def _describe(data: pd.DataFrame, drawn: Sequence[palette.Entry]) -> str:
    first = data[data["token"] == "first token"].set_index("approach")
    values = style.list_values(first["latency_ms"], [entry.name for entry in drawn], " ms")
    return f"Stacked bars of the parts of a token's latency. Mean latency of the first token: {values}."
