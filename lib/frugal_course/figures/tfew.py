"""Chapter 3's figures: accuracy against cost, the order of examples, wrong labels, losses."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

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
    flops,
    heading,
    hollow,
    panels,
    spread,
)

# Where the names of table 1's points stand clear of each other: points to the right, and up.
PLACES = {"T0": (9, 4), "T5+LM": (8, -12), "GPT-3 6.7B": (9, -9), "GPT-3 175B": (8, 9)}


def accuracy_against_cost(
    runs: pd.DataFrame,
    chances: dict[str, float],
    title: str,
    printed: pd.DataFrame | None = None,
) -> Figure:
    """T-Few's Figure 3, live: accuracy against FLOPs per query, a panel per task.

    runs:    one row per run, columns task, method, shots, accuracy, flops_per_query, examples;
             method is "zero-shot", "icl", or what T-Few trained
    chances: accuracy of guessing, by task
    printed: the published points, in a panel of their own with open marks: index method, columns
             "accuracy" (per cent) and "inference FLOPs"; where "own", the mean of the method's own
             row of table 9, is more than a point off, it is a cross below or above

    One dash is one draw of the examples; the line goes through the means.
    """
    count = runs["task"].nunique() + (printed is not None)
    figure, axes = panels(count, title, height=4.2, width=WIDE, sharey=True)
    for at, (task, mine) in zip(axes, runs.groupby("task", sort=False), strict=False):
        prompted = mine["method"].isin(["zero-shot", "icl"])
        _prompted(at, mine[prompted], mine.loc[~prompted, "accuracy"].min())
        if not prompted.all():
            _tuned(at, mine[~prompted])
        across(at, chances[task])
        heading(at, task)
        at.set(xscale="log", xlabel="FLOPs per query")
        at.margins(x=0.3)
        _decades(at)
    if printed is not None:
        _table1(axes[-1], printed)
    _fitted(axes[0], [*runs["accuracy"], *chances.values()])
    axes[0].set_ylabel(f"accuracy, {int(runs['examples'].iloc[0])} test examples")
    return figure


def _decades(at: Axes) -> None:
    """At least two ticks on a log axis, and no more than have room."""
    at.xaxis.set_major_formatter(lambda count, _: flops(count))
    low, high = at.get_xlim()
    at.xaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 30 * low else (1.0, 3.0)))
    at.xaxis.set_minor_formatter(NullFormatter())


def _fitted(at: Axes, values: Sequence[float]) -> None:
    """An axis of accuracies from a little below the lowest to a little above the highest."""
    at.set_ylim(max(0.0, min(values) - 0.1), min(1.02, max(values) + 0.07))


def _prompted(at: Axes, runs: pd.DataFrame, tuned: float) -> None:
    """Zero-shot and k-shot: every draw a dash, a line through the means.

    tuned: the lowest accuracy of what was trained, which costs as much as zero-shot does
    """
    by_shots = runs.groupby("shots")
    means = by_shots[["flops_per_query", "accuracy"]].mean()
    at.plot(means["flops_per_query"], means["accuracy"], color=BLUE, marker="o", linewidth=2)
    for shots, draws in by_shots:
        x = means.loc[shots, "flops_per_query"]
        low, high = draws["accuracy"].min(), draws["accuracy"].max()
        at.vlines(x, low, high, color=BLUE, alpha=0.5)
        at.plot([x] * len(draws), draws["accuracy"], "_", color=BLUE, markersize=14, alpha=0.8)
        label = f"{shots}-shot" if shots else "zero-shot"
        below = low if shots else min(low, float(np.nan_to_num(tuned, nan=low)))
        beside(at, label, x, below, BLUE, right=0, up=-18, ha="center", bbox=BOX)


def _tuned(at: Axes, runs: pd.DataFrame) -> None:
    """T-Few: every seed a diamond, labelled once, above the highest."""
    at.plot(runs["flops_per_query"], runs["accuracy"], "D", color=ORANGE, markersize=9, alpha=0.75)
    best = runs.loc[runs["accuracy"].idxmax()]
    x, y = best["flops_per_query"], best["accuracy"]
    beside(at, "T-Few", x, y, ORANGE, right=10, up=6, weight="bold")


def _table1(at: Axes, printed: pd.DataFrame) -> None:
    """T-Few's Figure 3 as published, in open marks: table 1, accuracy against FLOPs per query."""
    for name, row in printed.iterrows():
        x, y = row["inference FLOPs"], row["accuracy"] / 100
        tuned, zero = name == "T-Few", name == "T0"
        colour, mark = (ORANGE, "D") if tuned else (BLUE, "s" if zero else "o")
        at.plot(x, y, mark, **hollow(colour))
        side = "right" if name == "GPT-3 175B" else "left"
        right, up = PLACES.get(str(name), (9, 5))
        beside(at, str(name), x, y, colour, right=right, up=up, ha=side, fontsize=9)
        if abs(row["own"] - row["accuracy"]) > 1:
            at.vlines(x, row["own"] / 100, y, color=GREY, linestyle=":")
            at.plot(x, row["own"] / 100, "x", color=GREY)
            own = f"{row['own']:.1f} by\nits row"
            beside(at, own, x, row["own"] / 100, GREY, right=9, up=-1, va="top", fontsize=9)
    at.set(xscale="log", xlabel="FLOPs, rule of thumb")
    at.margins(x=0.4)
    _decades(at)
    heading(at, "published (Table 1)")


