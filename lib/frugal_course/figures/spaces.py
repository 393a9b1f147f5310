"""Chapter 4's figures: patterns and designs as pictures, a search and how sure it is, the paper's
tables beside it, and what survives of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from frugal_course.figures.grid import rows
from frugal_course.figures.style import (
    BLUE,
    BOX,
    GREY,
    ORANGE,
    WIDE,
    beside,
    heading,
    hollow,
    panels,
)
from frugal_course.names import name as called


def patterns(
    members: Mapping[str, Sequence[Sequence[int]]],
    examples: Mapping[str, Sequence[int]],
    title: str,
) -> Figure:
    """Grouping patterns: a panel for each, whose bars are the groups and as high as they are large.

    members: all sizes (N_1 … N_4) of a pattern, each a thin line; examples: the one drawn as bars
    """
    figure, axes = panels(len(members), title, height=2.9, width=WIDE, sharey=True)
    places, behind = np.arange(4) + 1, {**BOX, "pad": 0.5, "alpha": 0.8}
    for at, (pattern, every) in zip(axes, members.items(), strict=True):
        at.grid(visible=False)
        for sizes in every:
            at.plot(places, sizes, color="#c4c4c4", linewidth=0.4, antialiased=False, zorder=1)
        at.bar(places, examples[pattern], width=0.62, color=BLUE, alpha=0.7, zorder=2)
        for x, size in zip(places, examples[pattern], strict=True):
            over: Any = {"up": 3, "ha": "center", "weight": "bold", "bbox": behind}
            beside(at, str(size), x, size, BLUE, right=0, **over)
        at.set_xticks(places, [f"G{n}" for n in places])
        heading(at, f"{pattern}\n{len(every)} member{'s' if len(every) > 1 else ''}")
    axes[0].set_ylabel("layers in the group")
    return figure


ROOM = 150  # of a square in points², for two digits


def designs(parts: pd.DataFrame, title: str) -> Figure:
    """Designs as pictures, a panel for each: layers upwards, methods across, squares as large as
    what they train; the number beside a square is the method's size.

    parts: a row a method in a layer, columns design, group, layer, method, size, params; a layer
           that is not tuned has one row, whose method is ""
    """
    methods = ["A", "P", "B", "L"]
    count = parts["design"].nunique()
    figure, axes = panels(count, title, height=3.7, width=WIDE, sharey=True)
    largest = parts["params"].max()
    for at, (name, mine) in zip(axes, parts.groupby("design", sort=False), strict=True):
        for _, group in mine.groupby("group"):
            low, high = group["layer"].min() - 0.5, group["layer"].max() + 0.5
            at.axhline(high, color=GREY, linewidth=0.6, linestyle=":")
            at.text(4.15, (low + high) / 2, f"G{group['group'].iloc[0]}", color=GREY, va="center")
            if not group["params"].any():
                at.axhspan(low, high, color="#eeeeee", zorder=0)
        tuned = mine[mine["method"] != ""]
        columns = tuned["method"].map(methods.index)
        areas = 260 * tuned["params"] / largest
        at.scatter(columns, tuned["layer"], s=areas, marker="s", color=BLUE)
        for x, y, size, area in zip(columns, tuned["layer"], tuned["size"], areas, strict=True):
            if size:  # within a square that has the room
                within = area > ROOM
                place = {"ha": "center", "color": "white"} if within else {"color": BLUE}
                at.text(x + 0.32 * (not within), y, str(size), va="center", fontsize=9, **place)
        layers = range(1, mine["layer"].max() + 1)
        at.set(
            xlim=(-0.6, 5.1),
            ylim=(0.5, len(layers) + 0.5),
            xticks=range(4),
            xticklabels=methods,
            yticks=[n for n in layers if len(layers) < 13 or n % 3 == 0],
        )
        at.grid(visible=False)
        heading(at, name)
    axes[0].set_ylabel("layer")
    return figure


def search(
    scored: pd.DataFrame,
    candidates: pd.DataFrame,
    papers: Mapping[str, str],
    title: str,
    *,
    level: float | None,
) -> Figure:
    """Every candidate of a search, a panel a stage, best first: each design a tick, the mean with
    its 95 % interval. The winner is a diamond; a ◇ stands before the paper's. A stage of one
    candidate has nothing to show.

    scored:     columns stage, candidate, score
    candidates: columns stage, name, mean, low, high, winner
    papers:     the paper's winner by stage; level: score of guessing, None where tasks have several
    """
    several = candidates.groupby("stage")["name"].transform("size") > 1
    stages = candidates[several].groupby("stage", sort=False)
    height = 1.4 + 0.25 * stages.size().max()
    figure, axes = panels(len(stages), title, height=height, width=WIDE, sharex=True)
    for at, (stage, mine) in zip(axes, stages, strict=True):
        ranked = mine.sort_values(["mean", "winner"])
        own = scored[scored["stage"] == stage].groupby("candidate")["score"]
        for y, row in enumerate(ranked.itertuples()):
            _spread(at, y, own.get_group(row.name), row.mean, bool(row.winner), (row.low, row.high))
        known = papers.get(stage)
        names = [f"◇ {name}" if name == known else str(name) for name in ranked["name"]]
        _rows(at, names, None if level is None else (level, "chance"))
        heading(at, stage)
        at.set_xlabel("score")
    return figure


def _spread(
    at: Axes,
    y: float,
    values: "pd.Series[float]",
    mean: float,
    emphasis: bool,
    interval: tuple[float, float] | None = None,
) -> None:
    """A row: every value a tick, and the mean, on its interval where there is one."""
    colour, marker = (ORANGE, "D") if emphasis else (BLUE, "o")
    at.plot(values, [y] * len(values), "|", color=GREY, alpha=0.55, markersize=8, zorder=1)
    if interval:
        at.hlines(y, *interval, color=colour, linewidth=2.5, zorder=2)
    at.plot(mean, y, marker, color=colour, markersize=7, zorder=3)


def _rows(at: Axes, names: Sequence[str], line: tuple[float, str] | None = None) -> None:
    """Names of the rows, and room below them for a vertical line's label."""
    at.set_yticks(range(len(names)), names, fontsize=9)
    at.set_ylim(-1.5 if line else -0.7, len(names) - 0.3)
    at.grid(visible=False)
    at.grid(visible=True, axis="x", color="#eeeeee")
    at.xaxis.set_major_locator(MaxNLocator(4))
    at.tick_params(axis="x", labelsize=9)
    if line:
        at.axvline(line[0], color=GREY, linewidth=1, linestyle=":")
        beside(at, line[1], line[0], -1.1, GREY, right=3, fontsize=9)


