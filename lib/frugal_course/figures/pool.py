"""Chapter 4's figures of all recorded trainings together: methods by depth, rival searches, and the
paper's winners beside ours."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from frugal_course.figures.style import BLUE, GREY, ORANGE, beside, heading, hollow, panels

# Where the paper recommends a method: near the input (-1) or near the output (1).
PAPERS = {"A": -1, "B": 1, "B − A": 1}
HALVES = {-1: "near the input", 1: "near the output"}


def by_depth(found: pd.DataFrame, names: Mapping[str, str], title: str) -> Figure:
    """What it is worth to have a method near the output instead of near the input, a row a method.

    found: columns method, points, low, high (95 %); names: of the methods. An open triangle says
    in which direction the paper recommends it.
    """
    figure, (at,) = panels(1, title, height=1.4 + 0.5 * len(found), width=9)
    reach = max(found["high"].max(), -found["low"].min())
    for y, row in enumerate(found[::-1].itertuples()):
        colour, marker = (BLUE, "o") if row.low <= 0 <= row.high else (ORANGE, "D")
        at.hlines(y, row.low, row.high, color=colour, linewidth=2.5)
        at.plot(row.points, y, marker, color=colour, markersize=8)
        text = f"{row.points:+.1f} [{row.low:+.1f}, {row.high:+.1f}]"
        beside(at, text, 1.15 * reach, y, colour, right=0, fontsize=9)
        if row.method in PAPERS:
            side = PAPERS[row.method]
            at.plot(side * 1.05 * reach, y, ">" if side > 0 else "<", **hollow(GREY))
    at.axvline(0, color="black", linewidth=0.8)
    at.set_yticks(range(len(found)), [_name(m, names) for m in found["method"]][::-1])
    at.set(xlim=(-1.2 * reach, 1.9 * reach), ylim=(-0.6, len(found) - 0.4))
    at.set_xlabel("← worth more near the input · points · near the output →   (open: the paper)")
    at.grid(visible=False)
    return figure


def _name(method: str, names: Mapping[str, str]) -> str:
    """One method, or one less another."""
    return " less ".join(names[letter] for letter in method.split(" − "))


def depth_title(found: pd.DataFrame, names: Mapping[str, str]) -> str:
    """What `by_depth` finds: which methods are worth more in one half, or how little any is."""
    alone = found[found["method"].isin(list(names))]
    sure = alone[alone["low"] * alone["high"] > 0]
    if sure.empty:
        most = max(alone["high"].max(), -alone["low"].min())
        return (
            f"No method is worth {most:.1f} points more in one half of the layers than in the other"
        )
    return "; ".join(
        f"{names[row.method]} is worth {abs(row.points):.1f} points more "
        f"{HALVES[1 if row.points > 0 else -1]}"
        for row in sure.itertuples()
    )


def depth_sentence(found: pd.DataFrame, names: Mapping[str, str]) -> str:
    """What `by_depth` shows, with its numbers, beside what the paper recommends."""
    lines = []
    for row in found.itertuples():
        text = f"{_name(row.method, names)} {row.points:+.1f} [{row.low:+.1f}, {row.high:+.1f}]"
        if side := PAPERS.get(row.method):
            agrees, against = (row.low, row.high) if side > 0 else (-row.high, -row.low)
            verdict = "as here" if agrees > 0 else "unlike here" if against < 0 else "open here"
            text += f" (the paper: {HALVES[side]}; {verdict})"
        lines.append(text)
    return (
        "Points of a design that has a method in the half of its layers near the output, less one "
        f"that has it near the input: {'; '.join(lines)}."
    )


def against_random(found: pd.DataFrame, title: str) -> Figure:
    """The greedy search after each stage, and a random one for the same FLOPs.

    found: as `spaces.pool.against_random` gives it
    """
    figure, (at,) = panels(1, title, height=4.2, width=9)
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
    beside(at, text, last["flops"], last["estimate"], ORANGE, right=10, fontsize=9)
    beside(at, "greedy search", last["flops"], last["greedy"], BLUE, right=10, fontsize=9)
    at.axhline(0, color=GREY, linewidth=1, linestyle=":")
    at.set(xlabel="FLOPs spent", ylabel="points over designs without a search")
    at.set_xlim(0, 1.25 * last["flops"])
    return figure


def winners(found: pd.DataFrame, title: str) -> Figure:
    """The paper's winners (diamonds) and ours (circles): open as printed, filled with the interval
    as measured here.

    found: as `spaces.pool.winners` gives it
    """
    stages = list(dict.fromkeys(found["stage"]))
    figure, axes = panels(2, title, height=1.5 + 0.62 * len(stages), width=10.5, sharey=True)
    for y, stage in enumerate(stages[::-1]):
        for row in found[found["stage"] == stage].itertuples():
            theirs = row.whose != "ours"
            colour, marker = (ORANGE, "D") if theirs else (BLUE, "o")
            place = y + (0.16 if theirs else -0.16)
            axes[0].plot(row.published, place, marker, **hollow(colour))
            axes[1].hlines(place, row.low, row.high, color=colour, linewidth=2.5)
            axes[1].plot(row.points, place, marker, color=colour, markersize=8)
            beside(axes[1], str(row.candidate), row.high, place, colour, right=6, fontsize=9)
    for at, text in zip(axes, ("in the paper (open)", "here, 95 % over draws"), strict=True):
        at.axvline(0, color=GREY, linewidth=1, linestyle=":")
        at.grid(visible=False)
        at.set_xlabel("points over the mean of the stage's candidates")
        heading(at, text)
    axes[0].set_yticks(range(len(stages)), stages[::-1])
    axes[0].set_ylim(-0.6, len(stages) - 0.4)
    axes[1].set_xlim(found["low"].min() - 0.4, found["high"].max() + 3)
    return figure
