"""TTFT by prompt length, with its 95 % interval over processes and the floor of this device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from firsttoken.analysis.figures import floors, palette, style
from firsttoken.analysis.figures.base import FigureInputs

TITLE = "Time to first token by prompt length"
FLOOR = palette.Look(style.FLOOR_COLOUR, "", (0, (1, 1)))
COLUMNS = ("ttft_mean_ms", "ttft_mean_low_ms", "ttft_mean_high_ms", "floor_ttft_ms", "ttft_share_of_floor")


def plot(inputs: FigureInputs, out_svg: Path, out_csv: Path) -> None:
    """Draw `latency_by_length.csv`: mean TTFT a prompt length, a line an approach, lower is better."""
    (latency_csv,) = inputs.files
    entries = palette.read_entries(inputs.summary, inputs.order)
    shown = {entry.name: entry for entry in entries if entry.shown}
    rows = pd.read_csv(latency_csv)
    rows = rows[rows["approach"].isin(list(shown)) & rows["ttft_mean_ms"].notna()]
    data = rows[["approach", "status", "prompt_length", "n_processes", "n_requests", *COLUMNS]]
    if data.empty:
        style.save_message("No approach has a TTFT that can be shown.", data, out_svg, out_csv, title=TITLE)
        return
    with style.theme():
        figure = style.new_figure(8.2, 4.4)
        axes = figure.subplots()
        drawn = [name for name in shown if name in set(data["approach"])]
        looks = palette.looks(inputs.order)
        ends = [_draw(axes, data[data["approach"] == name], shown[name], looks[name]) for name in drawn]
        floor = data.groupby("prompt_length")["floor_ttft_ms"].first().dropna()
        if not floor.empty:
            axes.plot(floor.index, floor.to_numpy(), color=FLOOR.colour, linestyle=FLOOR.dash, linewidth=1.4)
            ends.append((float(floor.iloc[-1]), "floor of this device", FLOOR))
        axes.set(xlabel="Prompt length, tokens", ylabel="Mean TTFT, ms (lower is better)", title=TITLE)
        axes.set_xticks(sorted(data["prompt_length"].unique()))
        style.zero_based(axes, "y")
        style.label_ends(axes, ends)
        share = floors.note(inputs.summary, entries, drawn)
        style.add_note(figure, palette.note(entries, drawn, _interval_note(data), share))
        style.save(figure, data, out_svg, out_csv, title=TITLE, description=_describe(data, drawn))


def _draw(axes: Axes, rows: pd.DataFrame, entry: palette.Entry, look: palette.Look) -> tuple[float, str, palette.Look]:
    rows = rows.sort_values("prompt_length")
    lengths, means = rows["prompt_length"].to_numpy(), rows["ttft_mean_ms"].to_numpy()
    lows, highs = rows["ttft_mean_low_ms"].to_numpy(float), rows["ttft_mean_high_ms"].to_numpy(float)
    axes.fill_between(lengths, lows, highs, **palette.band_style(look, entry.emulated))
    axes.plot(lengths, means, **palette.line_style(look, entry.emulated))
    return float(means[-1]), entry.label, look


def _interval_note(data: pd.DataFrame) -> str:
    processes = int(data["n_processes"].min())
    if data["ttft_mean_low_ms"].isna().all():
        return f"No intervals: {processes} fresh processes are too few."
    return f"Bands: 95 % intervals over {processes} or more fresh processes."


def _describe(data: pd.DataFrame, drawn: Sequence[str]) -> str:
    longest = data["prompt_length"].max()
    at_longest = data[data["prompt_length"] == longest].set_index("approach")["ttft_mean_ms"]
    values = style.list_values(at_longest, drawn, " ms")
    return f"Line chart of mean TTFT over prompt length. At {longest} prompt tokens: {values}."
