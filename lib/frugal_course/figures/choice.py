"""Chapter 6's figures: what every way scores and costs, and how the choice moves."""

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.lib.stride_tricks import sliding_window_view

from frugal.costs.prices import usd
from frugal_course.figures.style import (
    BLUE,
    BOX,
    GREEN,
    GREY,
    ORANGE,
    WIDE,
    about,
    beside,
    panels,
)
from frugal_course.names import name as called

# Colour says which model answers; mark and line, which way. The sign stands for the mark in text.
LOOKS: dict[str, tuple[str, str, str, Any]] = {
    "api": (GREEN, "d", "♦", "-"),
    "zero-shot": (BLUE, "o", "●", "-"),
    "zero-shot-calibrated": (BLUE, "p", "⬟", (0, (8, 1))),
    "icl": (BLUE, "s", "■", "--"),
    "icl-many": (BLUE, "h", "⬢", (0, (8, 2, 1, 2, 1, 2))),
    "t-few": (BLUE, "D", "◆", "-."),
    "lora": (BLUE, "X", "✖", ":"),
    "linear-head": (ORANGE, "<", "◀", (0, (8, 1))),
    "setfit": (ORANGE, "*", "★", (0, (8, 2, 1, 2, 1, 2))),
    "small-full": (ORANGE, "^", "▲", "-"),
    "small-s4": (ORANGE, "v", "▼", "--"),
    "small-distilled": (ORANGE, "P", "✚", "-."),
    "pairs-head": (ORANGE, ">", "▶", ":"),
    "pairs-full": (ORANGE, "H", "⬣", (0, (3, 1, 1, 1))),
}
NOTHING = "nothing"  # what a budget buys that is too small
LOWEST = 1e-3  # USD: less is not drawn


def accuracy_against_dollars(
    options: pd.DataFrame, recommended: str | None, level: float, budget: float, title: str
) -> Figure:
    """What each way answers, with its interval, and all it costs: a row a way, the best on top.

    options: a row a way: strategy, accuracy, low, high, usd_total
    level:   accuracy of guessing; budget: USD, marked where it is within reach
    """
    figure, (at, costs) = panels(
        2,
        title,
        height=1.4 + 0.27 * len(options),
        width=WIDE,
        sharey=True,
        width_ratios=[3, 2],
    )
    rows = options.sort_values(["accuracy", "usd_total"], ascending=[True, False], kind="stable")
    for y, row in enumerate(rows.itertuples()):
        colour, mark, *_ = LOOKS[str(row.strategy)]
        at.hlines(y, row.low, row.high, color=colour, alpha=0.5, linewidth=2.5)
        at.plot(row.accuracy, y, mark, color=colour, markersize=8)
        costs.plot(row.usd_total, y, mark, color=colour, markersize=8)
        beside(costs, usd(row.usd_total), row.usd_total, y, colour, right=8, fontsize=9)
    at.set_yticks(range(len(rows)), [called(str(way)) for way in rows["strategy"]], fontsize=9)
    for label, way in zip(at.get_yticklabels(), rows["strategy"], strict=True):
        label.set_color(LOOKS[way][0])
        label.set_weight("bold" if way == recommended else "normal")
    at.axvline(level, color=GREY, linewidth=1, linestyle=":")
    beside(at, "chance", level, -0.85, GREY, right=3, fontsize=9)
    spent = rows["usd_total"].clip(lower=1e-9)
    low, high = float(spent.min()), float(spent.max())
    costs.set(xscale="log", xlim=(low / 2, max(high, low * 10) * 12))
    if low < budget < high * 12:
        costs.axvline(budget, color=GREY, linewidth=1, linestyle="--")
        beside(costs, f"budget {usd(budget)}", budget, -0.85, GREY, right=-4, fontsize=9)
    at.set(ylim=(-1.3, len(rows) - 0.4), xlabel="accuracy, with its 95 % interval")
    costs.set(xlabel="USD: labels, training, serving")
    costs.xaxis.set_minor_locator(NullLocator())
    for axes in (at, costs):
        axes.grid(visible=False, axis="y")
        axes.grid(visible=True, axis="x", color="#eeeeee")
    return figure


