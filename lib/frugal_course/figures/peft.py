"""Chapter 2's figures: what trained vectors share, accuracy against their number, and what a
method costs at inference."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from frugal_course import names
from frugal_course.figures.style import (
    BLUE,
    BOX,
    GREEN,
    GREY,
    ORANGE,
    WIDE,
    across,
    beside,
    heading,
    panels,
)

DIVERGING = LinearSegmentedColormap.from_list("below-above", [BLUE, "white", ORANGE])
_MARKS = {"published": (BLUE, "o"), "live": (ORANGE, "D"), "recorded": (GREEN, "s")}
_SIDES: tuple[tuple[int, Literal["left", "right"]], ...] = ((8, "left"), (-8, "right"))
# Where a label may stand beside its mark, in points, best first.
_PLACES: list[tuple[int, int, Literal["left", "right"]]] = [
    (x, y, side)
    for reach in range(0, 110, 11)
    for y in ((reach, -reach) if reach else (0,))
    for x, side in _SIDES
]


def agreement(
    shared: "Mapping[str, np.ndarray[Any, Any]]", widths: Mapping[str, int], title: str
) -> Figure:
    """Whether two trainings move the same features: a panel a kind of vector, a mark a layer.

    shared: by kind, the correlation of the two trainings' l − 1 over the features of a layer
    widths: features of a layer, by kind; what chance reaches in 19 of 20 layers is shaded
    """
    figure, axes = panels(len(shared), title, width=WIDE, height=3.4, sharey=True)
    for at, (kind, values) in zip(axes, shared.items(), strict=True):
        chance = 1.96 / widths[kind] ** 0.5
        at.axhspan(-chance, chance, color="#eeeeee")
        at.axhline(float(np.mean(values)), color=BLUE, linestyle="--", linewidth=1.5)
        at.plot(range(len(values)), values, "o", color=BLUE, markersize=5)
        at.set_xlabel("layer")
        heading(at, f"{kind}: {widths[kind]:,} features")
    axes[0].set_ylabel("correlation of two tasks")
    return figure


def accuracy_against_params(
    results: Mapping[str, pd.DataFrame],
    title: str,
    *,
    ylabel: str,
    levels: Mapping[str, float] | None = None,
) -> Figure:
    """T-Few's Figure 2: accuracy against trained parameters, a panel per source of results.

    results: by heading, columns name, params, accuracy and source ("published", "live" or
             "recorded"); a row a run
    levels:  accuracies to mark by a line; "chance" and others

    Every run is a mark, and a method's runs hang on one line; its name stands beside the mean, that
    of (IA)³ in bold.
    """
    figure, axes = panels(len(results), title, height=4.8, width=WIDE, sharey=True)
    every = pd.concat(results.values())
    marked = [*every["accuracy"], *(levels or {}).values()]
    room = max(0.05, 0.15 * (max(marked) - min(marked)))
    for at, (name, runs) in zip(axes, results.items(), strict=True):
        at.set(
            xscale="log",
            xlim=(every["params"].min() / 4, every["params"].max() * 12),
            ylim=(min(marked) - room, max(marked) + room),
            xlabel="trained parameters",
        )
        heading(at, name)
        for text, level in (levels or {}).items():
            across(at, level, text)
        _marks(at, runs)
    axes[0].set_ylabel(ylabel)
    for at in axes:
        _label(figure, at)
    return figure


def _marks(at: Axes, runs: pd.DataFrame) -> None:
    for name, mine in runs.groupby("name", sort=False):
        colour, marker = _MARKS[mine["source"].iloc[0]]
        params, accuracy = mine["params"], mine["accuracy"]
        ours = name == "ia3"
        face = colour if ours else "white"
        at.plot(params, accuracy, marker, color=colour, markerfacecolor=face, alpha=0.9)
        at.vlines(params.iloc[0], accuracy.min(), accuracy.max(), color=colour, alpha=0.5)
        letters: Any = {
            "weight": "bold" if ours else "normal",
            "bbox": {**BOX, "pad": 0.5, "alpha": 0.8},
            "gid": "method",
        }
        beside(
            at, names.name(str(name)), params.mean(), accuracy.mean(), colour, right=8, **letters
        )


def _label(figure: Figure, at: Axes) -> None:
    """Move the methods' names apart: each to the nearest place where it covers nothing."""
    figure.draw_without_rendering()
    marks: list[Any] = [line for line in at.lines if line.get_marker() not in ("None", "", None)]
    points = at.transData.transform(np.concatenate([line.get_xydata() for line in marks]))
    taken: list[Sequence[float]] = [(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    frame = at.get_window_extent()
    scale = figure.dpi / 72
    taken += [tuple(t.get_window_extent().extents) for t in at.texts if t.get_gid() != "method"]
    for text in [t for t in at.texts if t.get_gid() == "method"]:
        assert isinstance(text, Annotation)
        size = text.get_window_extent()
        x0, y0 = at.transData.transform(text.xy)
        for x, y, side in _PLACES:
            left = x0 + x * scale - (size.width if side == "right" else 0)
            low = y0 + y * scale - size.height / 2
            box = (left, low, left + size.width, low + size.height)
            inside = frame.x0 <= box[0] and box[2] <= frame.x1 and frame.y0 <= box[1]
            if inside and box[3] <= frame.y1 and not any(_overlap(box, other) for other in taken):
                break
        text.set_position((x, y))
        text.set_horizontalalignment(side)
        taken.append(box)
        if y:
            at.annotate(
                "",
                text.xy,
                xytext=(x, y),
                textcoords="offset points",
                arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "shrinkB": 3},
            )


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def figure2_sentence(runs: pd.DataFrame, zero_shot: float | None = None) -> str:
    """What `accuracy_against_params` shows, with its numbers, whichever method leads.

    runs: columns name, params, accuracy; a row a run. The methods with fewer parameters than full
    fine-tuning are compared with it where it is among them.
    """
    mean = runs.groupby("name", sort=False)[["params", "accuracy"]].mean()
    ranked = mean["accuracy"].sort_values(ascending=False)
    best, last = (names.name(str(ranked.index[i])) for i in (0, -1))
    ours = mean.loc["ia3"]
    place = int((ranked > ours["accuracy"]).sum()) + 1
    text = f"(IA)³ is {place} of {len(mean)} with {ours['accuracy']:.1%}"
    if "full" in mean.index:
        points = 100 * (ours["accuracy"] - mean.loc["full", "accuracy"])
        share = ours["params"] / mean.loc["full", "params"]
        text += f", {points:+.1f} points from full fine-tuning with {share:.3%} of its parameters"
    text += f"; the best is {best} with {ranked.iloc[0]:.1%}, the last {last} with "
    text += f"{ranked.iloc[-1]:.1%}"
    if zero_shot is not None:
        below = [names.name(str(n)) for n, accuracy in ranked.items() if accuracy < zero_shot]
        text += f". Below zero-shot ({zero_shot:.1%}): {', '.join(below) or 'none'}"
    return text + "."


WAYS = {"beside": (ORANGE, "D"), "folded": (BLUE, "o")}


def inference_cost(runs: pd.DataFrame, title: str) -> Figure:
    """Time and FLOPs of a tuned model over the plain one's: a panel a work, a row a method.

    runs: a row a run, as `fewshot.overhead.measure` gives them

    Every turn's ratio is a tick, their median a mark: a diamond with the parameters beside the
    weights, a circle where they are folded in. A cross marks the FLOPs beside the weights.
    """
    found = runs.assign(
        time=runs["seconds"] / runs["plain_seconds"], count=runs["flops"] / runs["plain_flops"]
    )
    folds = found.loc[found["way"] == "folded", "name"].unique()
    order = sorted(found["name"].unique(), key=lambda name: name in folds)[::-1]
    works = found.groupby(["batch", "tokens", "context"], sort=False)
    height = 1.6 + 0.34 * len(order)
    figure, axes = panels(len(works), title, height=height, width=WIDE, sharex=True, sharey=True)
    for at, ((_, tokens, context), mine) in zip(axes, works, strict=True):
        for (name, way), turns in mine.groupby(["name", "way"], sort=False):
            colour, marker = WAYS[str(way)]
            y = order.index(name) + (0.16 if way == "folded" else -0.16)
            at.plot(turns["time"], [y] * len(turns), "|", color=colour, alpha=0.5)
            at.plot(turns["time"].median(), y, marker, color=colour, markersize=7, zorder=3)
            if way == "beside":
                at.plot(turns["count"].iloc[0], y, "x", color="black", markersize=6, zorder=4)
        at.axvline(1, color=GREY, linewidth=1, linestyle=":")
        at.grid(visible=False)
        behind = f" behind {context}" if context else ""
        heading(at, f"{tokens} token{'s' * (tokens > 1)} at once{behind}")
        at.set_xlabel("of the plain: ◆ beside, ● folded, × FLOPs")
    axes[0].set_yticks(range(len(order)), [names.name(method) for method in order])
    axes[0].set_ylim(-0.7, len(order) - 0.3)
    return figure


def inference_sentence(found: pd.DataFrame) -> str:
    """What `inference_cost` shows, with its numbers; `found` is of `fewshot.overhead.ratios`."""
    folded, beside = (found[found["way"] == way] for way in ("folded", "beside"))
    rest = beside[~beside["name"].isin(folded["name"])]
    most = rest.loc[rest["flops"].idxmax()]
    text = "Nothing here can be folded. "
    if len(folded):
        text = (
            f"Folded ({_listed(folded)}), a method costs the plain model's FLOPs and "
            f"{_range(folded['seconds'])} times its time.\n"
        )
    return text + (
        f"What stays beside the weights ({_listed(rest)}) takes up to {most['flops'] - 1:.1%} more "
        f"FLOPs ({names.name(str(most['name']))}) and {_range(rest['seconds'])} times the time."
    )


def _listed(found: pd.DataFrame) -> str:
    return ", ".join(map(names.name, found["name"].unique()))


def _range(values: "pd.Series[float]") -> str:
    return f"{values.min():.2f} to {values.max():.2f}"
