"""How every figure of the companion looks: two colours that also differ in shape, no boxes.

Drawn with matplotlib alone. seaborn is installed for figures of your own: here every draw is a mark
and names stand beside them, where it would put bars, intervals and a legend.
"""

import functools
import io
import re
import textwrap
import warnings
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from IPython.display import display
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from frugal_course.names import said

# Okabe & Ito's palette, safe for colour-blind readers; marker and line differ with the colour.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#555555"
LETTERS = 10.7  # of a title that an inch holds
WIDE = 8.3  # inches: as wide as GitHub shows a figure (830 pixels), with letters of 9 points
BOX = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # behind letters on lines

_RC: Any = {
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 11,
    "grid.color": "#eeeeee",
}


def panels(
    count: int,
    title: str,
    *,
    height: float = 3.9,
    width: float | None = None,
    stacked: bool = False,
    **subplots: Any,
) -> tuple[Figure, Any]:
    """A figure of `count` panels side by side under one title, which states the finding.

    height, width: inches; stacked: one below the other; subplots: given to `Figure.subplots`
    """
    with mpl.rc_context(_RC):
        size = (width or max(6.0, WIDE / 2 * count), height)
        figure = Figure(figsize=size, dpi=100, layout="constrained")
        rows, columns = (count, 1) if stacked else (1, count)
        axes = figure.subplots(rows, columns, squeeze=False, **subplots)
        lines = (_filled(line, int(LETTERS * size[0])) for line in said(title).split("\n"))
        figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=13, parse_math=False)
    return figure, axes.ravel()


def _filled(line: str, width: int) -> str:
    """A line in lines; an interval stays whole."""
    whole = re.sub(r"\[[^\]]*\]", lambda found: found[0].replace(" ", "\xa0"), line)
    return textwrap.fill(whole, width).replace("\xa0", " ")


def about(count: float) -> str:
    """A count for people: two digits where it has more than four, which nobody reads."""
    if count < 10_000:
        return f"{count:,.0f}"
    rounded = float(f"{count:.2g}")
    for size, name in ((1e9, "billion"), (1e6, "million")):
        if rounded >= size:
            return f"about {rounded / size:g} {name}"
    return f"about {rounded:,.0f}"


def flops(count: float) -> str:
    """FLOPs as the papers print them: "1.44e15"."""
    return said(f"{count:.3g}")


def heading(axes: Axes, text: str) -> None:
    """What a panel shows, above its left edge."""
    axes.set_title(said(text), loc="left", weight="bold")


def beside(
    at: Axes,
    text: str,
    x: Any,
    y: Any,
    colour: Any = "black",
    *,
    right: int = 4,
    up: int = 0,
    **style: Any,
) -> None:
    """A text `right` and `up` points from a mark; negative numbers put it on the left, and below.

    style: what else its letters have, or in which coordinates (`xycoords`) the mark is
    """
    usual: dict[str, Any] = {
        "color": colour,
        "fontsize": 10,
        "ha": "left" if right >= 0 else "right",
        "va": "baseline" if up else "center",
    }
    at.annotate(
        said(text), (x, y), xytext=(right, up), textcoords="offset points", **(usual | style)
    )


def apart(
    heights: Sequence[float], gap: float, *, top: float = float("inf"), down: float = 0.0
) -> list[float]:
    """Heights of names, rising, moved until they are a gap apart and none is above `top`.

    down: the share of a move that the lower of two names makes; the upper one makes the rest. On a
    log axis, heights and gap are logarithms.
    """
    places = _pushed(heights, gap, down)
    if places and places[-1] > top:
        places = _pushed([min(place, top) for place in places], gap, 1.0)
    return places


def _pushed(heights: Sequence[float], gap: float, down: float) -> list[float]:
    places = list(heights)
    for _ in range(50):
        for i in range(len(places) - 1):
            if (miss := gap - (places[i + 1] - places[i])) > 1e-9:
                places[i] -= down * miss
                places[i + 1] += (1 - down) * miss
    return places


