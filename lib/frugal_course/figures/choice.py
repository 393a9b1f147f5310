"""Chapter 6's figures: what every way scores and costs, and how the choice moves."""

import itertools
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
    GREEN,
    GREY,
    ORANGE,
    about,
    across,
    apart,
    beside,
    heading,
    panels,
)

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
STEP, NAME = 0.017, 0.25  # of the axis: what two marks keep between them, what a name takes
NOTHING = "nothing"  # what a budget buys that is too small


def accuracy_against_dollars(
    options: pd.DataFrame, recommended: str | None, level: float, budget: float, title: str
) -> Figure:
    """What each way answers, with its interval, against all it costs.

    options: a row a way: strategy, accuracy, low, high, usd_total
    level:   accuracy of guessing; budget: USD, marked where it is within reach

    Of ways that cost nearly the same the dearer ones move to the right, as far as it takes; their
    names say the dollars.
    """
    figure, (at,) = panels(1, title, height=4.6, width=9.5)
    x = np.log10(options["usd_total"].to_numpy(dtype=float))
    span = max(1.0, float(np.ptp(x)))
    left, right = float(x.min()) - 0.12 * span, float(x.max()) + 0.45 * span
    at.set(xscale="log", xlim=(10**left, 10**right))
    lowest, highest = min(options["low"].min(), level), options["high"].max()
    at.set_ylim(lowest - 0.06, min(1.02, highest + 0.05))
    groups = _side_by_side(x, STEP * (right - left))
    for group, following in itertools.zip_longest(groups, groups[1:]):
        room = right if following is None else min(following.values())
        on_left = following is not None and room - max(group.values()) < NAME * (right - left)
        _group(at, options, group, on_left, recommended)
    if left < np.log10(max(budget, 1e-12)) < right:
        at.axvline(budget, color=GREY, linewidth=1, linestyle="--")
        where: Any = {"va": "top", "fontsize": 9, "xycoords": ("data", "axes fraction")}
        beside(at, f"budget {usd(budget)}", budget, 1, GREY, right=-4, up=-2, **where)
    across(at, level)
    at.set(
        xlabel="USD in all: labels, training, serving", ylabel="accuracy, with its 95 % interval"
    )
    return figure


def _side_by_side(x: Any, step: float) -> list[dict[int, float]]:
    """Places of `x`, each moved to the right as far as it takes to be a step from the one before.

    Groups of neighbours that are a step apart, from left to right: where each number of x stands.
    """
    found: list[dict[int, float]] = []
    for i in np.argsort(x, kind="stable").tolist():
        last = max(found[-1].values()) if found else -np.inf
        if x[i] < last + 1.5 * step:
            found[-1][i] = max(x[i], last + step)
        else:
            found.append({i: x[i]})
    return found


def _group(
    at: Axes,
    options: pd.DataFrame,
    group: Mapping[int, float],
    on_left: bool,
    recommended: str | None,
) -> None:
    """Marks at powers of ten, and beside them all their names, which keep their distance."""
    for i, place in group.items():
        row = options.iloc[i]
        colour, mark, *_ = LOOKS[row["strategy"]]
        at.vlines(10**place, row["low"], row["high"], color=colour, alpha=0.5)
        at.plot(10**place, row["accuracy"], mark, color=colour, markersize=9)
    edge = 10 ** (min if on_left else max)(group.values())
    bottom, top = at.get_ylim()
    gap = (top - bottom) / 17
    order = sorted(group, key=lambda i: options["accuracy"].iloc[i])
    heights = apart(options["accuracy"].iloc[order].tolist(), gap, top=top - gap / 2)
    for i, height in zip(order, heights, strict=True):
        row = options.iloc[i]
        colour, _, sign, _ = LOOKS[row["strategy"]]
        text = f"{sign} {row['strategy']}, {usd(row['usd_total'])}"
        weight = "bold" if row["strategy"] == recommended else "normal"
        beside(at, text, edge, height, colour, right=-10 if on_left else 10, weight=weight)


