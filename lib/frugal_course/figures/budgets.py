"""Chapter 5's figures: what a budget buys in the paper, and what the same dollars made here."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from frugal.stats import Difference
from frugal_course.figures.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    across,
    apart,
    beside,
    heading,
    hollow,
    panels,
)

# Colour, mark and name of a strategy; "annotate" and "distill" are the paper's two.
LOOKS = {
    "annotate": (BLUE, "o", "labels"),
    "distill": (ORANGE, "D", "distilled"),
    "llm": (GREEN, "s", "LLM's labels"),
    "teacher": (GREY, "x", "teacher"),
}
LINES = ("--", "-", ":", "-.")
Ends = Sequence[tuple[float, str, str]]  # of lines: how high, its name and colour


def budget_curves(cells: pd.DataFrame, title: str) -> Figure:
    """Table 3 as curves: the student's score against the added budget, a panel per task.

    cells: a row a printed cell, columns task, labels (N), strategy ("annotate" or "distill"),
           budget (USD on top of the N labels), score (per cent; rows without one are left out)
    """
    sizes = sorted(set(cells["labels"]))
    figure, axes = panels(cells["task"].nunique(), title, height=4.4)
    scored = cells.dropna(subset="score").groupby("task", sort=False)
    for at, (task, mine) in zip(axes, scored, strict=True):
        ends = []
        for (strategy, n), line in mine.groupby(["strategy", "labels"]):
            colour, mark, name = LOOKS[str(strategy)]
            line = line.sort_values("budget")
            look = {"linestyle": LINES[sizes.index(n)], "color": colour, **hollow(colour, 7)}
            at.plot(line["budget"], line["score"], mark, **look)
            ends.append((float(line["score"].iloc[-1]), f"{name}, N = {n:,}", colour))
        last = float(mine["budget"].max())
        at.set(xlim=(-0.05 * last, 1.75 * last), xlabel="added to the N labels, USD")
        at.set_xticks(sorted(set(mine["budget"])))
        at.tick_params(axis="x", labelsize=9)
        _ends(at, last, ends)
        heading(at, task)
    axes[0].set_ylabel("student's score, % (published)")
    return figure


def distilled_examples(
    points: pd.DataFrame, lines: Mapping[tuple[str, int], tuple[float, float]], title: str
) -> Figure:
    """Examples distilled against GPU hours: the printed counts on the fitted r · (hours − h0).

    points: columns task, labels (N), hours, unlabelled; lines: (r, h0) by task and N
    """
    sizes = sorted(set(points["labels"]))
    figure, axes = panels(points["task"].nunique(), title, height=4.2)
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
            ends.append((made, f"N = {n:,}", ORANGE))
            starts.append(f"{start:.1f}")
        at.set(xlim=(0, 1.36 * last), ylim=(-0.05 * top, 1.12 * top), xlabel="A40 hours")
        text = f"teacher trained after\n{' and '.join(starts)} h"
        at.text(1.34 * last, 0.05 * top, text, color=GREY, fontsize=9, ha="right")
        _ends(at, last, ends)
        heading(at, f"{task}: {rate:,.0f} an hour")
    axes[0].set_ylabel("examples distilled, thousands")
    return figure


def winner_spans(spans: pd.DataFrame, title: str) -> Figure:
    """Who wins at which added budget: a bar per task and N, cut where the winner changes.

    spans: columns task, labels (N), low, high (USD), winner (a strategy, or None)
    """
    rows = spans.groupby(["task", "labels"], sort=False)
    figure, (at,) = panels(1, title, height=1.4 + 0.5 * len(rows), width=11)
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
                below: Any = {"up": -1, "ha": "center", "va": "top", "fontsize": 8}
                beside(at, f"${span.low:.0f}", span.low, place + 0.31, GREY, right=0, **below)
    at.set_yticks(range(len(rows)), [f"{task}, N = {n:,}" for task, n in rows.groups])
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
    figure, axes = panels(best["task"].nunique(), title, height=4.2)
    for at, (task, mine) in zip(axes, best.groupby("task", sort=False), strict=True):
        ends = []
        for strategy, line in mine.groupby("strategy"):
            colour, _, name = LOOKS[str(strategy)]
            line = line.sort_values("total")
            at.plot(line["total"], line["score"], color=colour, linewidth=2)
            at.plot(line["total"].iloc[[0, -1]], line["score"].iloc[[0, -1]], "|", color=colour)
            ends.append((float(line["score"].iloc[-1]), name, colour))
        last = float(mine["total"].max())
        at.set(xlim=(0, 1.4 * last), xlabel="in all, labels and GPU hours, USD")
        _ends(at, last, ends)
        heading(at, task)
    axes[0].set_ylabel("best score the table implies, %")
    return figure


def same_dollars(
    runs: pd.DataFrame, gaps: pd.DataFrame, level: float, title: str, student: str
) -> Figure:
    """What the same dollars made here: accuracy against dollars, and distillation's lead.

    runs:   columns strategy, model, labels, seed, usd, accuracy, examples; `student` and its
            teacher are drawn, every run a dash, a line through the means
    gaps:   columns labels, model, gap (a `stats.Difference`): distilled less labelled
    level:  accuracy of guessing
    """
    figure, (at, leads) = panels(2, title, height=4.6, width=12, width_ratios=[3, 2])
    ends, last = [], 0.0
    drawn = runs[(runs["model"] == student) | (runs["strategy"] == "teacher")]
    for strategy in ("annotate", "distill", "llm", "teacher"):
        mine = drawn[drawn["strategy"] == strategy]
        if mine.empty:
            continue
        colour, mark, name = LOOKS[strategy]
        means = mine.groupby("labels")[["usd", "accuracy"]].mean()
        line = ":" if strategy == "teacher" else "-"
        at.plot(means["usd"], means["accuracy"], mark, linestyle=line, color=colour, markersize=8)
        for n, seeds in mine.groupby("labels"):
            usd = [means.loc[n, "usd"]] * len(seeds)
            at.plot(usd, seeds["accuracy"], "_", color=colour, markersize=14)
        last = max(last, float(means["usd"].max()))
        if strategy == "llm":
            usd, accuracy = means.iloc[-1]
            up = 16 if abs(accuracy - level) < 0.02 else 6  # above "chance"
            beside(at, name, usd, accuracy, colour, right=9, up=up)
        else:
            ends.append((float(means["accuracy"].iloc[-1]), name, colour))
    least = float(runs["usd"].min())
    at.set(xscale="log", xlabel="labels and computing, USD", xlim=(least / 1.6, last * 3.2))
    values = drawn["accuracy"]
    at.set_ylim(min(level, values.min()) - 0.03, values.max() + 0.04)
    _ends(at, last, ends)
    across(at, level)
    heading(at, "a dash a seed, a line the mean")
    at.set_ylabel(f"accuracy, {runs['examples'].iloc[0]:,} test examples")
    _gaps(leads, runs[runs["model"] == student], gaps[gaps["model"] == student])
    return figure


def _gaps(at: Axes, runs: pd.DataFrame, gaps: pd.DataFrame) -> None:
    """Distilled less labelled, in points: a diamond a seed, a line the mean, grey its interval."""
    wide = runs.pivot(index=["labels", "seed"], columns="strategy", values="accuracy")
    each = 100 * (wide["distill"] - wide["annotate"]).dropna()
    for x, row in enumerate(gaps.itertuples()):
        points = 100 * row.gap.difference
        if row.gap.low is not None:
            at.vlines(x, 100 * row.gap.low, 100 * row.gap.high, color=GREY, alpha=0.35, linewidth=9)
        seeds = each.loc[row.labels]
        at.plot([x] * len(seeds), seeds, "D", color=ORANGE, alpha=0.75, markersize=7)
        at.plot([x - 0.2, x + 0.2], [points] * 2, color=ORANGE, linewidth=2)
        beside(at, f"{points:+.1f}", x + 0.24, points, ORANGE, right=0)
    at.axhline(0, color=GREY, linewidth=1)
    at.set_xticks(range(len(gaps)), [f"N = {n:,}" for n in gaps["labels"]])
    at.set(xlim=(-0.5, len(gaps) - 0.25), ylabel="distilled less labels alone, points")
    heading(at, "grey: 95 % interval" if gaps["gap"].map(_known).all() else "a diamond a seed")


def _known(gap: Difference) -> bool:
    return gap.low is not None


def student_kinds(runs: pd.DataFrame, level: float, title: str) -> Figure:
    """Labels alone and distillation for several students, a panel per N, the smallest first.

    runs: columns labels, strategy, model, params, trained, seed, accuracy, examples
    """
    mine = runs[runs["strategy"] == "distill"]
    params = mine.groupby("model")[["params", "trained"]].first().sort_values("trained")
    params = params.sort_values("params", kind="stable")
    kinds = list(params.index)
    several = mine.groupby("labels")["model"].nunique()
    counts = [n for n in sorted(set(runs["labels"])) if several[n] == several.max()]
    figure, axes = panels(len(counts), title, height=4.2, sharey=True)
    names = []
    for at, n in zip(axes, counts, strict=True):
        mine = runs[runs["labels"] == n]
        teacher = mine.loc[mine["strategy"] == "teacher", "accuracy"].mean()
        ends = []
        for strategy in ("annotate", "distill"):
            colour, mark, name = LOOKS[strategy]
            means = mine[mine["strategy"] == strategy].groupby("model")["accuracy"].mean()
            means = means.reindex([kind for kind in kinds if kind in means.index])
            places = [kinds.index(kind) for kind in means.index]
            at.plot(places, means, mark, linestyle="", color=colour, markersize=8)
            for place, kind in zip(places, means.index, strict=True):
                seeds = mine[(mine["strategy"] == strategy) & (mine["model"] == kind)]
                at.plot([place] * len(seeds), seeds["accuracy"], "_", color=colour, markersize=14)
            ends.append((float(means.iloc[-1]), name, colour))
        at.axhline(teacher, color=GREY, linewidth=1, linestyle="--")
        where: Any = {"va": "bottom", "xycoords": ("axes fraction", "data")}
        beside(at, "teacher", 1, teacher, GREY, right=-4, up=3, **where)
        sizes = [f"{kind}\n{params.loc[kind, 'params'] / 1e6:.1f} M" for kind in kinds]
        at.set_xticks(range(len(kinds)), sizes)
        at.set_xlim(-0.4, len(kinds) - 1 + max(0.7, 0.35 * len(kinds)))
        names.append(ends)
        across(at, level)
        heading(at, f"N = {n:,} labels")
    for at, ends in zip(axes, names, strict=True):  # once the shared axis has its limits
        _ends(at, len(kinds) - 1, ends)
    axes[0].set_ylabel(f"accuracy, {runs['examples'].iloc[0]:,} test examples")
    return figure


def few_labels(runs: pd.DataFrame, gaps: Mapping[str, Difference], title: str) -> Figure:
    """A student by what it learnt from, a panel a task: a dash a draw, a mark the mean.

    runs: columns task, way, accuracy, examples; gaps: by task, of the last two ways, the first
          less the second
    """
    ways = list(runs["way"].unique())
    looks = [(GREY, "x"), (ORANGE, "D"), (BLUE, "o")]
    figure, axes = panels(len(gaps), title, height=3.2, width=10.5, sharey=True)
    for at, (task, gap) in zip(axes, gaps.items(), strict=True):
        for y, (way, (colour, mark)) in enumerate(zip(ways, looks, strict=True)):
            each = runs.loc[(runs["task"] == task) & (runs["way"] == way), "accuracy"]
            at.plot(each, [y] * len(each), "|", color=colour, markersize=16)
            at.plot([each.mean()], [y], mark, color=colour, markersize=9)
            beside(at, f"{each.mean():.2f}", each.mean(), y, colour, right=0, up=14, ha="center")
        at.set(ylim=(len(ways) - 0.5, -0.7), xlabel=f"accuracy, {runs['examples'].iloc[0]:,} texts")
        at.set_yticks(range(len(ways)), ways)
        at.margins(x=0.15)
        at.locator_params(axis="x", nbins=5)
        at.grid(visible=False, axis="y")
        heading(at, f"{task}\n{gap}")
    return figure


def _ends(at: Axes, x: float, ends: Ends) -> None:
    """Names of lines at their right ends, pushed apart where they would cover each other."""
    low, high = at.get_ylim()
    ranked = sorted(ends)
    heights = apart([height for height, *_ in ranked], (high - low) / 17, down=0.5)
    for height, (_, name, colour) in zip(heights, ranked, strict=True):
        beside(at, name, x, height, colour, right=10)
