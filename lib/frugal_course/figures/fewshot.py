"""Chapter 3's figures: losses, swapped labels, and the paper's points beside those measured."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from frugal_course.figures.style import BLUE, GREY, ORANGE, chance, heading, panels

# Where the names of table 1's points stand clear of each other, in points.
BESIDE = {"T0": (9, -12), "T5+LM": (8, -12), "GPT-3 6.7B": (10, -5), "GPT-3 175B": (8, 9)}


def loss_ablation(
    runs: pd.DataFrame, printed: "pd.Series[float]", level: float, title: str
) -> Figure:
    """Accuracy by sum of losses: measured, a dot a seed; and as published, in a panel of its own.

    runs:    columns losses, accuracy, examples
    printed: published accuracy in per cent, by the names in `losses`
    level:   accuracy of guessing in `runs`
    """
    sums = list(dict.fromkeys(runs["losses"]))
    figure, (at, paper) = panels(2, title, width_ratios=[3, 2])
    figure.set_figwidth(10.5)
    for x, name in enumerate(sums):
        mine = runs.loc[runs["losses"] == name, "accuracy"]
        at.vlines(x, mine.min(), mine.max(), color=ORANGE, alpha=0.5)
        at.plot([x] * len(mine), mine, "D", color=ORANGE, alpha=0.75, markersize=8)
        at.plot([x - 0.22, x + 0.22], [mine.median()] * 2, color=ORANGE, linewidth=2)
    chance(at, level)
    heading(at, "measured here: a diamond a seed, a bar the median")
    at.set_ylabel(f"accuracy, {int(runs['examples'].iloc[0])} test examples")
    at.set_ylim(0, 1.02)
    names = [name for name in sums if name in printed]
    values = [float(printed[name]) for name in names]
    paper.plot(range(len(names)), values, "D", **_open(GREY))
    for x, value in enumerate(values):
        _label(paper, f"{value:.1f}", x, value, (0, 9), "black", "center")
    paper.set_ylim(min(values) - 2, max(values) + 2)
    paper.set_ylabel("accuracy, %")
    heading(paper, "published: T0-3B, 11 datasets")
    for axes, shown in ((at, sums), (paper, names)):
        axes.set_xticks(range(len(shown)), [name.replace(" + ", "\n+ ") for name in shown])
        axes.tick_params(axis="x", labelsize=9)
        axes.set_xlim(-0.6, len(shown) - 0.4)
    return figure


def label_swap(runs: pd.DataFrame, level: float, title: str) -> Figure:
    """Each draw of the shots twice: behind right labels, and behind wrong ones; a column per draw.

    runs: columns shots, draw, labels ("right" or "swapped"), accuracy; a panel per k
    """
    ks = list(dict.fromkeys(runs["shots"]))
    figure, axes = panels(len(ks), title, sharey=True)
    for at, k in zip(axes, ks, strict=True):
        both = runs[runs["shots"] == k].pivot(index="draw", columns="labels", values="accuracy")
        at.vlines(both.index, both["right"], both["swapped"], color=GREY, alpha=0.5)
        at.plot(both.index, both["right"], "o", color=BLUE, markersize=9)
        at.plot(both.index, both["swapped"], "v", color=ORANGE, markersize=9)
        first = both.iloc[0]
        above = "right" if first["right"] >= first["swapped"] else "swapped"
        for labels, colour in (("right", BLUE), ("swapped", ORANGE)):
            offset = (9, 5 if labels == above else -12)
            _label(at, f"{labels} labels", both.index[0], first[labels], offset, colour)
        at.set(
            ylim=(0, 1.02),
            xticks=both.index,
            xticklabels=[f"draw {d + 1}" for d in both.index],
            xlim=(min(both.index) - 0.4, max(both.index) + 0.7),
        )
        chance(at, level)
        heading(at, f"{k} shots")
    axes[0].set_ylabel("accuracy")
    return figure


def table1_points(at: Axes, printed: pd.DataFrame) -> None:
    """T-Few's Figure 3 as published, in open marks: table 1, accuracy against FLOPs per query.

    printed: index method, columns "accuracy" (per cent) and "inference FLOPs"
    """
    for name, row in printed.iterrows():
        x, y = row["inference FLOPs"], row["accuracy"] / 100
        tuned, zero = name == "T-Few", name == "T0"
        colour, mark = (ORANGE, "D") if tuned else (BLUE, "s" if zero else "o")
        at.plot(x, y, mark, **_open(colour))
        side = "right" if name == "GPT-3 175B" else "left"
        _label(at, str(name), x, y, BESIDE.get(str(name), (9, 5)), colour, side)
    at.set(xscale="log", xlabel="FLOPs per query (rule of thumb)", ylim=(0, 1.02))
    at.margins(x=0.3)
    heading(at, "published: Table 1, 11 datasets")


def _open(colour: str) -> dict[str, Any]:
    """Published values have open marks."""
    return {"markerfacecolor": "white", "markeredgecolor": colour, "markersize": 9, "zorder": 3}


def _label(
    at: Axes,
    text: str,
    x: float,
    y: float,
    offset: tuple[int, int],
    colour: str,
    side: str = "left",
) -> None:
    at.annotate(
        text, (x, y), xytext=offset, textcoords="offset points", color=colour, ha=side, fontsize=9
    )