def choice_by_volume(
    options: pd.DataFrame,
    choices: pd.DataFrame,
    turns: Sequence[tuple[int, str]],
    here: tuple[float, float],
    title: str,
) -> Figure:
    """What each way costs as queries grow, and what a budget then buys.

    options: a row a way: strategy, usd_once, usd_per_query
    choices: the way to take, a row a budget (USD), a column a number of queries, all rising
    turns:   which way costs least, from which number of queries on; where it changes is marked
    here:    queries and budget that were asked for
    """
    figure, (costs, buys) = panels(2, title, height=4.8, width=12, width_ratios=[1.25, 1])
    for axes in (costs, buys):
        axes.set(xscale="log", yscale="log", xlabel="queries to serve")
    queries = np.array(choices.columns, dtype=float)
    _costs(costs, options, queries, turns)
    _regions(buys, choices)
    buys.plot(*here, "*", color="black", markersize=14, markeredgecolor="white")
    beside(buys, "asked", *here, right=8, up=-14, fontsize=9)
    costs.set_ylabel("USD in all")
    buys.set_ylabel("budget, USD")
    heading(costs, "what each way costs")
    heading(buys, "the most accurate way it pays for")
    return figure


def _costs(at: Axes, options: pd.DataFrame, queries: Any, turns: Sequence[tuple[int, str]]) -> None:
    lines = {
        o.strategy: o.usd_once + queries * o.usd_per_query
        for o in options[["strategy", "usd_once", "usd_per_query"]].itertuples()
    }
    low, high = min(map(min, lines.values())), max(map(max, lines.values()))
    gap = (high / low) ** 0.055
    drawn = sorted(lines.items(), key=lambda line: line[1][-1])
    ends = [float(np.log10(dollars[-1])) for _, dollars in drawn]
    heights = 10 ** np.array(apart(ends, float(np.log10(gap)), down=0.5))
    for (strategy, dollars), height in zip(drawn, heights, strict=True):
        colour, _, _, line = LOOKS[strategy]
        at.plot(queries, dollars, color=colour, linestyle=line, linewidth=1.8, alpha=0.9)
        beside(at, strategy, queries[-1], height, colour, right=6)
    for (_, before), (count, after) in itertools.pairwise(turns):
        if queries[0] <= count <= queries[-1]:
            way = options.set_index("strategy").loc[after]
            there = way["usd_once"] + count * way["usd_per_query"]
            at.plot(count, there, "X", color="black", markersize=9, zorder=3)
            text = f"{about(count)} queries: from here\n{after} costs less\nthan {before}"
            beside(at, text, count, there, right=6, up=-12, va="top", fontsize=9)
    at.set_xlim(queries[0], queries[-1] * (queries[-1] / queries[0]) ** 0.38)
    at.set_ylim(low / gap, max(high, heights[-1]) * gap)  # a name outside would not be drawn
    at.set_xticks(10.0 ** np.arange(np.log10(queries[0]), np.log10(queries[-1]) + 0.01, 2))
    at.xaxis.set_minor_locator(NullLocator())


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
            text, colour = (name, LOOKS[name][0]) if name in LOOKS else ("nothing fits", GREY)
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


def turns_sentence(turns: Sequence[tuple[int, str]], evens: pd.DataFrame, chosen: str) -> str:
    """Which way costs least up to which volume, and where the chosen one pays off.

    turns: as in `choice_by_volume`; evens: cheaper_below, cheaper_from, queries
    """
    parts = [f"{turns[0][1]} costs least"]
    parts += [f"from {about(count)} queries on, {name}" for count, name in turns[1:]]
    text = "; ".join(parts) + "."
    mine = evens[evens["cheaper_from"] == chosen]
    if len(mine):
        paid = "; ".join(
            f"{r.cheaper_below} from {about(r.queries)} queries on" for r in mine.itertuples()
        )
        text += f" {chosen} costs less than {paid}."
    lost = evens[evens["cheaper_below"] == chosen]
    if len(lost):
        paid = "; ".join(f"{r.cheaper_from} from {about(r.queries)} on" for r in lost.itertuples())
        text += f" It costs more than {paid}."
    return text