def certainty(summary: pd.DataFrame, title: str) -> Figure:
    """How sure the decisions of a search are: a row a stage.

    On the left, how often the winner wins again when its stage's designs are drawn again, beside
    how often a guess would (a tick). On the right, the winner's mean as found (diamond), without
    the winner's curse (circle), and the mean of all candidates (a tick).

    summary: columns stage, candidates, winner, mean, shrunk, again, every
    """
    figure, (left, right) = panels(2, title, height=1.5 + 0.38 * len(summary), width=WIDE)
    places = np.arange(len(summary))[::-1]
    left.hlines(places, 0, summary["again"], color=ORANGE, alpha=0.4)
    left.plot(1 / summary["candidates"], places, "|", color=GREY, markersize=14)
    left.plot(summary["again"], places, "D", color=ORANGE, markersize=8)
    for y, again in zip(places, summary["again"], strict=True):
        beside(left, f"{again:.0%}", again, y, ORANGE, right=8, fontsize=9)
    names = [f"{s}: {w}" for s, w in zip(summary["stage"], summary["winner"], strict=True)]
    _rows(left, names[::-1])
    left.set(xlim=(0, 1.12), xlabel="share of resamples (tick: a guess)")
    heading(left, "how often it wins again")
    right.hlines(places, summary["shrunk"], summary["mean"], color=ORANGE, alpha=0.4)
    right.plot(summary["every"], places, "|", color=GREY, markersize=14)
    right.plot(summary["mean"], places, "D", color=ORANGE, markersize=8)
    right.plot(summary["shrunk"], places, "o", color=BLUE, markersize=7)
    _rows(right, [""] * len(summary))
    right.set_ylim(left.get_ylim())
    right.set_xlabel("score (tick: all candidates' mean)")
    heading(right, "score: ◆ as found, ● shrunk")
    return figure


