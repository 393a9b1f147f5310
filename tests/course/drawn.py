"""What a figure shows: points, words, and whether words can be read where a figure is shown."""

import itertools

from frugal_course import names
from frugal_course.publish.contact import SHOWN

LEAST = 9.0  # points of a page, 96 to the inch of 72: 12 pixels
TOUCH = 1.0  # pixels that boxes may share: letters do not fill theirs


def points(axes):
    return {(x, y) for line in axes.lines for x, y in zip(*line.get_data(), strict=True)}


def words(axes):
    return [text.get_text() for text in axes.texts]


def apart(figure, texts):
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in texts]
    return not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def told(figure):
    """Every text that is drawn: title, headings, names of axes, ticks, labels, legends."""
    figure.draw_without_rendering()
    found = [t for t in (*figure.texts, figure._suptitle) if t is not None]
    for axes in figure.axes:
        if not axes.get_visible():
            continue
        found += [*axes.texts, axes.title, axes._left_title, axes._right_title]
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            if not axes.axison or not axis.get_visible():
                continue
            found.append(axis.label)
            low, high = sorted((low, high))
            slack = 1e-9 * max(abs(low), abs(high))
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                inside = low - slack <= tick.get_loc() <= high + slack
                found += [tick.label1] if inside and tick.label1.get_visible() else []
        found += axes.get_legend().get_texts() if axes.get_legend() else []
    unique = {id(text): text for text in found if text.get_visible() and text.get_text().strip()}
    return list(unique.values())


def faults(figure):
    """What a reader could not read, at the width at which a page shows the figure: a line a fault.

    Letters of less than 9 points, words that leave the canvas or stand on other words, and raw
    identifiers.
    """
    texts = told(figure)
    whole = figure.bbox
    shown = min(1.0, SHOWN / whole.width) * figure.dpi / 96  # points of a page, for one of its own
    boxes = {text: text.get_window_extent().padded(-TOUCH / 2) for text in texts}
    found = []
    for text, box in boxes.items():
        said = repr(text.get_text())
        if text.get_fontsize() * shown < LEAST:
            found.append(f"{said}: {text.get_fontsize() * shown:.1f} points")
        if box.x0 < whole.x0 or box.x1 > whole.x1 or box.y0 < whole.y0 or box.y1 > whole.y1:
            found.append(f"{said} leaves the canvas")
        if raw := names.RAW.search(text.get_text()):
            found.append(f"{said}: {raw[0]} is an identifier")
    for (a, one), (b, other) in itertools.combinations(boxes.items(), 2):
        if one.overlaps(other) and not (a.get_rotation() % 90 or b.get_rotation() % 90):
            found.append(f"{a.get_text()!r} stands on {b.get_text()!r}")
    return found
