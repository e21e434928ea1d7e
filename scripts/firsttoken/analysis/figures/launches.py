"""One next token, launch by launch: the host's launches and what the device ran, without a graph and with one."""

from __future__ import annotations

import numpy as np
import pandas as pd

from firsttoken.analysis.figures import style
from firsttoken.analysis.figures.base import Drawing, FigureInputs, nothing_to_draw
from firsttoken.analysis.schemas import read_untyped

TITLE = "A next token, launch by launch"
COLOURS = {"host": "#0072b2", "device": "#d55e00"}
NAME = 60  # characters of a kernel's name, which may have hundreds of template arguments


def draw(inputs: FigureInputs) -> Drawing:
    """Draw the experiment (columns approach, track, name, start_us, duration_us): a bar a launch and a bar a kernel."""
    data = read_untyped(inputs.files[0])
    if data.empty:
        return nothing_to_draw("No launches: on a CPU the host runs every operation itself.", data, TITLE)
    data["name"] = data["name"].str.slice(0, NAME)
    tracks = [(name, track) for name in data["approach"].unique() for track in COLOURS]
    figure = style.new_figure(9.2, 0.62 * len(tracks) + 1.1)
    axes = figure.subplots()
    told = []
    for place, (name, track) in enumerate(tracks):
        rows = data[(data["approach"] == name) & (data["track"] == track)].sort_values("start_us")
        bars = rows[["start_us", "duration_us"]].to_numpy(float) / 1e3
        # As pixels: a model has thousands of kernels, and each would be a path.
        axes.broken_barh(list(map(tuple, bars)), (place - 0.2, 0.55), color=COLOURS[track], lw=0.2, rasterized=True)
        words = _words(track, rows)
        axes.annotate(words, (0, place - 0.25), va="bottom", fontsize=8.5)
        told.append(f"{name}, {track}: {words}")
    axes.set_yticks(range(len(tracks)), [f"{name}, {track}" for name, track in tracks])
    axes.set_ylim(len(tracks) - 0.4, -0.75)
    axes.grid(axis="y", visible=False)
    axes.set(xlabel="Time from the token's first launch, ms", title=TITLE)
    axes.set_xlim(left=0)
    note = "One token of each, under torch's profiler, which takes time for each launch; latencies are in the tables."
    return Drawing(figure, data, f"Timelines of a next token. {'; '.join(told)}.", note)


def _words(track: str, rows: pd.DataFrame) -> str:
    """What a track shows: how many, over how long, and how much of that time the device worked."""
    if rows.empty:
        return "nothing"
    starts, ends = rows["start_us"].to_numpy(float), (rows["start_us"] + rows["duration_us"]).to_numpy(float)
    span_ms = (ends.max() - starts.min()) / 1e3
    if track == "host":
        return f"{len(rows)} launch{'' if len(rows) == 1 else 'es'} in {span_ms:.3g} ms"
    idle_us = np.maximum(starts[1:] - np.maximum.accumulate(ends)[:-1], 0).sum()
    share = 1 - idle_us / 1e3 / span_ms if span_ms else 1.0
    return f"{len(rows)} kernels and copies in {span_ms:.3g} ms, at work for {100 * share:.0f} % of it"
