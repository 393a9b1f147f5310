"""Pictures as SVG, for a page: colours are those of the page, letters keep their size.

A picture is drawn twice, for a wide page, its panels side by side, and for a phone, one below the
other; the page shows one of them.
"""

import html
from collections.abc import Iterator, Sequence
from statistics import fmean

from frugal_course.calculators.picture import Bar, Grid, Line, Mark, Panel, Picture, Rule
from frugal_course.names import said

WIDE, NARROW = 740, 350  # pixels
HEIGHT = 300  # of a panel
CELLS = 96  # of a row of a grid
LETTER = 6.6  # pixels, on average
_BELOW, _ABOVE = 54, 30  # room for the axis, and for the heading
_DASH = {"": "", "dashed": ' stroke-dasharray="8 4"', "dotted": ' stroke-dasharray="2 4"'}
_PATTERNS = {
    "lines": '<path d="M0 8L8 0" stroke="white" stroke-width="1.5"/>',
    "dots": '<circle cx="4" cy="4" r="1.4" fill="white"/>',
    "crosses": '<path d="M0 0L8 8M0 8L8 0" stroke="white" stroke-width="1.2"/>',
}


def drawn(picture: Picture, *, wide: bool) -> str:
    """The picture as an SVG element, whose title is the picture's."""
    width = WIDE if wide else NARROW
    shares = sum(panel.share for panel in picture.panels)
    parts, x, y = [], 0.0, 0
    for panel in picture.panels:
        own = width * panel.share / shares if wide else width
        parts.append(f'<g transform="translate({x:.1f} {y})">{_panel(panel, own)}</g>')
        x, y = (x + own, y) if wide else (x, y + HEIGHT)
    kind = "wide" if wide else "narrow"
    patterns = "".join(
        f'<pattern id="{kind}-{name}" width="8" height="8" patternUnits="userSpaceOnUse">{of}'
        "</pattern>"
        for name, of in _PATTERNS.items()
    )
    body = "".join(parts).replace("url(#", f"url(#{kind}-")
    title = html.escape(picture.title, quote=True)
    return (
        f'<svg class="{kind}" role="img" aria-label="{title}" viewBox="0 0 {width} '
        f'{HEIGHT if wide else y}"><defs>{patterns}</defs>{body}</svg>'
    )


def _panel(panel: Panel, width: float) -> str:
    marked_y = panel.y.marked()
    left = 14 + LETTER * max(len(text) for _, text in marked_y) + (16 if panel.y.label else 0)
    right, top, bottom = width - 14, _ABOVE, HEIGHT - _BELOW

    def at(x: float, y: float) -> tuple[float, float]:
        across = left + (right - left) * panel.x.share(x)
        return across, bottom - (bottom - top) * panel.y.share(y)

    parts = [_text(4, 16, panel.heading, "start", "heading")]
    for value, text in marked_y:
        _, y = at(panel.x.low, value)
        parts.append(f'<path class="grid" d="M{left:.1f} {y:.1f}H{right:.1f}"/>')
        parts.append(_text(left - 6, y + 4, text, "end"))
    most = max(3, int((right - left) / 45))
    for value, text in panel.x.marked(min(most, 8)):
        x, _ = at(value, panel.y.low)
        parts.append(f'<path class="axis" d="M{x:.1f} {bottom}v4"/>')
        parts.append(_text(x, bottom + 17, text, "middle"))
    parts.append(f'<path class="axis" d="M{left:.1f} {top}V{bottom}H{right:.1f}"/>')
    middle = (left + right) / 2
    parts += _words(middle, bottom + 34, panel.x.label, 2 * min(middle, width - middle) - 4)
    if panel.y.label:
        turned = f'transform="translate(12 {(top + bottom) / 2:.1f}) rotate(-90)"'
        parts.append(f"<g {turned}>{_text(0, 0, panel.y.label, 'middle')}</g>")
    names: list[tuple[float, float, Line]] = []
    for thing in sorted(panel.things, key=lambda thing: not isinstance(thing, Bar)):
        match thing:
            case Line():
                parts.append(
                    _line([at(x, y) if y is not None else None for x, y in thing.points], thing)
                )
                if thing.name:
                    x, y = next(p for p in reversed(thing.points) if p[1] is not None)  # type: ignore[assignment]
                    names.append((*at(x, y), thing))
            case Mark():
                parts.append(_mark(*at(thing.x, thing.y), thing))
            case Bar():
                parts += _bar(*at(thing.left, thing.top), *at(thing.right, thing.bottom), thing)
            case Grid():
                parts += _grid(left, top, right, bottom, thing)
            case Rule(axis="x"):
                x, _ = at(thing.at, panel.y.low)
                parts.append(f'<path class="rule" d="M{x:.1f} {top}V{bottom}"/>')
                low = x > left + 0.7 * (right - left)
                parts.append(
                    _text(x + (-5 if low else 5), top + 11, thing.text, "end" if low else "start")
                )
            case Rule():
                _, y = at(panel.x.low, thing.at)
                parts.append(f'<path class="rule" d="M{left:.1f} {y:.1f}H{right:.1f}"/>')
                parts.append(_text(right, y - 5, thing.text, "end"))
    return "".join([*parts, *_named(names)])


