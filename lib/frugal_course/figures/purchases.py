"""Chapter 5's figures of the paper's tables: what a budget buys in labels or in distillation."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from frugal_course.figures.budgets import LINES, LOOKS, line_ends
from frugal_course.figures.style import BLUE, GREY, ORANGE, WIDE, beside, heading, hollow, panels
from frugal_course.names import name as called

Row = tuple[str, int]  # of table 3: a task and N


def budget_curves(cells: pd.DataFrame, teachers: Mapping[Row, float], title: str) -> Figure:
    """Table 3 as curves: the student's score against the added budget, a panel per task; a level
    for each teacher.

    cells:    a row a printed cell, columns task, labels (N), strategy ("annotate" or "distill"),
              budget (USD on top of the N labels), score (per cent; rows without one are left out)
    teachers: the printed score of the teacher that learnt the N labels, by task and N
    """
    sizes = sorted(set(cells["labels"]))
    figure, axes = panels(cells["task"].nunique(), title, height=4.4, width=WIDE)
    scored = cells.dropna(subset="score").groupby("task", sort=False)
    for at, (task, mine) in zip(axes, scored, strict=True):
        ends, last = [], float(mine["budget"].max())
        for n in sizes:
            if (str(task), n) in teachers:
                level, line = teachers[str(task), n], LINES[sizes.index(n)]
                at.plot([0, last], [level, level], linestyle=line, color=GREY, linewidth=1)
                ends.append((level, f"{n:,}", GREY))
        for (strategy, n), line in mine.groupby(["strategy", "labels"]):
            colour, mark, _ = LOOKS[str(strategy)]
            line = line.sort_values("budget")
            look = {"linestyle": LINES[sizes.index(n)], "color": colour, **hollow(colour, 7)}
            at.plot(line["budget"], line["score"], mark, **look)
            ends.append((float(line["score"].iloc[-1]), f"{n:,}", colour))
        at.set(xlim=(-0.05 * last, 1.3 * last), xlabel="added budget, USD")
        at.locator_params(axis="x", nbins=5)
        at.tick_params(axis="x", labelsize=9)
        line_ends(at, last, ends)
        heading(at, called(str(task)))
    axes[0].set_ylabel("student's score, % (published)")
    handles = [
        Line2D([], [], color=colour, marker=mark, **hollow(colour, 7))
        for colour, mark, _ in (LOOKS["distill"], LOOKS["annotate"])
    ]
    handles.append(Line2D([], [], color=GREY))
    names = ["distilled", "labels alone", "teacher (numbers: N labels to begin with)"]
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False, fontsize=10)
    return figure


def as_good(cells: pd.DataFrame, title: str) -> Figure:
    """Table 4: what distillation costs, and what labels cost that are as good; a row a task, the
    printed score beside each mark. Where labels never are, a cross: all labels there are.

    cells: columns task, way ("distill", "annotate", or "all", all labels there are), usd, score
    """
    tasks = list(dict.fromkeys(cells["task"]))
    figure, (at,) = panels(1, title, height=1.3 + 0.5 * len(tasks), width=WIDE)
    colour, mark, _ = LOOKS["annotate"]
    most = 0.0
    for y, task in enumerate(tasks[::-1]):
        mine = cells[cells["task"] == task].set_index("way")
        reached = "annotate" in mine.index
        first, other = mine.loc["distill"], mine.loc["annotate" if reached else "all"]
        line, times = (
            ("-", f"{other['usd'] / first['usd']:.1f} times") if reached else (":", "all labels")
        )
        at.plot([first["usd"], other["usd"]], [y, y], linestyle=line, color=GREY, linewidth=1)
        at.plot(first["usd"], y, "D", **hollow(ORANGE))
        at.plot(other["usd"], y, mark if reached else "X", **hollow(colour))
        text = f"{first['score']:.1f} for ${first['usd']:,.0f}"
        beside(at, text, first["usd"], y, ORANGE, right=-9, fontsize=9)
        text = f"{other['score']:.1f} for ${other['usd']:,.0f} ({times})"
        beside(at, text, other["usd"], y, colour, right=9, fontsize=9)
        most = max(most, other["usd"])
    at.set_yticks(range(len(tasks)), [called(task) for task in tasks[::-1]])
    low = cells["usd"].min()
    at.set(xscale="log", xlim=(low / 4.5, most * 16), ylim=(-0.6, len(tasks) - 0.4))
    at.set_xlabel(
        "USD beyond the first labels (published; ◇ distilled, ○ as good, ✕ never as good)"
    )
    at.xaxis.label.set_fontsize(10)
    at.grid(visible=False)
    return figure


def distilled_examples(
    points: pd.DataFrame, lines: Mapping[tuple[str, int], tuple[float, float]], title: str
) -> Figure:
    """Examples distilled against GPU hours: the printed counts on the fitted r · (hours − h0).

    points: columns task, labels (N), hours, unlabelled; lines: (r, h0) by task and N
    """
    sizes = sorted(set(points["labels"]))
    figure, axes = panels(points["task"].nunique(), title, height=3.6, width=WIDE)
    for at, (task, mine) in zip(axes, points.groupby("task", sort=False), strict=True):
        last = float(mine["hours"].max())
        top = float(mine["unlabelled"].max()) / 1000
        ends, starts = [], []
        for n, printed in mine.groupby("labels"):
            rate, start = lines[task, int(n)]
            made = rate * (last - start) / 1000
            style = LINES[sizes.index(n)]
            at.plot([0, start, last], [0, 0, made], linestyle=style, color=ORANGE, linewidth=1.5)
            at.plot(printed["hours"], printed["unlabelled"] / 1000, "D", **hollow(ORANGE, 7))
            at.plot([start], [0], "|", color=GREY, markersize=16, markeredgewidth=2)
            ends.append((made, f"{n:,}", ORANGE))
            starts.append(f"{start:.1f}")
        at.set(xlim=(0, 1.36 * last), ylim=(-0.05 * top, 1.12 * top), xlabel="A40 hours")
        text = f"teacher trained after\n{' and '.join(starts)} h"
        at.text(1.34 * last, 0.05 * top, text, color=GREY, fontsize=9, ha="right")
        line_ends(at, last, ends)
        heading(at, f"{called(str(task))}\n{rate:,.0f} an hour")
    axes[0].set_ylabel("thousand examples (lines: N labels)")
    return figure


def winner_spans(spans: pd.DataFrame, title: str) -> Figure:
    """Who wins at which added budget: a bar per task and N, cut where the winner changes.

    spans: columns task, labels (N), low, high (USD), winner (a strategy, or None)
    """
    rows = spans.groupby(["task", "labels"], sort=False)
    figure, (at,) = panels(1, title, height=1.4 + 0.5 * len(rows), width=WIDE)
    looks = {
        "annotate": (BLUE, "//", "labels win"),
        "distill": (ORANGE, "", "distillation wins"),
        None: ("#bbbbbb", "..", "the table does not say"),
    }
    for place, (_, mine) in enumerate(rows):
        for span in mine.itertuples():
            colour, hatch, _ = looks[span.winner if isinstance(span.winner, str) else None]
            look = {"color": colour, "hatch": hatch, "alpha": 0.75, "edgecolor": "white"}
            at.barh(place, span.high - span.low + 1, left=span.low, height=0.62, **look)
            if span.low:
                below: Any = {"up": -1, "ha": "center", "va": "top", "fontsize": 9}
                beside(at, f"${span.low:.0f}", span.low, place + 0.31, GREY, right=0, **below)
    at.set_yticks(range(len(rows)), [f"{called(task)}, N = {n:,}" for task, n in rows.groups])
    at.set(xlabel="added to the N labels, USD", ylim=(len(rows) - 0.4, -0.75))
    at.grid(visible=False)
    patches = [
        Patch(facecolor=colour, hatch=hatch, alpha=0.75, edgecolor="white", label=name)
        for colour, hatch, name in looks.values()
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=3, frameon=False, fontsize=10)
    return figure


def best_splits(best: pd.DataFrame, title: str) -> Figure:
    """The frontier: the best score that a total buys when it may be split freely, by strategy.

    best: columns task, total (USD), strategy, score (per cent), labels (N of the best split)
    """
    figure, axes = panels(best["task"].nunique(), title, height=3.6, width=WIDE)
    for at, (task, mine) in zip(axes, best.groupby("task", sort=False), strict=True):
        ends = []
        for strategy, line in mine.groupby("strategy"):
            colour, _, name = LOOKS[str(strategy)]
            line = line.sort_values("total")
            at.plot(line["total"], line["score"], color=colour, linewidth=2)
            at.plot(line["total"].iloc[[0, -1]], line["score"].iloc[[0, -1]], "|", color=colour)
            ends.append((float(line["score"].iloc[-1]), name, colour))
        last = float(mine["total"].max())
        at.set(xlim=(0, 1.5 * last), xlabel="labels and GPU hours, USD")
        at.locator_params(axis="x", nbins=4)
        line_ends(at, last, ends)
        heading(at, called(str(task)))
    axes[0].set_ylabel("best score by the table, %")
    return figure
