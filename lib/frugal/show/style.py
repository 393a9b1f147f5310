"""How every figure of the companion looks: two colours that also differ in shape, no boxes."""

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe & Ito's palette, safe for colour-blind readers; marker and line differ with the colour.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#555555"

_RC: Any = {
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": 100,
    "font.size": 11,
    "grid.color": "#eeeeee",
    "savefig.dpi": 100,
}


def panels(count: int, title: str, *, height: float = 3.9, **subplots: Any) -> tuple[Figure, Any]:
    """A figure of `count` panels side by side under one title, which states the finding."""
    with plt.rc_context(_RC):
        figure, axes = plt.subplots(
            1,
            count,
            figsize=(max(6.0, 4.4 * count), height),
            squeeze=False,
            layout="constrained",
            **subplots,
        )
        figure.suptitle(title, x=0.01, ha="left", fontsize=13)
    return figure, axes[0]


def chance(axes: Axes, level: float) -> None:
    """A dotted line at the accuracy of guessing, labelled."""
    axes.axhline(level, color=GREY, linewidth=1, linestyle=":")
    axes.annotate(
        "chance",
        (0.98, level),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        color=GREY,
        fontsize=9,
    )


def heading(axes: Axes, text: str) -> None:
    """What a panel shows, above its left edge."""
    axes.set_title(text, loc="left", weight="bold")
