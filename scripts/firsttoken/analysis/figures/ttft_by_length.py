"""TTFT by prompt length, with its 95 % interval over processes and the floor of this device."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes

from firsttoken.analysis.figures import palette, style
from firsttoken.analysis.figures.base import Drawing, FigureInputs, nothing_to_draw
from firsttoken.analysis.schemas import FLOORS, read_untyped

TITLE = "Time to first token by prompt length"
COLUMNS = ("ttft_mean_ms", "ttft_mean_low_ms", "ttft_mean_high_ms", "floor_ttft_ms", "ttft_share_of_floor")


def draw(inputs: FigureInputs) -> Drawing:
    """Draw `latency_by_length.csv`: mean TTFT a prompt length, a line an approach, lower is better."""
    rows = read_untyped(inputs.files[0])
    rows = rows[rows["approach"].isin(inputs.shown) & rows["ttft_mean_ms"].notna()]
    data = rows[["approach", "status", "prompt_length", "n_processes", "n_requests", *COLUMNS]]
    if data.empty:
        return nothing_to_draw("No approach has a TTFT that can be shown.", data, TITLE)
    figure = style.new_figure(8.2, 4.4)
    axes = figure.subplots()
    drawn = inputs.drawn(data)
    ends = [_draw(axes, data[data["approach"] == entry.name], entry) for entry in drawn]
    floor = data.groupby("prompt_length")["floor_ttft_ms"].max().dropna()  # that of 8-bit weights is lower
    if not floor.empty:
        axes.plot(floor.index, floor.to_numpy(), color=style.FLOOR_COLOUR, linestyle=(0, (1, 1)), linewidth=1.4)
        ends.append((float(floor.iloc[-1]), "floor of this device (one run)", style.FLOOR_COLOUR))
    axes.set(xlabel="Prompt length, tokens", ylabel="Mean TTFT, ms (lower is better)", title=TITLE)
    axes.set_xticks(sorted(data["prompt_length"].unique()))
    axes.set_ylim(bottom=0)
    style.label_ends(axes, ends)
    longest = data["prompt_length"].max()
    at_longest = data[data["prompt_length"] == longest].set_index("approach")["ttft_mean_ms"]
    values = style.list_values(at_longest, inputs.shown, " ms")
    return Drawing(
        figure,
        data,
        f"Line chart of mean TTFT over prompt length. At {longest} prompt tokens: {values}.",
        palette.note(
            inputs.entries, drawn, _interval_note(data), palette.doubt_note(drawn), _floor_note(inputs, drawn)
        ),
    )


def _draw(axes: Axes, rows: pd.DataFrame, entry: palette.Entry) -> tuple[float, str, str]:
    rows = rows.sort_values("prompt_length")
    lengths, means = rows["prompt_length"].to_numpy(), rows["ttft_mean_ms"].to_numpy()
    lows, highs = rows["ttft_mean_low_ms"].to_numpy(float), rows["ttft_mean_high_ms"].to_numpy(float)
    axes.fill_between(lengths, lows, highs, **palette.band_style(entry.look, entry.emulated))
    axes.plot(lengths, means, **palette.line_style(entry.look, entry.emulated))
    return float(means[-1]), entry.label, entry.look.colour


def _interval_note(data: pd.DataFrame) -> str:
    processes = int(data["n_processes"].min())
    if data["ttft_mean_low_ms"].isna().all():
        return f"No intervals: {processes} fresh processes are too few."
    return f"Bands: 95 % intervals over {processes} or more fresh processes."


def _floor_note(inputs: FigureInputs, drawn: Sequence[palette.Entry]) -> str:
    """The floors of TTFT and request mean ITL, and floor / median of each approach, over all prompt lengths."""
    names = [entry.name for entry in drawn]
    table = read_untyped(inputs.summary).set_index("approach").reindex(columns=list(FLOORS), index=names)
    floors = table[list(FLOORS[:2])].dropna()
    if floors.empty:
        return "No floor: the ceilings of this device were not measured."
    shares = [
        f"{entry.label} {_percent(ttft)} and {_percent(itl)}"
        for entry, ttft, itl in zip(drawn, table["ttft_share_of_floor"], table["itl_share_of_floor"], strict=True)
        if pd.notna(ttft)
    ]
    ttft_ms, itl_ms = floors.max()  # the model's: that of 8-bit weights is lower
    return (
        f"Floor of this device (one run), mean over prompt lengths: {ttft_ms:.3g} ms TTFT, {itl_ms:.3g} ms ITL; "
        f"floor / median: {', '.join(shares)}."
    )


def _percent(share: float) -> str:
    return "–" if pd.isna(share) else f"{100 * share:.2g} %"
