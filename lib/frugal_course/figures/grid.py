"""Several panels at the width at which a page shows them: in rows, so that letters stay large."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from frugal_course.figures.style import WIDE, panels


def rows(
    count: int, columns: int, title: str, *, height: float, **subplots: Any
) -> tuple[Figure, list[Axes]]:
    """`count` panels under one title, from left to right in rows of `columns`.

    height: inches of the whole; subplots: as `style.panels` takes them, and `height_ratios`
    """
    ratios: Sequence[float] | None = subplots.pop("height_ratios", None)
    figure, axes = panels(count, title, height=height, width=WIDE, **subplots)
    spec = figure.add_gridspec(-(-count // columns), columns, height_ratios=ratios)
    for i, at in enumerate(axes):
        at.set_subplotspec(spec[i // columns, i % columns])
        if i % columns == 0:
            at.tick_params(labelleft=True)  # hidden by a shared axis when it was not the first
    return figure, list(axes)
