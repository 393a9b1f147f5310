"""How every figure of the companion looks: two colours that also differ in shape, no boxes."""

import functools
import io
import re
import warnings
from typing import Any

import matplotlib as mpl
from IPython.display import display
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

# Okabe & Ito's palette, safe for colour-blind readers; marker and line differ with the colour.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#555555"

_RC: Any = {
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 11,
    "grid.color": "#eeeeee",
}


def panels(count: int, title: str, *, height: float = 3.9, **subplots: Any) -> tuple[Figure, Any]:
    """A figure of `count` panels side by side under one title, which states the finding."""
    with mpl.rc_context(_RC):
        size = (max(6.0, 4.4 * count), height)
        figure = Figure(figsize=size, dpi=100, layout="constrained")
        axes = figure.subplots(1, count, squeeze=False, **subplots)
        figure.suptitle(title, x=0.01, ha="left", fontsize=13)
    return figure, axes[0]


def chance(axes: Axes, level: float) -> None:
    """A dotted line at the accuracy of guessing, labelled."""
    axes.axhline(level, color=GREY, linewidth=1, linestyle=":")
    axes.annotate(
        "chance",
        (0.02, level),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        color=GREY,
        fontsize=9,
    )


def heading(axes: Axes, text: str) -> None:
    """What a panel shows, above its left edge."""
    axes.set_title(text, loc="left", weight="bold")


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


def picture(figure: Figure, sentence: str) -> None:
    """Show a figure as PNG, and under it the sentence that says what it shows."""
    display({"image/png": png(figure), "text/plain": sentence}, raw=True)
    print(sentence)


def beside(
    at: Axes, text: str, x: Any, y: Any, colour: str = "black", *, right: int = 4, size: int = 10
) -> None:
    """A text `right` points from a mark; a negative number puts it on the left."""
    at.annotate(
        text,
        (x, y),
        xytext=(right, 0),
        textcoords="offset points",
        va="center",
        ha="left" if right > 0 else "right",
        color=colour,
        fontsize=size,
    )
