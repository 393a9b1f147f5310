"""Chapter 4's figures of all recorded trainings together: methods by depth, rival searches, and the
paper's winners beside ours."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from frugal_course.figures.style import (
    BLUE,
    BOX,
    GREEN,
    GREY,
    ORANGE,
    WIDE,
    apart,
    beside,
    heading,
    hollow,
    panels,
)
from frugal_course.names import said

# Where the paper recommends a method: near the input (-1) or near the output (1).
PAPERS = {"A": -1, "B": 1, "B − A": 1}
HALVES = {-1: "near the input", 1: "near the output"}


def by_depth(
    found: pd.DataFrame, printed: pd.DataFrame, names: Mapping[str, str], title: str
) -> Figure:
    """Where each method belongs: by the paper's own tables of sets, and by all trainings here.

    found:   columns method, points, low, high (95 %): near the output less near the input, a row a
             method. An open triangle says in which direction the paper recommends it
    printed: columns method, group, points: what the sets with it score over those without it
    names:   of the methods
    """
    height = 1.6 + 0.42 * len(found)
    figure, (tables, at) = panels(2, title, height=height, width=WIDE, width_ratios=[2, 3])
    reach = max(found["high"].max(), -found["low"].min())
    for y, row in enumerate(found[::-1].itertuples()):
        colour, marker = (BLUE, "o") if row.low <= 0 <= row.high else (ORANGE, "D")
        at.hlines(y, row.low, row.high, color=colour, linewidth=2.5)
        at.plot(row.points, y, marker, color=colour, markersize=8)
        text = f"{row.points:+.1f} [{row.low:+.1f}, {row.high:+.1f}]"
        over: Any = {"ha": "center", "up": 6, "fontsize": 9, "bbox": BOX}
        beside(at, text, row.points, y, colour, right=0, **over)
        if row.method in PAPERS:
            side = PAPERS[row.method]
            at.plot(side * 1.12 * reach, y, ">" if side > 0 else "<", **hollow(GREY))
    at.axvline(0, color="black", linewidth=0.8)
    at.set_yticks(range(len(found)), [_name(m, names) for m in found["method"]][::-1], fontsize=9)
    at.set(xlim=(-1.25 * reach, 1.25 * reach), ylim=(-0.5, len(found) - 0.2))
    at.set_xlabel("← near the input · points · near the output →", fontsize=10)
    at.grid(visible=False)
    heading(at, "all trainings here (◁ ▷ the paper)")
    _worth(tables, printed, names)
    return figure


def _worth(at: Axes, printed: pd.DataFrame, names: Mapping[str, str]) -> None:
    """What each method adds, group by group, with its name at the end of its line."""
    looks = dict(zip(names, ((ORANGE, "D"), (GREY, "s"), (BLUE, "o"), (GREEN, "^")), strict=True))
    ends = []
    for method, line in printed.groupby("method", sort=False):
        colour, mark = looks[str(method)]
        at.plot(line["group"], line["points"], mark, linestyle="-", color=colour, **hollow(colour))
        ends.append((float(line["points"].iloc[-1]), said(names[str(method)]), colour))
    ends.sort()
    last = printed["group"].max()
    heights = apart([y for y, *_ in ends], 0.09, down=0.5)
    for y, (_, name, colour) in zip(heights, ends, strict=True):
        beside(at, name, last, y, colour, right=8, fontsize=9)
    at.axhline(0, color=GREY, linewidth=1, linestyle=":")
    groups = sorted(set(printed["group"]))
    at.set_xticks(groups, [f"G{n}" for n in groups])
    at.set_xlim(0.7, last + 1.3)
    at.set_ylabel("points: sets with it, less without", fontsize=10)
    heading(at, "the paper's tables")


def _name(method: str, names: Mapping[str, str]) -> str:
    """One method, or one less another."""
    return " less ".join(said(names[letter]) for letter in method.split(" − "))


def against_random(found: pd.DataFrame, title: str) -> Figure:
    """The greedy search after each stage, and a random one for the same FLOPs.

    found: as `spaces.pool.against_random` gives it
    """
    figure, (at,) = panels(1, title, height=4.0, width=WIDE)
    unit = 10.0 ** np.floor(np.log10(found["flops"].iloc[-1]))
    found = found.assign(flops=found["flops"] / unit)
    at.vlines(found["flops"], found["low"], found["high"], color=BLUE, alpha=0.5)
    at.plot(found["flops"], found["greedy"], "o", color=BLUE, markersize=8)
    for row in found.itertuples():
        beside(
            at, str(row.stage), row.flops, row.high, BLUE, right=0, up=4, ha="center", fontsize=9
        )
    at.plot(found["flops"], found["estimate"], color=ORANGE, linestyle="--")
    at.plot(found["flops"], found["random"], "D", color=ORANGE, markersize=7)
    last = found.iloc[-1]
    text = f"random search\n({last['designs']:,} designs)"
    above = last["greedy"] >= last["estimate"]
    for name, y, colour, up in (
        ("greedy search", last["greedy"], BLUE, above),
        (text, last["estimate"], ORANGE, not above),
    ):
        side: Any = {"va": "bottom", "up": 1} if up else {"va": "top", "up": -1}
        beside(at, name, last["flops"], y, colour, right=10, fontsize=9, **side)
    at.axhline(0, color=GREY, linewidth=1, linestyle=":")
    at.set(
        xlabel=f"FLOPs spent, in units of 1e{np.log10(unit):.0f}", ylabel="points over no search"
    )
    at.set_xlim(0, 1.28 * last["flops"])
    return figure


def winners(found: pd.DataFrame, title: str) -> Figure:
    """The paper's winners (diamonds) and ours (circles): open as printed, filled with the interval
    as measured here.

    found: as `spaces.pool.winners` gives it
    """
    stages = list(dict.fromkeys(found["stage"]))
    height = 1.5 + 0.58 * len(stages)
    figure, axes = panels(2, title, height=height, width=WIDE, sharey=True, width_ratios=[2, 3])
    for y, stage in enumerate(stages[::-1]):
        for row in found[found["stage"] == stage].itertuples():
            theirs = row.whose != "ours"
            colour, marker = (ORANGE, "D") if theirs else (BLUE, "o")
            place = y + (0.16 if theirs else -0.16)
            axes[0].plot(row.published, place, marker, **hollow(colour))
            axes[1].hlines(place, row.low, row.high, color=colour, linewidth=2.5)
            axes[1].plot(row.points, place, marker, color=colour, markersize=8)
            more: Any = {"right": 6, "fontsize": 9, "bbox": BOX}
            beside(axes[1], str(row.candidate), row.high, place, colour, **more)
    for at, text in zip(
        axes, ("◇ theirs, ○ ours, printed", "◆ ● the same here, 95 %"), strict=True
    ):
        at.axvline(0, color=GREY, linewidth=1, linestyle=":")
        at.grid(visible=False)
        at.set_xlabel("points over the stage's mean")
        heading(at, text)
    axes[0].set_yticks(range(len(stages)), stages[::-1])
    axes[0].set_ylim(-0.6, len(stages) - 0.4)
    axes[1].set_xlim(found["low"].min() - 0.4, found["high"].max() + 3.5)
    return figure
