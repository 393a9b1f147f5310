"""Chapter 5's figures: what the same dollars made here."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from frugal.stats import Difference
from frugal_course.figures.style import (
    BLUE,
    BOX,
    GREEN,
    GREY,
    ORANGE,
    WIDE,
    across,
    apart,
    beside,
    heading,
    hollow,
    panels,
)
from frugal_course.names import name as called

# Colour, mark and name of a strategy; "annotate" and "distill" are the paper's two.
LOOKS = {
    "annotate": (BLUE, "o", "labels"),
    "distill": (ORANGE, "D", "distilled"),
    "llm": (GREEN, "s", "LLM's labels"),
    "teacher": (GREY, "x", "teacher"),
}
LINES = ("--", "-", ":", "-.")
Ends = Sequence[tuple[float, str, str]]  # of lines: how high, its name and colour


def same_dollars(
    runs: pd.DataFrame, gaps: pd.DataFrame, level: float, title: str, student: str
) -> Figure:
    """What the same dollars made here: accuracy against dollars, and distillation's lead.

    runs:   columns strategy, model, labels, seed, usd, accuracy, examples; `student` and its
            teacher are drawn, every run a dash, a line through the means
    gaps:   columns labels, model, gap (a `stats.Difference`): distilled less labelled
    level:  accuracy of guessing
    """
    figure, (at, leads) = panels(2, title, height=4.2, width=WIDE, width_ratios=[3, 2])
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
            beside(at, name, usd, accuracy, colour, right=9, up=6)
        else:
            ends.append((float(means["accuracy"].iloc[-1]), name, colour))
    least = float(runs["usd"].min())
    at.set(xscale="log", xlabel="labels and computing, USD", xlim=(least / 1.6, last * 3.2))
    values = drawn["accuracy"]
    at.set_ylim(min(level, values.min()) - 0.03, values.max() + 0.04)
    line_ends(at, last, ends)
    at.axhline(level, color=GREY, linewidth=1, linestyle=":")
    where: Any = {"up": 3, "xycoords": ("axes fraction", "data"), "fontsize": 9}
    beside(at, "chance", 0.36, level, GREY, right=0, **where)  # nothing was bought there
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
    at.set(xlim=(-0.5, len(gaps) - 0.25), ylabel="distilled less labels, points")
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
    figure, axes = panels(len(counts), title, height=4.0, width=WIDE, sharey=True)
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
        sizes = [f"{student(kind)}\n{params.loc[kind, 'params'] / 1e6:.1f} M" for kind in kinds]
        at.set_xticks(range(len(kinds)), sizes)
        at.set_xlim(-0.4, len(kinds) - 1 + max(0.7, 0.35 * len(kinds)))
        names.append(ends)
        across(at, level)
        heading(at, f"N = {n:,} labels")
    for at, ends in zip(axes, names, strict=True):  # once the shared axis has its limits
        line_ends(at, len(kinds) - 1, ends)
    axes[0].set_ylabel(f"accuracy, {runs['examples'].iloc[0]:,} test examples")
    return figure


def student(kind: str) -> str:
    """What a student is called."""
    return "S4 in MiniLM" if kind == "s4" else kind


def few_labels(runs: pd.DataFrame, gaps: Mapping[str, Difference], title: str) -> Figure:
    """A student by what it learnt from, a panel a task: a dash a draw, a mark the mean.

    runs: columns task, way, accuracy, examples; gaps: by task, of the last two ways, the first
          less the second
    """
    ways = list(runs["way"].unique())
    looks = [(GREY, "x"), (ORANGE, "D"), (BLUE, "o")]
    figure, axes = panels(len(gaps), title, height=3.4, width=WIDE, sharey=True)
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
        heading(at, f"{called(task)}\n{gap}")
    return figure


def leads(
    series: Mapping[str, pd.DataFrame], title: str, ylabel: str, printed: pd.DataFrame | None = None
) -> Figure:
    """Leads by the number of labels: measured ones filled, with their intervals; printed ones open.

    series:  by name, columns labels and gap (a `stats.Difference`), as `compare.gaps` gives them
    printed: columns task, labels, lead (points): a line a task
    """
    figure, (at,) = panels(1, title, height=3.9, width=WIDE)
    looks = ((ORANGE, "D"), (BLUE, "o"), (GREEN, "s"))
    counts = {n for rows in series.values() for n in rows["labels"]}
    mine, theirs = [], []
    for i, (text, rows) in enumerate(series.items()):
        colour, mark = looks[i]
        x = rows["labels"] * 1.05 ** (i - (len(series) - 1) / 2)
        points = [100 * gap.difference for gap in rows["gap"]]
        at.plot(x, points, mark, linestyle="-", color=colour, markersize=8)
        for place, gap in zip(x, rows["gap"], strict=True):
            if _known(gap):
                ends = 100 * gap.low, 100 * gap.high
                at.vlines(place, *ends, color=colour, alpha=0.5, linewidth=2)
        mine.append((points[-1], text, colour))
    measured = float(max(counts))
    if printed is not None:
        for task, line in printed.groupby("task", sort=False):
            look = {"linestyle": "--", "color": GREY, **hollow(GREY, 7)}
            at.plot(line["labels"], line["lead"], "o", **look)
            theirs.append((float(line["lead"].iloc[-1]), f"{called(str(task))}, printed", GREY))
        counts |= set(printed["labels"])
    at.axhline(0, color=GREY, linewidth=1)
    least, most = float(min(counts)), float(max(counts))
    at.set(xscale="log", ylabel=ylabel, xlabel="labels to begin with, N")
    at.set_xticks(sorted(counts), [f"{n:,}" for n in sorted(counts)])
    at.minorticks_off()
    at.set_xlim(least / 1.25, most * (most / least) ** 0.42)
    line_ends(at, measured, mine)
    line_ends(at, most, theirs)
    return figure


def line_ends(at: Axes, x: float, ends: Ends) -> None:
    """Names of lines at their right ends, pushed apart where they would cover each other."""
    low, high = at.get_ylim()
    ranked = sorted(ends)
    heights = apart([height for height, *_ in ranked], (high - low) / 17, down=0.5)
    for height, (_, name, colour) in zip(heights, ranked, strict=True):
        beside(at, name, x, height, colour, right=10, bbox=BOX)