def _named(ends: list[tuple[float, float, Line]]) -> Iterator[str]:
    """The names of lines above their ends, 15 pixels apart at least."""
    last = float("-inf")
    for x, y, line in sorted(ends, key=lambda end: end[1]):
        last = max(y - 8, last + 15)
        yield _text(x - 2, last, line.name, "end", f"name {line.colour}")


def _line(points: Sequence[tuple[float, float] | None], line: Line) -> str:
    path, on = "", False
    for point in points:
        if point is not None:
            path += f"{'L' if on else 'M'}{point[0]:.1f} {point[1]:.1f}"
        on = point is not None
    return f'<path class="line {line.colour}" d="{path}"{_DASH[line.dash]}/>'


def _mark(x: float, y: float, mark: Mark) -> str:
    look = f'class="mark {mark.colour}{"" if mark.filled else " open"}"'
    shape = {
        "circle": f'<circle {look} cx="{x:.1f}" cy="{y:.1f}" r="5"/>',
        "diamond": f'<path {look} d="M{x:.1f} {y - 6.5:.1f}l6.5 6.5l-6.5 6.5l-6.5 -6.5z"/>',
        "cross": f'<path {look} d="M{x - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10"/>',
    }[mark.shape]
    right, down, anchor = {
        "right": (9, 4, "start"),
        "left": (-9, 4, "end"),
        "above": (0, -10, "middle"),
        "below": (8, 16, "start"),
    }[mark.place]
    return shape + _text(x + right, y + down, mark.text, anchor, f"name {mark.colour}")


def _bar(left: float, top: float, right: float, bottom: float, bar: Bar) -> Iterator[str]:
    place = (
        f'x="{left:.1f}" y="{top:.1f}" width="{max(right - left, 0.5):.1f}" '
        f'height="{max(bottom - top, 0.5):.1f}"'
    )
    yield f'<rect class="bar {bar.colour}" {place}/>'
    if bar.pattern:
        yield f'<rect fill="url(#{bar.pattern})" {place}/>'
    middle = (top + bottom) / 2 + 4
    if bar.place == "right":
        yield _text(right + 5, middle, bar.text, "start", "name")
    else:
        yield _text((left + right) / 2, middle, bar.text, "middle", "name")


def _grid(left: float, top: float, right: float, bottom: float, grid: Grid) -> Iterator[str]:
    """A strip a row, of at most CELLS cells, each the mean of its values."""
    height = (bottom - top) / len(grid.values)
    for number, row in enumerate(grid.values):
        count = min(CELLS, len(row))
        width, y = (right - left) / count, top + number * height
        for cell in range(count):
            own = row[cell * len(row) // count : (cell + 1) * len(row) // count]
            share = max(-1.0, min(1.0, (fmean(own) - grid.middle) / grid.spread))
            if abs(share) >= 0.005:
                yield (
                    f'<rect class="cell {"orange" if share > 0 else "blue"}" '
                    f'x="{left + cell * width:.1f}" y="{y + 1:.1f}" width="{width:.1f}" '
                    f'height="{height - 2:.1f}" fill-opacity="{abs(share):.2f}"/>'
                )
    y = top + grid.framed * height
    yield (
        f'<rect class="frame" x="{left:.1f}" y="{y:.1f}" width="{right - left:.1f}" '
        f'height="{height:.1f}"/>'
    )


def _words(x: float, y: float, text: str, width: float) -> Iterator[str]:
    """A text in the middle, on as many lines as its width needs."""
    words, line = text.split(), ""
    for word in words:
        if line and LETTER * len(f"{line} {word}") > width:
            yield _text(x, y, line, "middle")
            line, y = word, y + 13
        else:
            line = f"{line} {word}".strip()
    yield _text(x, y, line, "middle")


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    if not text:
        return ""
    own = f' class="{kind}"' if kind else ""
    words = html.escape(said(text))
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{own}>{words}</text>'
