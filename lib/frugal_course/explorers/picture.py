"""A calculator's picture as a matplotlib figure, as all figures of the companion look."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from frugal_course.calculators.picture import Axis, Bar, Grid, Line, Mark, Panel, Picture, Rule
from frugal_course.figures.peft import DIVERGING
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
    panels,
)

COLOURS = {"blue": BLUE, "orange": ORANGE, "green": GREEN, "grey": GREY, "black": "black"}
_DASHES = {"": "-", "dashed": "--", "dotted": ":"}
_SHAPES = {"circle": "o", "diamond": "D", "cross": "X"}
_HATCHES = {"": "", "lines": "//", "dots": "..", "crosses": "xx"}
_PLACES: dict[str, dict[str, Any]] = {
    "right": {"right": 8},
    "left": {"right": -8},
    "above": {"right": 0, "up": 8, "ha": "center"},
    "below": {"right": 5, "up": -14},
}
GAP = 0.06  # of a panel's height, between the names of lines


def figure(picture: Picture) -> Figure:
    """The picture drawn, as wide as a page."""
    shares = [panel.share for panel in picture.panels]
    drawn, axes = panels(len(shares), picture.title, height=4.0, width=WIDE, width_ratios=shares)
    for at, panel in zip(axes, picture.panels, strict=True):
        _panel(at, panel)
    return drawn


def _panel(at: Axes, panel: Panel) -> None:
    if panel.heading:
        heading(at, panel.heading)
    for thing in panel.things:
        match thing:
            case Line():
                xs, ys = zip(*thing.points, strict=True)
                dash = _DASHES[thing.dash]
                at.plot(xs, ys, color=COLOURS[thing.colour], linestyle=dash, linewidth=2)
            case Mark():
                _mark(at, thing)
            case Bar():
                _bar(at, thing)
            case Rule():
                _rule(at, thing)
            case Grid():
                _grid(at, thing)
    for name, axis in (("x", panel.x), ("y", panel.y)):
        _axis(at, name, axis)
    if panel.y.ticks is not None or any(isinstance(thing, Bar) for thing in panel.things):
        at.grid(visible=False)
    _names(at, panel)


def _axis(at: Axes, name: str, axis: Axis) -> None:
    at.set(**{f"{name}lim": (axis.low, axis.high), f"{name}label": axis.label})
    if axis.log:
        at.set(**{f"{name}scale": "log"})
    marked = axis.marked()
    values, texts = [value for value, _ in marked], [text for _, text in marked]
    at.set(**{f"{name}ticks": values, f"{name}ticklabels": texts})
    at.minorticks_off()


def _mark(at: Axes, mark: Mark) -> None:
    colour = COLOURS[mark.colour]
    face = colour if mark.filled else "white"
    look: Any = {"color": colour, "markerfacecolor": face, "markersize": 8, "zorder": 3}
    at.plot(mark.x, mark.y, _SHAPES[mark.shape], **look)
    beside(at, mark.text, mark.x, mark.y, colour, fontsize=9, **_PLACES[mark.place])


def _bar(at: Axes, bar: Bar) -> None:
    width, height = bar.right - bar.left, bar.top - bar.bottom
    look: Any = {"color": COLOURS[bar.colour], "hatch": _HATCHES[bar.pattern], "edgecolor": "white"}
    at.bar(bar.left, height, width, bar.bottom, align="edge", **look)
    y = (bar.bottom + bar.top) / 2
    if bar.place == "right":
        beside(at, bar.text, bar.right, y)
    elif bar.text:
        letters: Any = {"ha": "center", "fontsize": 9, "weight": "bold", "bbox": BOX}
        beside(at, bar.text, (bar.left + bar.right) / 2, y, right=0, **letters)


def _rule(at: Axes, rule: Rule) -> None:
    look: Any = {"color": GREY, "linewidth": 1, "linestyle": ":"}
    if rule.axis == "x":
        at.axvline(rule.at, **look)
        high: Any = {"va": "top", "fontsize": 9, "xycoords": ("data", "axes fraction")}
        beside(at, rule.text, rule.at, 0.99, GREY, **high)
    else:
        at.axhline(rule.at, **look)
        end: Any = {"ha": "right", "fontsize": 9, "xycoords": ("axes fraction", "data")}
        beside(at, rule.text, 0.99, rule.at, GREY, right=0, up=3, bbox=BOX, **end)


def _grid(at: Axes, grid: Grid) -> None:
    count, (low, high) = len(grid.values), (grid.middle - grid.spread, grid.middle + grid.spread)
    extent = (0, len(grid.values[0]), -0.5, count - 0.5)
    look: Any = {"aspect": "auto", "interpolation": "nearest", "cmap": DIVERGING}
    drawn = at.imshow(grid.values, extent=extent, vmin=low, vmax=high, **look)
    y = count - 1 - grid.framed
    at.axhspan(y - 0.5, y + 0.5, fill=False, edgecolor="black", linewidth=2)
    at.figure.colorbar(drawn, ax=at, label=grid.name, fraction=0.06)


def _names(at: Axes, panel: Panel) -> None:
    """Names of lines above their ends, apart from each other."""
    named = [thing for thing in panel.things if isinstance(thing, Line) and thing.name]
    ends = [(line, [p for p in line.points if p[1] is not None][-1]) for line in named]
    ends.sort(key=lambda end: end[1][1] or 0)
    shares = apart([panel.y.share(y or 0) for _, (_, y) in ends], GAP)
    for (line, (x, _)), share in zip(ends, shares, strict=True):
        where: Any = {"xycoords": ("data", "axes fraction"), "ha": "right", "fontsize": 11}
        beside(at, line.name, x, share, COLOURS[line.colour], right=-2, up=6, bbox=BOX, **where)