def accuracy_sentence(runs: pd.DataFrame) -> str:
    """What `accuracy_against_cost` shows, in one sentence a task, with its numbers."""
    sentences = []
    for task, mine in runs.groupby("task", sort=False):
        most = mine[mine["method"] == "icl"]["shots"].max()
        prompted = mine[(mine["method"] == "icl") & (mine["shots"] == most)]
        tuned = mine[~mine["method"].isin(["zero-shot", "icl"])]
        zero = mine[mine["method"] == "zero-shot"]["accuracy"].mean()
        cost = prompted["flops_per_query"].mean() / tuned["flops_per_query"].mean()
        sentences.append(
            f"{task}: T-Few {spread(tuned['accuracy'])}, {most}-shot ICL "
            f"{spread(prompted['accuracy'])}, zero-shot {zero:.2f}; an uncached ICL query costs "
            f"{cost:.0f} times as many FLOPs."
        )
    return "\n".join(sentences)


def order_dots(runs: pd.DataFrame, chances: dict[str, float], title: str) -> Figure:
    """What the order of the shots does: a column per draw, a dot per order of the same shots.

    runs: columns task, shots, draw, order, accuracy
    """
    figure, axes = panels(runs["task"].nunique(), title, height=3.4, sharey=True)
    for at, (task, mine) in zip(axes, runs.groupby("task", sort=False), strict=True):
        for draw, orders in mine.groupby("draw"):
            low, high = orders["accuracy"].min(), orders["accuracy"].max()
            at.vlines(draw, low, high, color=BLUE, alpha=0.4)
            at.plot([draw] * len(orders), orders["accuracy"], "o", color=BLUE, alpha=0.8)
        _columns(at, sorted(mine["draw"].unique()), (0.5, 0.5), chances[task])
        heading(at, task)
    _fitted(axes[0], [*runs["accuracy"], *chances.values()])
    axes[0].set_ylabel(f"accuracy, {int(runs['shots'].iloc[0])} shots")
    return figure


def _columns(at: Axes, draws: list[int], room: tuple[float, float], level: float) -> None:
    """A column per draw, with room on the left and on the right."""
    at.set_xticks(draws, [f"draw {d + 1}" for d in draws])
    at.set(xlim=(min(draws) - room[0], max(draws) + room[1]))
    across(at, level)


def label_swap(runs: pd.DataFrame, level: float, title: str) -> Figure:
    """Each draw of the shots twice: behind right labels, and behind wrong ones; a column per draw.

    runs: columns shots, draw, labels ("right" or "swapped"), accuracy; a panel per k
    """
    figure, axes = panels(runs["shots"].nunique(), title, sharey=True)
    for at, (k, mine) in zip(axes, runs.groupby("shots", sort=False), strict=True):
        both = mine.pivot(index="draw", columns="labels", values="accuracy")
        at.vlines(both.index, both["right"], both["swapped"], color=GREY, alpha=0.5)
        at.plot(both.index, both["right"], "o", color=BLUE, markersize=9)
        at.plot(both.index, both["swapped"], "v", color=ORANGE, markersize=9)
        first = both.iloc[0]
        above = "right" if first["right"] >= first["swapped"] else "swapped"
        for labels, colour in (("right", BLUE), ("swapped", ORANGE)):
            where = {"right": 9, "up": 5 if labels == above else -12, "fontsize": 9}
            beside(at, f"{labels} labels", both.index[0], first[labels], colour, **where)
        _columns(at, list(both.index), (0.4, 0.7), level)
        heading(at, f"{k} shots")
    _fitted(axes[0], [*runs["accuracy"], level])
    axes[0].set_ylabel("accuracy")
    return figure