def costs_by_volume(
    options: pd.DataFrame, queries: Any, turns: Sequence[tuple[int, str]], title: str
) -> Figure:
    """What each way costs as queries grow; ways whose lines end together are named together.

    options: a row a way: strategy, usd_once, usd_per_query; queries: rising
    turns:   which way costs least, from which number of queries on; where it changes is marked
    """
    figure, (at,) = panels(1, title, height=4.2, width=WIDE)
    queries = np.asarray(queries, dtype=float)
    lines = {
        str(o.strategy): o.usd_once + queries * o.usd_per_query
        for o in options[["strategy", "usd_once", "usd_per_query"]].itertuples()
    }
    for way, dollars in lines.items():
        colour, _, _, line = LOOKS[way]
        at.plot(queries, dollars, color=colour, linestyle=line, linewidth=1.8, alpha=0.9)
    low = max(LOWEST, min(map(min, lines.values())))
    high = max(map(max, lines.values()))
    gap = (high / low) ** 0.062
    ends: list[tuple[float, list[str]]] = []
    for way in sorted(lines, key=lambda way: lines[way][-1]):
        if ends and lines[way][-1] < ends[-1][0] * gap and _colour(way) == _colour(ends[-1][1][0]):
            ends[-1][1].append(way)
        else:
            ends.append((float(lines[way][-1]), [way]))
    texts = [textwrap.fill(", ".join(map(called, ways)), 32) for _, ways in ends]
    rooms = [float(np.log10(gap)) * (text.count("\n") + 1.4) for text in texts]
    places: list[float] = []
    for (dollars, _), room in zip(ends, rooms, strict=True):
        least = places[-1] + room / 2 + rooms[len(places) - 1] / 2 if places else -np.inf
        places.append(max(float(np.log10(dollars)), least))
    for (_, ways), text, place in zip(ends, texts, places, strict=True):
        beside(at, text, queries[-1], 10**place, _colour(ways[0]), right=6, fontsize=9)
    for (_, before), (count, after) in itertools.pairwise(turns):
        if queries[0] <= count <= queries[-1]:
            way = options.set_index("strategy").loc[after]
            there = way["usd_once"] + count * way["usd_per_query"]
            at.plot(count, there, "X", color="black", markersize=9, zorder=3)
            less = f"{called(after)} costs less\nthan {called(before)}"
            text = f"{about(count)} queries: from here\n{less}"
            beside(at, text, count, there, right=4, up=-14, va="top", fontsize=9, bbox=BOX)
    at.set(xscale="log", yscale="log", xlabel="queries to serve", ylabel="USD in all")
    at.set_xlim(queries[0], queries[-1] * (queries[-1] / queries[0]) ** 0.5)
    at.set_ylim(low / gap, max(high, 10 ** places[-1]) * gap**2)
    at.set_xticks(10.0 ** np.arange(np.log10(queries[0]), np.log10(queries[-1]) + 0.01, 2))
    at.xaxis.set_minor_locator(NullLocator())
    return figure


def _colour(way: str) -> str:
    return LOOKS[way][0]


def choice_by_volume(choices: pd.DataFrame, here: tuple[float, float], title: str) -> Figure:
    """What a budget buys at each number of queries.

    choices: the way to take, a row a budget (USD), a column a number of queries, all rising
    here:    queries and budget that were asked for
    """
    figure, (at,) = panels(1, title, height=4.0, width=WIDE)
    at.set(xscale="log", yscale="log", xlabel="queries to serve", ylabel="budget, USD")
    _regions(at, choices)
    at.plot(*here, "*", color="black", markersize=14, markeredgecolor="white")
    beside(at, "asked", *here, right=9, up=-14, fontsize=9)
    return figure


def _regions(at: Axes, choices: pd.DataFrame) -> None:
    """Areas by what is chosen in them, named where they are widest."""
    known = [*LOOKS, NOTHING]
    tints: Mapping[str, Any] = {
        name: _tint(colour, share) for name, (colour, share) in _shares().items()
    }
    colours = ListedColormap([*tints.values(), "white"])
    codes = choices.map(known.index).to_numpy()
    x, y = (np.array(axis, dtype=float) for axis in (choices.columns, choices.index))
    at.pcolormesh(x, y, codes, cmap=colours, vmin=-0.5, vmax=len(known) - 0.5, shading="nearest")
    at.grid(visible=False)
    for code in np.unique(codes):
        name = known[code]
        if place := _roomy(codes == code):
            text = called(name) if name in LOOKS else "nothing fits"
            colour = LOOKS[name][0] if name in LOOKS else GREY
            dark = [0.65 * part for part in to_rgb(colour)]
            row, column = place
            beside(at, text, x[column], y[row], dark, right=0, ha="center", weight="bold")


def _shares() -> dict[str, tuple[str, float]]:
    """Of each way its colour, and how much of it an area has: more for each way of a model."""
    found: dict[str, tuple[str, float]] = {}
    for name, (colour, *_) in LOOKS.items():
        before = sum(other == colour for other, _ in found.values())
        found[name] = colour, 0.1 + 0.06 * before
    return found


def _roomy(area: Any) -> tuple[int, int] | None:
    """A place in the middle of an area that holds a name; of a narrow one, just in it."""
    rows, columns = area.shape
    for share in (1, 2, 3, 4):
        room = max(1, rows // (12 * share)), max(1, columns // (3 * share))
        fits = np.argwhere(sliding_window_view(area, room).all(axis=(2, 3)))
        if len(fits):
            row, column = fits[np.abs(fits - fits.mean(axis=0)).sum(axis=1).argmin()]
            return int(row + room[0] // 2), int(column + room[1] // 2)
    return None


def _tint(colour: str, share: float) -> tuple[float, ...]:
    """The colour on white, covering a share of it."""
    return tuple(1 - share * (1 - part) for part in to_rgb(colour))
