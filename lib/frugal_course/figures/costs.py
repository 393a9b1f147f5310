"""Chapter 1's figures: where FLOPs go, what shots cost, what fits where, how long FLOPs take."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

from frugal_course.figures.style import (
    BLUE,
    BOX,
    GREEN,
    GREY,
    ORANGE,
    WIDE,
    apart,
    beside,
    duration,
    heading,
    panels,
    size,
)
from frugal_course.figures.style import flops as written

GIB = 2**30
LOOKS = ((BLUE, "-"), (GREEN, "--"), (ORANGE, "-."), (GREY, ":"))
SMALL = 0.001  # shares below this are drawn together


def flops_by_use(parts: pd.DataFrame, title: str) -> Figure:
    """What the FLOPs of a query are spent on: a panel per query, a bar per use, in per cent.

    parts: columns query, use, flops
    """
    count = parts["query"].nunique()
    rows = parts.groupby("query")["use"].nunique()
    figure, axes = panels(
        count,
        title,
        height=1.2 + 0.35 * rows.sum(),
        stacked=True,
        height_ratios=rows[parts["query"].unique()],
    )
    for at, (query, mine) in zip(axes, parts.groupby("query", sort=False), strict=True):
        flops = mine.set_index("use")["flops"]
        shares = flops / flops.sum()
        shown = shares[shares >= SMALL].sort_values()
        rest = pd.Series({"everything else": shares[shares < SMALL].sum()})
        shown = pd.concat([rest[rest > 0], shown])
        at.barh(shown.index, 100 * shown, color=BLUE, height=0.6)
        for use, share in shown.items():
            beside(at, f"{share:.1%}" if share >= SMALL else f"< {SMALL:.1%}", 100 * share, use)
        heading(at, f"{query}: {written(flops.sum())} FLOPs")
        at.set_xlim(0, 112 * shown.max())
        at.grid(visible=False)
    axes[-1].set_xlabel("share of the FLOPs, %")
    return figure


def _curves(at: Axes, curves: pd.DataFrame, x: str) -> None:
    """A line for each way on a log axis, labelled at its end; labels keep their distance."""
    ways = [way for _, way in curves.groupby("way", sort=False)]
    drawn = sorted(zip(ways, LOOKS, strict=False), key=lambda one: one[0]["flops"].iloc[-1])
    ends = [np.log10(mine["flops"].iloc[-1]) for mine, _ in drawn]
    gap = 0.06 * np.log10(curves["flops"].max() / curves["flops"].min())
    for (mine, (colour, line)), height in zip(drawn, apart(ends, gap), strict=True):
        at.plot(mine[x], mine["flops"], color=colour, linestyle=line, linewidth=2)
        beside(at, mine["way"].iloc[-1], mine[x].iloc[-1], 10**height, colour, right=9)


def cost_against_shots(
    curves: pd.DataFrame, limit: float, printed: Mapping[float, int], title: str
) -> Figure:
    """FLOPs of a query against the examples in front of it; a line for each way.

    curves:  columns way, shots, flops
    limit:   the most shots that the context of GPT-3 holds; marked where the curves reach it
    printed: shots by the FLOPs that the paper prints for them, marked by diamonds
    """
    figure, (at,) = panels(1, title, height=4.2, width=WIDE)
    _curves(at, curves, "shots")
    most = curves["shots"].max()
    if limit <= most:
        at.axvline(limit, color=GREY, linewidth=1, linestyle=":")
        where: Any = ("data", "axes fraction")
        text = "GPT-3's context\nends here"
        beside(at, text, limit, 0.25, GREY, right=5, va="baseline", xycoords=where, fontsize=9)
    for flops, shots in printed.items():
        at.plot(shots, flops, "D", markerfacecolor="white", color="black", zorder=3, clip_on=False)
    at.text(0.98, 0.6, "◇ printed by the paper", ha="right", transform=at.transAxes, size=9)
    ticks = MaxNLocator(5, integer=True).tick_values(0, most)
    at.set(
        yscale="log",
        xlim=(0, most),
        xticks=ticks[ticks <= most],
        xlabel="examples in front of the query (shots)",
        ylabel="FLOPs per query",
    )
    return figure


def sizes(items: pd.DataFrame, gpus: Mapping[str, float], title: str) -> Figure:
    """Bytes beside the memory of accelerators.

    items: columns what, bytes, note; gpus: memory in GiB by name
    """
    figure, (at,) = panels(1, title, height=4.2, width=WIDE)
    rows = range(len(items))[::-1]
    in_gib = items["bytes"] / GIB
    at.plot(in_gib, rows, "o", color=BLUE, markersize=8)
    for y, gib, note in zip(rows, in_gib, items["note"], strict=True):
        right = 8 if gib < 0.7 * in_gib.max() else -8
        beside(at, f"{size(gib)}{note and f' · {note}'}", gib, y, BLUE, right=right, bbox=BOX)
    memory: dict[float, list[str]] = {}
    for name, gib in gpus.items():
        memory.setdefault(gib, []).append(name.partition("-")[0].upper())
    for gib, names in memory.items():
        at.axvline(gib, color=GREY, linewidth=1, linestyle=":")
        text = f"{', '.join(dict.fromkeys(names))}: {gib:g}"
        over: Any = {"fontsize": 9, "rotation": 30, "va": "bottom", "annotation_clip": False}
        beside(at, text, gib, len(items) - 0.45, GREY, right=0, **over)
    at.set(
        xlim=(-0.02 * in_gib.max(), 1.1 * in_gib.max()),
        ylim=(-0.6, len(items) - 0.5),
        xlabel="GiB",
        yticks=list(rows),
        yticklabels=list(items["what"]),
    )
    return figure


def break_even(curves: pd.DataFrame, crossings: Mapping[int, float], title: str) -> Figure:
    """FLOPs spent in all against the queries answered; crossings are marked.

    curves: columns way, queries, flops; crossings: FLOPs by number of queries
    """
    figure, (at,) = panels(1, title, height=4.2, width=WIDE)
    _curves(at, curves, "queries")
    for i, (queries, flops) in enumerate(sorted(crossings.items())):
        at.plot(queries, flops, "X", color="black", markersize=8, zorder=3)
        # Neighbours may be close: one to the right below, the next to the left above.
        right, up = (-5, 7) if i % 2 else (5, -14)
        beside(at, f"{queries:,} queries", queries, flops, right=right, up=up)
    most = curves["queries"].max()
    at.set(
        xscale="log",
        yscale="log",
        xlim=(1, most),
        xticks=10 ** np.arange(np.log10(most) + 1),
        xlabel="queries answered",
        ylabel="FLOPs in all, training included",
    )
    return figure


def latency(runs: pd.DataFrame, title: str) -> Figure:
    """Measured seconds beside exact FLOPs: on the left against each other, on the right as FLOP/s.

    runs: a row a run, columns kind, batch, tokens, context, flops, seconds

    Every run is drawn; the filled mark is the median of a work's runs.
    """
    figure, (left, right) = panels(2, title, height=4.8, width=WIDE, width_ratios=[4, 3])
    names: list[str] = []
    colours: list[str] = []
    medians: list[tuple[float, float]] = []
    for shape, mine in runs.groupby(["kind", "batch", "tokens", "context"], sort=False):
        colour, marker = _look(*shape)
        row, middle, flops = -len(names), mine["seconds"].median(), mine["flops"].iloc[0]
        left.plot(mine["flops"], mine["seconds"], "_", color=colour, markersize=10, alpha=0.6)
        left.plot(flops, middle, marker, color=colour, markersize=7, alpha=0.85)
        rates = mine["flops"] / mine["seconds"]
        right.plot(rates, [row] * len(rates), "|", color=colour, markersize=12, alpha=0.6)
        right.plot(flops / middle, row, marker, color=colour, markersize=7)
        names.append(work_name(*shape).replace(" tokens", ""))
        colours.append(colour)
        medians.append((flops, middle))
    _rates(left, np.array(medians))
    left.set(xscale="log", yscale="log", xlabel="FLOPs, exact", ylabel="time of every run")
    heading(left, "time against FLOPs")
    right.set(
        xscale="log",
        xlabel="FLOP/s reached (G: 10⁹)",
        yticks=-np.arange(len(names)),
        yticklabels=names,
    )
    right.grid(visible=False)
    for axis, unit in ((left.xaxis, ""), (left.yaxis, "s"), (right.xaxis, "")):
        axis.set_major_locator(LogLocator(subs=(1, 3)))
        axis.set_major_formatter(EngFormatter(unit))
        axis.set_minor_formatter(NullFormatter())
    for label, colour in zip(right.get_yticklabels(), colours, strict=True):
        label.set_color(colour)
    heading(right, "the same, as a rate")
    right.tick_params(axis="y", labelsize=9)
    return figure


def _look(kind: str, batch: int, tokens: int, context: int) -> tuple[str, str]:
    if kind == "decode":
        return ORANGE, "D"
    return (GREEN, "^") if context else (BLUE, "o")


def work_name(kind: str, batch: int, tokens: int, context: int) -> str:
    """A work in words: "4 × 32 tokens at once"."""
    how = "one by one" if kind == "decode" else f"behind {context} cached" if context else "at once"
    return f"{batch} × {tokens} tokens {how}"


def _rates(at: Axes, medians: Any) -> None:
    """Lines of constant FLOP/s through the fastest and the slowest work."""
    flops, seconds = medians.T
    ends = np.array([flops.min() / 1.5, flops.max() * 1.5])
    for rate in ((flops / seconds).max(), (flops / seconds).min()):
        at.plot(ends, ends / rate, color=GREY, linewidth=1, linestyle=":", zorder=0)
        where: Any = {"right": -6, "up": 6, "va": "bottom", "fontsize": 9}
        beside(at, f"{rate / 1e9:.3g} GFLOP/s", ends[1], ends[1] / rate, GREY, **where)


def latency_sentence(works: pd.DataFrame, tokens: int) -> str:
    """What `latency` shows, with its numbers.

    works:  a row a work, columns kind, batch, tokens, context, flops, seconds, spread and
            flops_per_second
    tokens: the total at which the ways of doing the same work are compared
    """
    same = works[(works["batch"] * works["tokens"] == tokens) & (works["context"] == 0)]
    fast, slow = (same.loc[at] for at in (same["seconds"].idxmin(), same["seconds"].idxmax()))
    read = works[(works["kind"] == "prefill") & (works["context"] == 0)]["flops_per_second"] / 1e9
    written = works[works["kind"] == "decode"]["flops_per_second"] / 1e9
    return (
        f"{tokens} tokens take {duration(fast['seconds'])} as {_name(fast)} and "
        f"{duration(slow['seconds'])} as {_name(slow)}: "
        f"{slow['seconds'] / fast['seconds']:.1f} times as long for "
        f"{slow['flops'] / fast['flops']:.2f} times the FLOPs. Read at once, tokens reach "
        f"{read.min():.3g} to {read.max():.3g} GFLOP/s; one by one, {written.min():.3g} to "
        f"{written.max():.3g}, up to {read.max() / written.min():.3g} times less."
    )


def _name(work: "pd.Series[Any]") -> str:
    return work_name(work["kind"], work["batch"], work["tokens"], work["context"])