def training_curve(losses: dict[str, list[float]], title: str) -> Figure:
    """Loss of each training, step by step, labelled where it ends."""
    figure, (at,) = panels(1, title)
    looks = zip((ORANGE, BLUE, GREY, GREEN), ("-", "--", ":", "-."), strict=True)
    lowest_first = sorted(losses.items(), key=lambda item: item[1][-1])
    gap = max(map(max, losses.values())) / 12  # of two labels, in nats
    heights = apart([values[-1] for _, values in lowest_first], gap)
    for (label, values), height, (colour, line) in zip(lowest_first, heights, looks, strict=False):
        at.plot(range(1, len(values) + 1), values, color=colour, linestyle=line)
        beside(at, label, len(values), height, colour, right=8)
    steps = max(map(len, losses.values()))
    at.set(xlabel="step", ylabel="loss, nats", xlim=(1, max(steps, 2)))
    at.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def loss_ablation(
    runs: pd.DataFrame, printed: "pd.Series[float]", level: float, title: str
) -> Figure:
    """Accuracy by sum of losses: measured, a dot a seed; and as published, in a panel of its own on
    the same axis.

    runs:    columns losses, accuracy, examples
    printed: published accuracy in per cent, by the names in `losses`
    level:   accuracy of guessing in `runs`
    """
    sums = list(dict.fromkeys(runs["losses"]))
    figure, (at, paper) = panels(2, title, width=WIDE, width_ratios=[3, 2], sharey=True)
    for x, name in enumerate(sums):
        mine = 100 * runs.loc[runs["losses"] == name, "accuracy"]
        at.vlines(x, mine.min(), mine.max(), color=ORANGE, alpha=0.5)
        at.plot([x] * len(mine), mine, "D", color=ORANGE, alpha=0.75, markersize=8)
        at.plot([x - 0.22, x + 0.22], [mine.median()] * 2, color=ORANGE, linewidth=2)
    across(at, 100 * level)
    heading(at, "measured here: ◆ a seed, — the median")
    at.set_ylabel("accuracy, %")
    names = [name for name in sums if name in printed]
    values = [float(printed[name]) for name in names]
    paper.plot(range(len(names)), values, "D", **hollow(GREY))
    for x, value in enumerate(values):
        beside(paper, f"{value:.1f}", x, value, right=0, up=9, ha="center", fontsize=9)
    seen = [*values, 100 * level, *(100 * runs["accuracy"])]
    at.set_ylim(min(seen) - 3, max(seen) + 3)  # of both panels
    heading(paper, "published: T0-3B")
    for axes, shown in ((at, sums), (paper, names)):
        axes.set_xticks(range(len(shown)), [name.replace(" + ", "\n+ ") for name in shown])
        axes.tick_params(axis="x", labelsize=9)
        axes.set_xlim(-0.6, len(shown) - 0.4)
    return figure


def written_sentence(found: pd.DataFrame, model: str) -> str:
    """What `writing.beside_ranking` found, a line a row."""
    lines = []
    for row in found.itertuples():
        what = row.difference.of("written", "ranked", row.task, row.way, model, "for these labels")
        none = f"{row.none:.0%} of what is written is no choice" if row.none else "all are choices"
        lines.append(f"{what}; {none}.")
    return "\n".join(lines)


def by_dataset(tables: Mapping[str, pd.DataFrame], title: str) -> Figure:
    """Published accuracies of some methods on every dataset, a panel a table, as open marks.

    tables: by its name: a row a method, the first of which is drawn as ours; a column a dataset
    """
    most = max(len(table.columns) for table in tables.values())
    figure, axes = panels(len(tables), title, width=WIDE, height=1.7 + 0.3 * most)
    looks = ((ORANGE, "D"), (BLUE, "o"), (GREEN, "^"), (GREY, "s"))
    for at, (name, table) in zip(axes, tables.items(), strict=True):
        columns = table.T.sort_values(table.index[0])
        places = range(len(columns))
        at.hlines(
            places, columns.min(axis=1), columns.max(axis=1), color=GREY, linewidth=0.8, alpha=0.5
        )
        for (method, values), (colour, mark) in zip(columns.items(), looks, strict=False):
            at.plot(values, places, mark, label=method, **hollow(colour, 7))
        at.set_yticks(places, columns.index, fontsize=9)
        at.set(xlabel="accuracy, % (printed)", ylim=(-0.6, len(columns) - 0.4))
        at.grid(visible=True, axis="x", color="#eeeeee")
        at.legend(
            fontsize=9,
            frameon=False,
            loc="lower center",
            bbox_to_anchor=(0.35, 1.06),
            ncols=len(columns.columns),
            handletextpad=0,
            columnspacing=0.5,
        )
        heading(at, name)
    return figure


def by_dataset_sentence(tables: Mapping[str, pd.DataFrame]) -> str:
    """On how many datasets a table's first method is above each other one, and by how much."""
    lines = []
    for name, table in tables.items():
        ours, *others = table.index
        for other in others:
            gap = table.loc[ours] - table.loc[other]
            lines.append(
                f"{name}: of {len(gap)} datasets {ours} is on {(gap > 0).sum()} above {other} (by "
                f"{gap.mean():+.1f} on average, from {gap.min():+.1f} on {gap.idxmin()} to "
                f"{gap.max():+.1f} on {gap.idxmax()})."
            )
    return "\n".join(lines)
