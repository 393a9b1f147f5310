"""The capstone's figures: what every way scores and costs, and how the choice moves."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure

from frugal.costs.prices import usd
from frugal.show.style import BLUE, GREY, ORANGE, chance, heading, panels

# Colour says which model answers; mark and line, which way. The sign stands for the mark in text.
LOOKS = {
    "zero-shot": (BLUE, "o", "●", "-"),
    "icl": (BLUE, "s", "■", "--"),
    "t-few": (BLUE, "D", "◆", "-."),
    "small-full": (ORANGE, "^", "▲", "-"),
    "small-s4": (ORANGE, "v", "▼", "--"),
    "small-distilled": (ORANGE, "P", "✚", "-."),
}
NEAR = 0.03  # of the axis: dollars that are nearer to each other stand side by side
NOTHING = "nothing"  # what a budget buys that is too small


def accuracy_against_dollars(
    options: pd.DataFrame, recommended: str | None, level: float, budget: float, title: str
) -> Figure:
    """What each way answers, with its interval, against all it costs.

    options: a row a way: strategy, accuracy, low, high, usd_total
    level:   accuracy of guessing; budget: USD, marked where it is within reach

    Ways that cost nearly the same stand side by side; their names say the dollars.
    """
    figure, (at,) = panels(1, title, height=4.6)
    figure.set_figwidth(9.5)
    x = np.log10(options["usd_total"].to_numpy(dtype=float))
    span = max(1.0, float(np.ptp(x)))
    left, right = float(x.min()) - 0.12 * span, float(x.max()) + 0.45 * span
    at.set(xscale="log", xlim=(10**left, 10**right))
    for cluster in _clusters(x, NEAR * (right - left)):
        _cluster(at, options.iloc[cluster], x[cluster].mean(), 0.022 * (right - left), recommended)
    lowest, highest = min(options["low"].min(), level), options["high"].max()
    at.set_ylim(lowest - 0.06, min(1.02, highest + 0.05))
    if left < np.log10(max(budget, 1e-12)) < right:
        at.axvline(budget, color=GREY, linewidth=1, linestyle="--")
        at.annotate(
            f"budget {usd(budget)}",
            (budget, 1),
            xycoords=("data", "axes fraction"),
            xytext=(-4, -2),
            textcoords="offset points",
            color=GREY,
            fontsize=9,
            ha="right",
            va="top",
        )
    chance(at, level)
    at.set(
        xlabel="USD in all: labels, training, serving", ylabel="accuracy, with its 95 % interval"
    )
    return figure


def _clusters(x: Any, near: float) -> list[list[int]]:
    """Places of `x` that are no further apart than `near`, from left to right."""
    found: list[list[int]] = []
    for i in np.argsort(x, kind="stable").tolist():
        if found and x[i] - x[found[-1][-1]] <= near:
            found[-1].append(i)
        else:
            found.append([i])
    return found


def _cluster(
    at: Axes, mine: pd.DataFrame, middle: float, step: float, recommended: str | None
) -> None:
    """Marks side by side around `middle` (a power of ten), their names to the right of them all."""
    first = middle - step * (len(mine) - 1) / 2
    heights = mine["accuracy"].to_numpy()
    for place, row in enumerate(mine.itertuples()):
        colour, mark, *_ = LOOKS[str(row.strategy)]
        there = 10 ** (first + place * step)
        at.vlines(there, row.low, row.high, color=colour, alpha=0.5)
        at.plot(there, row.accuracy, mark, color=colour, markersize=9)
    edge = 10 ** (first + (len(mine) - 1) * step)
    gap, height = 0.045, -1.0
    for place in np.argsort(heights, kind="stable"):
        row = mine.iloc[place]
        colour, _, sign, _ = LOOKS[row["strategy"]]
        height = max(heights[place], height + gap)
        at.annotate(
            f"{sign} {row['strategy']}, {usd(row['usd_total'])}",
            (edge, height),
            xytext=(10, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontsize=10,
            weight="bold" if row["strategy"] == recommended else "normal",
        )


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
    figure, (costs, buys) = panels(2, title, height=4.8, width_ratios=[1.25, 1])
    figure.set_figwidth(12)
    queries = np.array(choices.columns, dtype=float)
    _costs(costs, options, queries, turns)
    _regions(buys, choices)
    buys.plot(*here, "*", color="black", markersize=14, markeredgecolor="white")
    buys.annotate("asked", here, xytext=(8, 6), textcoords="offset points", weight="bold")
    for axes in (costs, buys):
        axes.set(xscale="log", yscale="log", xlabel="queries to serve")
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
    gap, height = (high / low) ** 0.055, 0.0
    for strategy, usd_total in sorted(lines.items(), key=lambda line: line[1][-1]):
        colour, _, _, line = LOOKS[strategy]
        at.plot(queries, usd_total, color=colour, linestyle=line, linewidth=1.8, alpha=0.9)
        height = max(usd_total[-1], height * gap)
        at.annotate(
            strategy,
            (queries[-1], height),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontsize=10,
        )
    for (_, before), (count, after) in itertools.pairwise(turns):
        if queries[0] <= count <= queries[-1]:
            way = options.set_index("strategy").loc[after]
            there = way["usd_once"] + count * way["usd_per_query"]
            at.plot(count, there, "X", color="black", markersize=9, zorder=3)
            at.annotate(
                f"{count:,} queries: from here\n{after} costs less\nthan {before}",
                (count, there),
                xytext=(-8, 10),
                textcoords="offset points",
                ha="right",
                fontsize=9,
            )
    at.set_xlim(queries[0], queries[-1] * (queries[-1] / queries[0]) ** 0.38)
    at.set_xticks(10 ** np.arange(np.log10(queries[0]), np.log10(queries[-1]) + 1, 2))


def _regions(at: Axes, choices: pd.DataFrame) -> None:
    """Areas by what is chosen in them, named where they are widest."""
    known = [*LOOKS, NOTHING]
    tints: Mapping[str, Any] = {
        name: _tint(colour, share)
        for (name, (colour, *_)), share in zip(
            LOOKS.items(), (0.12, 0.25, 0.45, 0.12, 0.25, 0.45), strict=True
        )
    }
    colours = ListedColormap([*tints.values(), "white"])
    codes = choices.map(known.index).to_numpy()
    x, y = (np.array(axis, dtype=float) for axis in (choices.columns, choices.index))
    at.pcolormesh(x, y, codes, cmap=colours, vmin=-0.5, vmax=len(known) - 0.5, shading="nearest")
    at.grid(visible=False)
    for code in np.unique(codes):
        rows, columns = np.nonzero(codes == code)
        if len(rows) < 0.015 * codes.size:
            continue
        column = int(np.bincount(columns).argmax())  # where it is highest
        row = int(np.median(rows[columns == column]))
        name = known[code]
        colour = LOOKS[name][0] if name in LOOKS else GREY
        at.annotate(
            name if name in LOOKS else "nothing fits",
            (x[min(max(column, len(x) // 5), 4 * len(x) // 5)], y[row]),
            ha="center",
            va="center",
            color=colour,
            weight="bold",
            fontsize=10,
        )


def _tint(colour: str, share: float) -> tuple[float, ...]:
    """The colour on white, covering a share of it."""
    return tuple(1 - share * (1 - part) for part in to_rgb(colour))


def turns_sentence(turns: Sequence[tuple[int, str]], evens: pd.DataFrame, chosen: str) -> str:
    """Which way costs least up to which volume, and where the chosen one pays off.

    turns: as in `choice_by_volume`; evens: cheaper_below, cheaper_from, queries
    """
    parts = [f"{turns[0][1]} costs least"]
    parts += [f"from {count:,} queries on, {name}" for count, name in turns[1:]]
    text = "; ".join(parts) + "."
    mine = evens[evens["cheaper_from"] == chosen]
    if len(mine):
        paid = "; ".join(
            f"{r.cheaper_below} from {r.queries:,} queries on" for r in mine.itertuples()
        )
        text += f" {chosen} costs less than {paid}."
    lost = evens[evens["cheaper_below"] == chosen]
    if len(lost):
        paid = "; ".join(f"{r.cheaper_from} from {r.queries:,} on" for r in lost.itertuples())
        text += f" It costs more than {paid}."
    return text


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The table as text: columns named usd in dollars, flops in powers of ten, queries in full."""

    def text(column: str, value: Any) -> str:
        if pd.isna(value):
            return ""
        if "usd" in column:
            return usd(value)
        if "flops" in column:
            return f"{value:.2e}"
        if "queries" in column or "seconds" in column:
            return f"{value:,.0f}"
        return f"{value:.3f}" if isinstance(value, float) else str(value)

    columns = {name: [text(name, value) for value in table[name]] for name in table}
    return pd.DataFrame(columns, index=table.index)
