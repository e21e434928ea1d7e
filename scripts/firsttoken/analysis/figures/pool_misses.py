"""TTFT at prompt lengths that were not captured beforehand: the miss, the requests after it, and captured lengths."""

from __future__ import annotations

import seaborn as sns

from firsttoken.analysis.figures import style
from firsttoken.analysis.figures.base import Drawing, FigureInputs
from firsttoken.analysis.schemas import read_untyped

TITLE = "The price of a pool miss"
KINDS = {
    "miss": "miss: runs eagerly, asks for a capture",
    "after_capture": "same length, after its capture",
    "beforehand": "lengths captured beforehand",
}


def draw(inputs: FigureInputs) -> Drawing:
    """Draw every request of the experiment (columns kind, prompt_length, ttft_ms): a dot each, medians as bars."""
    data = read_untyped(inputs.files[0])
    medians = data.groupby("kind")["ttft_ms"].median()
    kinds = [kind for kind in KINDS if kind in medians.index]
    figure = style.new_figure(8.2, 0.6 * len(kinds) + 1.4)
    axes = figure.subplots()
    sns.stripplot(data, x="ttft_ms", y="kind", order=kinds, ax=axes, color="#0072b2", alpha=0.45, size=3.5, jitter=0.22)
    for place, kind in enumerate(kinds):
        axes.plot([medians[kind]] * 2, [place - 0.35, place + 0.35], color=style.INK, linewidth=2.2)
        axes.annotate(f"{medians[kind]:.3g} ms", (medians[kind], place - 0.37), ha="center", va="bottom", fontsize=8.5)
    axes.set_yticks(range(len(kinds)), [KINDS[kind] for kind in kinds])
    axes.set(xlabel="TTFT, ms (dot: one request, bar: median)", ylabel="", title=TITLE)
    axes.set_ylim(len(kinds) - 0.4, -0.75)
    axes.set_xlim(left=0)
    emulated = any(entry.emulated for entry in inputs.entries)
    told = "Emulated: no CUDA device, so hits and misses both run eagerly; no CUDA-graph figure." if emulated else ""
    values = style.list_values(medians, kinds, " ms")
    return Drawing(figure, data, f"Strip plot of TTFT. Medians: {values}.", told)
