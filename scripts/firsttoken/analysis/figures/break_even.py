"""After how many requests has a faster approach paid for its longer start?"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from firsttoken.analysis.figures import palette, style
from firsttoken.analysis.figures.base import Drawing, FigureInputs, nothing_to_draw
from firsttoken.analysis.schemas import read_untyped

TITLE = "Break-even: time spent until a request is answered"
BASE = "baseline"
MOST_REQUESTS = 10_000_000  # the axis ends here at the latest
COLUMNS = ["approach", "status", "ready_s", "ttft_mean_ms", "itl_request_mean_ms"]


def draw(inputs: FigureInputs) -> Drawing:
    """Draw ready time plus requests times mean request time, and where a line falls under the baseline's.

    The time of a request is mean TTFT plus `new_tokens - 1` request mean ITLs, as the summary table gives them.
    """
    data = _costs(read_untyped(inputs.summary), inputs.shown, inputs.new_tokens)
    if BASE not in set(data["approach"]) or len(data) < 2:
        message = "No break-even: it needs the set-up and request times of the baseline and of another approach."
        return nothing_to_draw(message, data, TITLE)
    drawn = inputs.drawn(data)
    figure = style.new_figure(8.2, 4.4)
    axes = figure.subplots()
    furthest = data["break_even_requests"].replace(math.inf, np.nan).max()
    last = min(max(1000.0, 10 * (furthest if np.isfinite(furthest) else 0)), MOST_REQUESTS)
    ends = [_draw(axes, row, entry, last) for (_, row), entry in zip(data.iterrows(), drawn, strict=True)]
    axes.set(xscale="log", yscale="log", xlim=(1, last), title=TITLE)
    style.plain_log_ticks(axes.xaxis)
    style.plain_log_ticks(axes.yaxis)
    axes.set(xlabel="Requests answered since the process started (log scale)", ylabel="Seconds spent (log scale)")
    style.label_ends(axes, ends)
    said = _sentence(data)
    return Drawing(figure, data, said, palette.note(inputs.entries, drawn, said))


def _costs(summary: pd.DataFrame, names: list[str], new_tokens: int) -> pd.DataFrame:
    """COLUMNS, the seconds of a request, and the requests until the baseline is overtaken (inf: never, 0: at once)."""
    rows = summary.set_index("approach").reindex(names).reset_index()[COLUMNS]
    gaps_ms = rows["itl_request_mean_ms"] * (new_tokens - 1) if new_tokens > 1 else 0.0
    rows["request_s"] = (rows["ttft_mean_ms"] + gaps_ms) / 1e3
    rows = rows[rows["ready_s"].notna() & rows["request_s"].notna()].reset_index(drop=True)
    if BASE not in set(rows["approach"]):
        return rows.assign(break_even_requests=np.nan)
    base = rows.set_index("approach").loc[BASE]
    saved_s = base["request_s"] - rows["request_s"]
    owed_s = rows["ready_s"] - base["ready_s"]
    requests = np.where(saved_s > 0, np.maximum(owed_s / saved_s.where(saved_s > 0, 1.0), 0.0), math.inf)
    return rows.assign(break_even_requests=np.where(rows["approach"] == BASE, np.nan, requests))


def _draw(axes: Axes, row: pd.Series, entry: palette.Entry, last: float) -> tuple[float, str, str]:
    look = entry.look
    requests = np.geomspace(1, last, 200)
    seconds = row["ready_s"] + requests * row["request_s"]
    axes.plot(requests, seconds, color=look.colour, linestyle=look.dash, linewidth=1.7)
    crossing = row["break_even_requests"]
    if np.isfinite(crossing) and 1 <= crossing <= last:
        at = row["ready_s"] + crossing * row["request_s"]
        face = "white" if entry.emulated else look.colour
        axes.plot([crossing], [at], look.marker, color=look.colour, markerfacecolor=face, markersize=9, zorder=5)
    words = f": {_crossing(crossing)}" if entry.name != BASE else ""
    return float(seconds[-1]), f"{entry.label}{words}", look.colour


def _crossing(requests: float) -> str:
    """When the baseline is overtaken, in words."""
    return (
        "never, not faster"
        if math.isinf(requests)
        else "at once"
        if requests == 0
        else f"after {math.ceil(requests):,}"
    )


def _sentence(data: pd.DataFrame) -> str:
    others = data[data["approach"] != BASE]
    when = dict(zip(others["approach"], others["break_even_requests"], strict=True))
    said = ", ".join(f"{name} {_crossing(requests)}" for name, requests in when.items())
    if all(math.isinf(requests) for requests in when.values()):
        return "By the means, the baseline is never overtaken: no other approach answers a request sooner."
    return f"Requests until the baseline is overtaken, start included: {said}."