def task_gains(gains: pd.DataFrame, title: str) -> Figure:
    """What a method gains on each task, a panel a model, with the mean over all tasks and over all
    but one.

    gains: columns model, dataset, gain (points); CoLA is the one, a diamond
    """
    count = gains["model"].nunique()
    figure, axes = rows(count, 2, title, height=1.0 + 2.7 * -(-count // 2), sharex=True)
    for at, (model, found) in zip(axes, gains.groupby("model", sort=False), strict=True):
        mine = found.iloc[::-1]
        for y, (dataset, gain) in enumerate(zip(mine["dataset"], mine["gain"], strict=True)):
            colour, marker = (ORANGE, "D") if dataset == "CoLA" else (BLUE, "o")
            at.hlines(y, 0, gain, color=colour, alpha=0.4)
            at.plot(gain, y, marker, color=colour, markersize=7)
        others = mine.loc[mine["dataset"] != "CoLA", "gain"].mean()
        mean = mine["gain"].mean()
        _rows(at, list(mine["dataset"]))
        at.axvline(0, color="black", linewidth=0.8)
        at.axvline(mean, color=ORANGE, linewidth=1.4, linestyle="--")
        at.axvline(others, color=BLUE, linewidth=1.4, linestyle=":")
        heading(at, f"{called(str(model))}\nall tasks {mean:+.2f}, without CoLA {others:+.2f}")
        at.set_xlabel("points over full fine-tuning")
    return figure


def significance(tests: pd.DataFrame, critical: float, title: str) -> Figure:
    """Student's t of each dataset, a panel a model; starred where the paper says it is significant.

    tests:    columns model, dataset, t, mark
    critical: what t must exceed. Circles do; diamonds have a star and do not; a cross has neither
    """
    count = tests["model"].nunique()
    figure, axes = rows(count, 2, title, height=1.0 + 2.8 * -(-count // 2), sharex=True)
    for at, (model, found) in zip(axes, tests.groupby("model", sort=False), strict=True):
        mine = found.iloc[::-1]
        for y, row in enumerate(mine.itertuples()):
            holds = row.t > critical
            colour, marker = (BLUE, "o") if holds else (ORANGE, "D") if row.mark else (GREY, "X")
            at.plot(row.t, y, marker, color=colour, markersize=7)
            beside(at, str(row.mark), float(row.t), y, colour, right=8, fontsize=9)
        _rows(at, list(mine["dataset"]), (critical, "p < 0.05 →"))
        at.axvline(0, color="black", linewidth=0.8)
        kept = int((mine["t"] > critical).sum())
        heading(at, f"{called(str(model))}\n{kept} of {int((mine['mark'] != '').sum())} stars hold")
        at.set_xlabel("Student's t")
    return figure


def rivals(
    runs: pd.DataFrame, title: str, *, emphasis: Sequence[str], levels: Mapping[str, float]
) -> Figure:
    """Designs against each other, a panel a task: every run a tick, the mean a mark; best first.

    runs:     columns name, task, score, share (of the parameters that are trained)
    emphasis: names whose mark is a diamond; levels: score of guessing by task
    """
    tasks = runs.groupby("task", sort=False)
    order = runs.groupby("name", sort=False)[["score", "share"]].mean()
    order = order.sort_values("score", kind="stable")
    height = 1.5 + 0.34 * len(order)
    figure, axes = panels(len(tasks), title, height=height, width=WIDE, sharey=True)
    names = [f"{called(str(name))} · {_share(share)}" for name, share in order["share"].items()]
    for at, (task, mine) in zip(axes, tasks, strict=True):
        for y, name in enumerate(order.index):
            values = mine.loc[mine["name"] == name, "score"]
            _spread(at, y, values, values.mean(), name in emphasis)
        _rows(at, names, (levels[task], "chance"))
        at.set_xlabel("score")
        heading(at, called(str(task)))
    return figure


def _share(part: float) -> str:
    """Of the parameters, those that are trained."""
    return f"{part:.0%}" if part > 0.1 else f"{part:.2%}" if part >= 5e-5 else "head"


def tables_beside(found: pd.DataFrame, title: str) -> Figure:
    """Every printed candidate (open, on the left) beside those of a search (on the right), a row a
    stage, on axes that span the same: the winners are diamonds, with their names.

    found: as `spaces.pool.side_by_side` gives it
    """
    stages = list(dict.fromkeys(found["stage"]))
    height = 1.5 + 0.46 * len(stages)
    parts = (3, 2)
    figure, axes = panels(2, title, height=height, width=WIDE, sharey=True, width_ratios=parts)
    sides = (("printed", "theirs", ORANGE), ("here", "ours", BLUE))
    span = 1.45 * max(np.ptp(found[column].dropna()) for column, *_ in sides)
    for at, part, (column, won, colour) in zip(axes, parts, sides, strict=True):
        for y, stage in enumerate(stages[::-1]):
            mine = found[(found["stage"] == stage) & found[column].notna()]
            look = hollow(GREY, 6) if column == "printed" else {"color": GREY, "markersize": 5}
            at.plot(mine[column], [y] * len(mine), "o", linestyle="", alpha=0.8, **look)
            for row in mine[mine[won]].to_dict("records"):
                own = hollow(colour, 8) if column == "printed" else {"color": colour}
                at.plot(row[column], y, "D", **{"markersize": 7, **own, "zorder": 4})
                text = f"{row['candidate']}  {row[column]:.1f}"
                beside(at, text, row[column], y, colour, right=7, up=6, fontsize=9)
            if mine.empty:
                beside(at, "not tuned", found[column].mean(), y, GREY, right=0, fontsize=9)
        low = found[column].min() - 0.06 * span
        at.set(xlim=(low, low + span * part / parts[0]), ylim=(-0.5, len(stages) - 0.4))
        at.grid(visible=False)
        at.grid(visible=True, axis="x", color="#eeeeee")
    axes[0].set_yticks(range(len(stages)), stages[::-1])
    heading(axes[0], "printed (T5-base, GLUE)")
    heading(axes[1], "searched here")
    for at in axes:
        at.set_xlabel("average of the tasks, %")
    return figure