def across(at: Axes, level: float, text: str = "chance") -> None:
    """A line at a level of accuracy, labelled: dotted for that of guessing, else dashed."""
    x, line = (0.02, ":") if text == "chance" else (0.99, "--")
    at.axhline(level, color=GREY, linewidth=1, linestyle=line)
    side = "left" if text == "chance" else "right"
    where: Any = ("axes fraction", "data")
    beside(at, text, x, level, GREY, right=0, up=3, ha=side, xycoords=where, fontsize=9)


def hollow(colour: str, size: float = 9) -> dict[str, Any]:
    """Published values have open marks."""
    return {"markerfacecolor": "white", "markeredgecolor": colour, "markersize": size, "zorder": 3}


def png(figure: Figure) -> bytes:
    """The figure as a PNG file.

    Letters that its font lacks, such as Korean ones in a file's name, come from another font of
    this machine; where none has them they are boxes, and the sentence under the figure has them.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.savefig(buffer, format="png")
    lacking = [re.match(r"Glyph (\d+) ", str(warning.message)) for warning in caught]
    for warning, glyph in zip(caught, lacking, strict=True):
        if not glyph:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    if family := _having(frozenset(int(glyph[1]) for glyph in lacking if glyph)):
        for text in figure.findobj(Text):
            text.set_fontfamily([*text.get_fontfamily(), family])
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
    # A palette is a third of the size, and all that lines and letters need.
    drawn = Image.open(buffer).convert("RGB").quantize(128)
    buffer = io.BytesIO()
    drawn.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


@functools.cache
def _having(letters: frozenset[int]) -> str | None:
    """An installed font that has these letters; matplotlib's own last resort has boxes for all."""
    for font in font_manager.fontManager.ttflist if letters else ():
        if "Last Resort" not in font.name and letters <= _letters(font.fname):
            return font.name
    return None


@functools.cache
def _letters(file: str) -> frozenset[int]:
    return frozenset(font_manager.get_font(file).get_charmap())


def picture(figure: Figure, sentence: str = "", *, answer: bool = False) -> None:
    """Show a figure as PNG, and under it what it shows: a sentence, by default its own label.

    answer: to the question that stands before the figure ("Predict first")
    """
    sentence = sentence or str(figure.get_label())
    display({"image/png": png(figure), "text/plain": said(sentence)}, raw=True)
    say(sentence, answer=answer)


def say(text: str, *, answer: bool = False) -> None:
    """Show sentences as a page does, which wraps what a terminal would not; a line, a paragraph.

    answer: to the question that stands before what is shown ("Predict first")
    """
    text = said(text)
    lines = "\n\n".join(map(_unmarked, text.splitlines()))
    if answer:
        text, lines = f"Answer: {text}", f"**Answer**: {lines}"
    display({"text/markdown": lines, "text/plain": text}, raw=True)


def _unmarked(line: str) -> str:
    """A line in which Markdown sees no mark, and nobody a formula between two prices."""
    line = re.sub(r"([\\`*_<>#|~]|\](?=[(\[:]))", r"\\\1", line.strip().replace("&", "&amp;"))
    line = re.sub(r"^(\d*)([-+=.)])", r"\1\\\2", line)  # no list, no heading
    return line.replace("$", "<span>&#36;</span>")


def duration(seconds: float) -> str:
    """Seconds as text, in milliseconds."""
    milliseconds = 1000 * seconds
    return f"{milliseconds:,.0f} ms" if milliseconds >= 10 else f"{milliseconds:.2g} ms"


def size(gib: float) -> str:
    """GiB as text, in MiB below one."""
    return f"{gib:.1f} GiB" if gib >= 1 else f"{1024 * gib:.1f} MiB"


def spread(values: Any) -> str:
    """A column of accuracies as text: mean, lowest and highest."""
    return f"{values.mean():.2f} ({values.min():.2f}–{values.max():.2f})"
