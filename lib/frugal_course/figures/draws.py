"""Chapter 1's figure of certainty: where the interval of a difference comes from."""

from typing import Any

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from frugal import stats
from frugal_course.figures.style import BLUE, BOX, GREY, ORANGE, WIDE, beside, heading, panels


def draws_by_texts(ours: Any, theirs: Any, title: str, *, shown: int = 40) -> Figure:
    """Who answered what, a row a draw and a column a text; and what follows for the difference.

    ours, theirs: (draws, texts) hits, paired
    shown:        texts whose answers are drawn, the first ones

    On the right, each draw's difference with its interval over texts, for its labels alone; and
    below them that over all draws and texts.
    """
    figure, (grid, found) = panels(2, title, height=3.6, width=WIDE, width_ratios=[5, 4])
    apart = np.asarray(ours, dtype=int) - np.asarray(theirs, dtype=int)
    draws = len(apart)
    rows = np.arange(draws, 0, -1)
    colours = ListedColormap([BLUE, "#f2f2f2", ORANGE])
    columns = np.arange(1, min(shown, apart.shape[1]) + 1)
    part = apart[:, : len(columns)]
    grid.pcolormesh(
        columns, rows, part, cmap=colours, vmin=-1, vmax=1, edgecolors="white", shading="nearest"
    )
    for value, mark in ((1, "+"), (-1, "_")):  # legible without colours too
        row, column = np.nonzero(part == value)
        grid.plot(columns[column], rows[row], mark, color="white", markersize=5)
    heading(
        grid,
        "right alone: ours +, theirs −",
    )
    grid.set(xlabel=f"text, {len(columns)} of {apart.shape[1]:,}", ylim=(0.4, draws + 0.6))
    each = [(f"draw {i + 1}", stats.compare(ours[i], theirs[i])) for i in range(draws)]
    every = stats.compare(ours, theirs)
    for y, (name, own) in zip([*rows, 0], [*each, ("all", every)], strict=True):
        whole = own is every
        colour, mark, width = (ORANGE, "D", 4) if whole else (GREY, "o", 2)
        points = 100 * own.difference
        if own.low is not None and own.high is not None:
            found.hlines(y, 100 * own.low, 100 * own.high, color=colour, linewidth=width, alpha=0.5)
        found.plot(points, y, mark, color=colour, markersize=8)
        text = f"{name}: {own}".replace(" points", "")
        beside(found, text, points, y, colour, up=7, ha="center", right=0, bbox=BOX)
    found.axvline(0, color=GREY, linewidth=1)
    found.set(xlabel="difference, points", ylim=(-0.6, draws + 0.7))
    found.margins(x=0.25)
    heading(found, "95 %: ● its labels, ◆ any")
    for at in (grid, found):
        at.set_yticks(rows, [f"draw {i + 1}" for i in range(draws)])
        at.grid(visible=False)
    found.set_yticks([])
    return figure
