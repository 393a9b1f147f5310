"""The companion's figures: each takes a DataFrame of results and returns a figure, or a sentence.

Published values never enter here unmarked: a column says where a row comes from.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from frugal_course.figures.fewshot import table1_points
from frugal_course.figures.style import BLUE, GREEN, GREY, ORANGE, chance, heading, panels


def accuracy_against_cost(
    runs: pd.DataFrame,
    chances: dict[str, float],
    title: str,
    examples: str = "test examples",
    printed: pd.DataFrame | None = None,
) -> Figure:
    """T-Few's Figure 3, live: accuracy against FLOPs per query, a panel per task.

    runs:    one row per run, columns task, method, shots, accuracy, flops_per_query, examples;
             method is "zero-shot", "icl", or what T-Few trained
    chances: accuracy of guessing, by task
    printed: the published points (`table1_points`), in a companion panel with open marks

    One dash is one draw of the examples; the line goes through the means.
    """
    tasks = list(dict.fromkeys(runs["task"]))
    figure, axes = panels(len(tasks) + (printed is not None), title, sharey=True)
    for at, task in zip(axes, tasks, strict=False):
        mine = runs[runs["task"] == task]
        _prompted(at, mine[mine["method"].isin(["zero-shot", "icl"])])
        _tuned(at, mine[~mine["method"].isin(["zero-shot", "icl"])])
        chance(at, chances[task])
        heading(at, task)
        at.set(xscale="log", ylim=(0, 1.02), xlabel="FLOPs per query")
        at.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))  # labelled where decades are few
        at.margins(x=0.22)
    if printed is not None:
        table1_points(axes[-1], printed)
    count = int(runs["examples"].iloc[0])
    axes[0].set_ylabel(f"accuracy, {count} {examples}")
    return figure


def _prompted(at: Axes, runs: pd.DataFrame) -> None:
    """Zero-shot and k-shot: every draw a dash, a line through the means."""
    by_shots = runs.groupby("shots")
    means = by_shots[["flops_per_query", "accuracy"]].mean()
    at.plot(means["flops_per_query"], means["accuracy"], color=BLUE, marker="o", linewidth=2)
    for shots, draws in by_shots:
        x = means.loc[shots, "flops_per_query"]
        low, high = draws["accuracy"].min(), draws["accuracy"].max()
        at.vlines(x, low, high, color=BLUE, alpha=0.5)
        at.plot([x] * len(draws), draws["accuracy"], "_", color=BLUE, markersize=14, alpha=0.8)
        label = f"{shots}-shot" if shots else "zero-shot"
        _below(at, label, x, low)


def _tuned(at: Axes, runs: pd.DataFrame) -> None:
    """T-Few: every seed a diamond, labelled once, above the highest."""
    if runs.empty:
        return
    at.plot(runs["flops_per_query"], runs["accuracy"], "D", color=ORANGE, markersize=9, alpha=0.75)
    best = runs.loc[runs["accuracy"].idxmax()]
    at.annotate(
        "T-Few",
        (best["flops_per_query"], best["accuracy"]),
        xytext=(10, 6),
        textcoords="offset points",
        color=ORANGE,
        weight="bold",
    )


def _below(at: Axes, label: str, x: float, y: float) -> None:
    at.annotate(
        label,
        (x, y),
        xytext=(0, -16),
        textcoords="offset points",
        ha="center",
        color=BLUE,
        fontsize=10,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
    )


def order_dots(runs: pd.DataFrame, chances: dict[str, float], title: str) -> Figure:
    """What the order of the shots does: a column per draw, a dot per order of the same shots.

    runs: columns task, shots, draw, order, accuracy
    """
    tasks = list(dict.fromkeys(runs["task"]))
    figure, axes = panels(len(tasks), title, sharey=True)
    for at, task in zip(axes, tasks, strict=True):
        mine = runs[runs["task"] == task]
        for draw, orders in mine.groupby("draw"):
            low, high = orders["accuracy"].min(), orders["accuracy"].max()
            at.vlines(draw, low, high, color=BLUE, alpha=0.4)
            at.plot([draw] * len(orders), orders["accuracy"], "o", color=BLUE, alpha=0.8)
        draws = sorted(mine["draw"].unique())
        at.set(
            ylim=(0, 1.02),
            xticks=draws,
            xticklabels=[f"draw {d + 1}" for d in draws],
            xlim=(min(draws) - 0.5, max(draws) + 0.5),
        )
        chance(at, chances[task])
        heading(at, task)
    axes[0].set_ylabel(f"accuracy, {int(runs['shots'].iloc[0])} shots")
    return figure


def training_curve(losses: dict[str, list[float]], title: str) -> Figure:
    """Loss of each training, step by step, labelled where it ends."""
    figure, (at,) = panels(1, title)
    looks = zip((ORANGE, BLUE, GREY, GREEN), ("-", "--", ":", "-."), strict=True)
    lowest_first = sorted(losses.items(), key=lambda item: item[1][-1])
    gap = max(map(max, losses.values())) / 12  # of two labels, in nats
    height = -gap
    for (label, values), (colour, line) in zip(lowest_first, looks, strict=False):
        at.plot(range(1, len(values) + 1), values, color=colour, linestyle=line)
        height = max(values[-1], height + gap)
        at.annotate(label, (len(values) * 1.02, height), color=colour, va="center")
    at.set(xlabel="step", ylabel="loss, nats")
    at.margins(x=0.15)
    return figure


def accuracy_sentence(runs: pd.DataFrame) -> str:
    """What `accuracy_against_cost` shows, in one sentence a task, with its numbers."""
    sentences = []
    for task, mine in runs.groupby("task", sort=False):
        most = mine[mine["method"] == "icl"]["shots"].max()
        prompted = mine[(mine["method"] == "icl") & (mine["shots"] == most)]
        tuned = mine[~mine["method"].isin(["zero-shot", "icl"])]
        zero = mine[mine["method"] == "zero-shot"]["accuracy"].mean()
        gain = 100 * (tuned["accuracy"].mean() - prompted["accuracy"].mean())
        cost = prompted["flops_per_query"].mean() / tuned["flops_per_query"].mean()
        sentences.append(
            f"{task}: T-Few {_spread(tuned['accuracy'])}, {most}-shot ICL "
            f"{_spread(prompted['accuracy'])}, zero-shot {zero:.2f}: T-Few is {gain:+.0f} points "
            f"from ICL, and an uncached ICL query costs {cost:.0f} times as many FLOPs."
        )
    return "\n".join(sentences)


def _spread(values: "pd.Series[float]") -> str:
    return f"{values.mean():.2f} ({values.min():.2f}–{values.max():.2f})"
